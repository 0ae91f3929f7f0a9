# SPDX-License-Identifier: Apache-2.0
"""Limits and rules changed again and again under load: nothing accepted is lost, all is counted."""

import re

import pytest
from api import Api, Session, socket
from matrix import some
from test_disk import debian
from test_life import VERIFYING
from test_policy import HOST, NET, device, kernel_for

from duetlab.guest import vm

CHANGES = 20
PROBES = 3
# Obeys: `more` is answered when iperf has gone on in both directions, `probe` sends datagrams to port 9.
SCRIPT = f"""
{NET}
{VERIFYING.replace("@DISK@", "/dev/vdb")}# Its driver counts what it has the device cut as so many packets.
[ "$(readlink /sys/class/net/eth0/device/driver | tail -c 6)" != e1000 ] || ethtool -K eth0 tso off
cd /sys/class/net/eth0/statistics
iperf3 -c {HOST} --bidir -b 5M -t 36000 --forceflush >/tmp/iperf.log 2>&1 &
iperf=$!
now() {{ read -r out <tx_bytes; read -r in <rx_bytes; }}
gone_on() {{ while now; [ "$out" -le $((sent + 100000)) ] || [ "$in" -le $((got + 100000)) ]; do sleep 0.1; done; }}
sent=0; got=0; gone_on
echo "ready"
while read -r line; do
	case $line in
	more) now; sent=$out; got=$in; gone_on; echo "iperf goes on" ;;
	probe) bash -c 'for n in $(seq {PROBES}); do echo probe >/dev/udp/{HOST}/9; done'; echo "probed" ;;
	stop) break ;;
	esac
done
touch /tmp/stop; wait $fio
kill -0 $iperf && echo "iperf lives"
kill $iperf; wait $iperf
before=; while now=$(cat tx_packets rx_packets); [ "$now" != "$before" ]; do before=$now; sleep 0.5; done
ip link set eth0 down
echo "guest sent $(cat tx_packets) received $(cat rx_packets)"
"""

NOBODY = {"name": "nobody", "action": "deny", "protocol": "udp", "destination-ports": 9}
ALL = {"name": "all", "action": "allow"}
# Limits with bursts and without, the burst alone, one-time bursts; rules in another order; addresses, a wrong one
# among them; and at the end nothing at all, when frames are vhost's again.
NETS = (
    {"rx-rate": "4M+1M+2M", "tx-rate": "4M+1M"},
    {"rules": [NOBODY, ALL], "rules-default": "deny"},
    {"tx-pps": "2000+100", "rx-pps": "200/100ms+50", "rx-rate": "4M+64K"},
    {"mac-check": True, "ip": "192.168.77.2"},
    {"tx-rate": "4M+2M+1M", "rx-rate": None},
    {"ip": "192.168.77.9"},
    {"ip": "192.168.77.3+192.168.77.2+fd00::2"},
    {"rules": [ALL, NOBODY], "rules-default": "allow"},
    {"mac-check": False, "ip": None, "tx-pps": None, "rx-pps": None},
    {"rules": None, "tx-rate": None},
)
DISKS = ({"iops": "400+50"}, {"iops": None, "bw": "8M+1M+4M"}, {"iops": "1000", "bw": "8M+64K"},
         {"bw": None}, {"iops": None})


def counts(text: str) -> tuple[int, int]:
    found = re.search(r"guest sent (\d+) received (\d+)", text)
    return int(found[1]), int(found[2])


class Changing:
    """A guest under load, and what is changed of its devices."""

    def __init__(self, guest: vm.Guest, api: Api):
        self.guest, self.api = guest, api

    def ask(self, line: str, answer: str):
        after = len(self.guest.output)
        self.guest.type(line + "\n")
        self.guest.wait_for(answer, after=after)
        return after

    def now(self) -> dict:
        return self.api.do("GET", "/duet/devices/net0")["statistics"]

    def until(self, holds):
        while not holds(self.now()):
            continue

    def probe(self, refused: int):
        """So many of the datagrams are counted by the rule that refuses them."""
        def count() -> int:
            return self.now()["rule:nobody"]["packets"]
        before = count()
        self.ask("probe", r"^probed$")
        # It has sent them, to duet; which looks at them in its next round.
        self.until(lambda now: now["rule:nobody"]["packets"] >= before + refused)
        assert count() == before + refused

    def change(self, number: int, vhost: bool):
        net = NETS[number % len(NETS)]
        seen, *_ = self.api.all(("GET", "/duet/devices/net0"), ("PATCH", "/duet/devices/net0", net),
                                ("PATCH", "/duet/devices/disk1", DISKS[number % len(DISKS)]))
        if net.get("ip") == "192.168.77.9":
            foreign = seen["statistics"]["policy"]["out_foreign_ip_packets"]
            self.until(lambda now: now["policy"]["out_foreign_ip_packets"] > foreign)
            return
        if vhost:
            word = "on" if net is NETS[-1] else "off"
            self.until(lambda now: now["vhost"] == word)
        if "rules" in net and net["rules"]:
            self.probe(PROBES if net["rules"][0] is NOBODY else 0)
        after = self.ask("more", r"^iperf goes on$")
        if number % 10 == 9:
            self.guest.wait_for(r"^fio verified$", after=after)


@pytest.mark.parametrize("kind", some(["vhost=on", "model=e1000", "model=virtio"]))
def test_changes_under_load(kind, local_disk):
    name = socket()
    vhost = kind == "vhost=on"
    with vm.tap(vnet_hdr=True) as tap, \
            vm.running("listening", *vm.lab_command("iperf3", "-s", "--forceflush")), \
            debian("--disk", f"path={local_disk('8M', 'changes')}", "--net", f"tap,ifname={tap},{kind}",
                   "--api-sock", name, script=SCRIPT, kernel=kernel_for(kind)) as guest:
        guest.wait_for(r"^ready$")
        with Session(name) as api:
            changing = Changing(guest, api)
            if vhost:
                assert changing.now()["vhost"] == "on"
            for number in range(CHANGES):
                changing.change(number, vhost)
        guest.type("stop\n")
        console = guest.succeed(limit=600)
        host = {way: int(vm.run("cat", f"/sys/class/net/{tap}/statistics/{way}_packets").stdout) for way in ("rx", "tx")}
        net = device(guest, "net0")
        policy, filtered = net["policy"], net.get("filtered", 0)  # the e1000's own: groups that nobody has joined
    assert "fio failed" not in console and "iperf lives" in console
    refused = {way: sum(value for key, value in policy.items() if key.startswith(way) and key.endswith("_packets"))
               - policy[f"{way}_passed_packets"] for way in ("in", "out")}
    sent, received = counts(console)
    print(f"{kind}: guest {sent} {received}, host {host}, refused {refused}, {policy}")
    assert sent == host["rx"] + refused["out"]
    assert host["tx"] == received + filtered + refused["in"]
    # What went while there was no policy is nobody's to count.
    assert 0 < policy["out_passed_packets"] < host["rx"] and 0 < policy["in_passed_packets"] < host["tx"]
    assert policy["out_denied_packets"] == PROBES * CHANGES // len(NETS)
