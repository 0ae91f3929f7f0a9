# SPDX-License-Identifier: Apache-2.0
"""Limits and rules changed again and again under load: nothing accepted is lost, all is counted."""

import re

from api import Api, socket
from matrix import SOAK
from test_disk import debian
from test_life import VERIFYING
from test_policy import HOST, NET, device

from duetlab.guest import vm

CHANGES = 20 if SOAK else 10
SCRIPT = f"""
{NET}
{VERIFYING.replace("@DISK@", "/dev/vdb")}iperf3 -c {HOST} --bidir -b 5M -t 36000 -i 1 --forceflush >/tmp/iperf.log 2>&1 &
until grep -q "bits/sec" /tmp/iperf.log; do sleep 0.2; done
echo "ready"
while read -r line; do
	case $line in
	more) before=$(wc -l </tmp/iperf.log)
		until [ "$(wc -l </tmp/iperf.log)" -gt $((before + 4)) ]; do sleep 0.2; done
		echo "iperf goes on" ;;
	stop) break ;;
	esac
done
touch /tmp/stop; wait $fio
kill -0 $! && echo "iperf lives"
kill $!; wait $!
ip link set eth0 down
cd /sys/class/net/eth0/statistics
echo "guest sent $(cat tx_packets) received $(cat rx_packets)"
"""

ALLOWED = [{"name": "all", "action": "allow"}]
REFUSING = [{"name": "nobody", "action": "deny", "protocol": "tcp", "destination-ports": 9}, *ALLOWED]
NETS = (
    {"rx-rate": "4M", "tx-rate": "4M"},
    {"rules": REFUSING, "rules-default": "deny"},
    {"tx-pps": "2000", "rx-pps": "2000", "rx-rate": None, "tx-rate": None},
    {"mac-check": True, "ip": "192.168.77.2"},
    {"rules": ALLOWED, "rules-default": "allow", "tx-pps": None, "rx-pps": None},
)
DISKS = ({"iops": "400"}, {"iops": None, "bw": "8M"}, {"iops": "1000", "bw": None}, {"iops": None})


def counts(text: str) -> tuple[int, int]:
    found = re.search(r"guest sent (\d+) received (\d+)", text)
    return int(found[1]), int(found[2])


def test_changes_under_load(local_disk):
    name = socket()
    with vm.tap(vnet_hdr=True) as tap, \
            vm.running("listening", *vm.lab_command("iperf3", "-s", "--forceflush")), \
            debian("--disk", f"path={local_disk('8M', 'changes')}", "--net", f"tap,ifname={tap},ip=192.168.77.2,mac-check=on",
                   "--api-sock", name, script=SCRIPT) as guest:
        api = Api(name)
        guest.wait_for(r"^ready$")
        for n in range(CHANGES):
            api.do("PATCH", "/duet/devices/net0", NETS[n % len(NETS)])
            api.do("PATCH", "/duet/devices/disk1", DISKS[n % len(DISKS)])
            if n % 5 == 4:
                after = len(guest.output)
                guest.type("more\n")
                guest.wait_for(r"^iperf goes on$", after=after)
                guest.wait_for(r"^fio verified$", after=after)
        guest.type("stop\n")
        console = guest.succeed(limit=600)
        host = {way: int(vm.run("cat", f"/sys/class/net/{tap}/statistics/{way}_packets").stdout) for way in ("rx", "tx")}
        policy = device(guest, "net0")["policy"]
    assert "fio failed" not in console and "iperf lives" in console
    refused = {way: sum(value for key, value in policy.items() if key.startswith(way) and key.endswith("_packets"))
               - policy[f"{way}_passed_packets"] for way in ("in", "out")}
    sent, received = counts(console)
    assert (policy["out_passed_packets"], policy["in_passed_packets"]) == (host["rx"], received)
    assert sent == policy["out_passed_packets"] + refused["out"]
    assert host["tx"] == policy["in_passed_packets"] + refused["in"]
