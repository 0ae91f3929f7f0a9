# SPDX-License-Identifier: Apache-2.0
"""Limits, anti-spoofing and rules of networks and disks, with real guests behind them."""

import json
import re

import pytest
from matrix import some
from test_disk import debian

from duetlab.guest import rootfs, vm

HOST = "192.168.77.1"
NET = "ip addr add 192.168.77.2/24 dev eth0; ip link set eth0 up"
PING = "ping -c 3 -i 0.3 -W 2"


def kernel_for(kind):
    """The cloud kernel has no e1000."""
    return "6.1-amd64" if "e1000" in kind else "6.1-cloud"


def device(guest, name):
    return next(d for d in guest.stats["devices"] if d["name"] == name)


@pytest.mark.parametrize("kind", some(["vhost=on", "model=e1000", "model=virtio"]))
def test_speaks_for_itself_alone(kind):
    """Other addresses of IPv4 and another MAC address reach nobody; its own do, by each way of frames."""
    script = f"""
{NET}
{PING} {HOST} && echo "own ok"
ip addr add 192.168.77.9/24 dev eth0
{PING} -I 192.168.77.9 {HOST} || echo "other address refused"
ip addr del 192.168.77.9/24 dev eth0
{PING} {HOST} && echo "own again"
ip link set eth0 down; ip link set eth0 address 52:54:00:aa:bb:cc; ip link set eth0 up
ip neigh flush dev eth0
{PING} {HOST} || echo "other mac refused"
"""
    with vm.tap() as name, vm.Guest(
            "--net", f"tap,ifname={name},{kind},mac-check=on,ip=192.168.77.2",
            script=script, kernel=kernel_for(kind)) as guest:
        console = guest.succeed()
        net = device(guest, "net0")
        total = guest.stats["policy"]
    for words in ("own ok", "other address refused", "own again", "other mac refused"):
        assert words in console
    assert net["policy"]["out_foreign_ip_packets"] + net["policy"]["out_false_claim_packets"] >= 1
    assert net["policy"]["out_foreign_mac_packets"] >= 1
    assert net["policy"]["out_passed_packets"] >= 6
    assert total == net["policy"]


@pytest.mark.parametrize("kind", some(["model=virtio", "model=e1000"]))
def test_rules_say_it(kind, workspace):
    """Pings go, TCP to one port goes and to another does not; counted by rule."""
    rules = workspace / "rules.json"
    rules.write_text(json.dumps([
        {"name": "arp", "action": "allow", "protocol": "arp"},
        {"name": "ping", "action": "allow", "protocol": "icmp", "source": "192.168.77.0/24"},
        {"name": "iperf", "action": "allow", "direction": "out", "protocol": "tcp",
         "destination": HOST, "destination-ports": 5201},
        {"name": "back", "action": "allow", "direction": "in", "protocol": "tcp",
         "source-ports": "5201"},
    ]))
    script = f"""
{NET}
{PING} {HOST} && echo "ping ok"
iperf3 -c {HOST} -n 20M && iperf3 -c {HOST} -n 20M -R && echo "allowed port"
iperf3 -c {HOST} -p 5202 -n 1M --connect-timeout 3000 || echo "other port refused"
"""
    with vm.tap() as name, \
            vm.running("listening", *vm.lab_command("iperf3", "-s", "--forceflush")), \
            vm.running("listening", *vm.lab_command("iperf3", "-s", "-p", "5202", "--forceflush")), \
            debian("--net", f"tap,ifname={name},{kind},rules-default=deny,rules={rules}",
                   script=script, kernel=kernel_for(kind)) as guest:
        console = guest.succeed(limit=600)
        net = device(guest, "net0")
    for words in ("ping ok", "allowed port", "other port refused"):
        assert words in console
    assert net["rule:ping"]["packets"] == 6
    # What is still in the sender's buffer at the end of iperf3's time is never sent.
    assert net["rule:iperf"]["bytes"] > 10 * 10**6
    assert net["rule:back"]["bytes"] > 10 * 10**6
    assert net["policy"]["out_denied_by_default_packets"] >= 1
    # What the rules passed is all that passed.
    passed = net["policy"]["out_passed_packets"] + net["policy"]["in_passed_packets"]
    assert passed == sum(net[f"rule:{name}"]["packets"] for name in ("arp", "ping", "iperf", "back"))


# What has no limit is a few times faster; else the machine is too slow to tell a limit that is too low.
FASTER = 4
MORE = 2.5


def holds(seconds: float, nominal: float, without: float, what: str):
    """A limit by which something takes NOMINAL seconds, and WITHOUT where there was none: neither wider nor narrower."""
    print(f"{what}: {seconds:.2f} s, by the limit {nominal:.2f} s, without one {without:.2f} s")
    assert seconds >= 0.9 * nominal, what
    if without * FASTER > nominal:
        pytest.skip(f"{what}: {without:.2f} s without a limit: too slow here to tell one that is too low from this machine")
    assert seconds <= MORE * nominal, what


def took(console: str, what: str) -> float:
    start, end = map(float, re.search(rf"^took {what} ([\d.]+) ([\d.]+)", console, re.M).groups())
    return end - start


UPTIME = "$(cut -d' ' -f1 /proc/uptime)"


@pytest.mark.parametrize("kind", some(["model=virtio", "model=e1000"]))
def test_limits_hold(kind):
    """1 MiB a second in each direction: 8 MiB of TCP take eight seconds by the guest's clock."""
    script = f"""
{NET}
for way in "" -R; do
	from=$(cut -d' ' -f1 /proc/uptime)
	iperf3 -c {HOST} -n 8M $way >/dev/null && echo "took$way $from $(cut -d' ' -f1 /proc/uptime)"
done
"""
    with vm.tap() as name, \
            vm.running("listening", *vm.lab_command("iperf3", "-s", "--forceflush")), \
            debian("--net", f"tap,ifname={name},{kind},tx-rate=1M,rx-rate=1M",
                   script=script, kernel=kernel_for(kind)) as guest:
        console = guest.succeed(limit=600)
        net = device(guest, "net0")
    for way, direction in (("", "out"), ("-R", "in")):
        start, end = map(float, re.search(rf"^took{way} ([\d.]+) ([\d.]+)", console, re.M).groups())
        passed = net["policy"][f"{direction}_passed_bytes"]
        # A twentieth for the acknowledgements of the other way, which are in it.
        assert passed > 6 << 20 and end - start >= 0.9 * passed / (1 << 20)


def test_disk_bandwidth(local_disk):
    """6 MiB, which are the one-time burst, and 6 MiB more at 2 MiB a second."""
    disk = local_disk("64M")
    script = f"""
for turn in free limited; do
	from={UPTIME}
	dd if=/dev/vdb of=/dev/null bs=64k count=96 iflag=direct && echo "took $turn $from {UPTIME}"
done
"""
    with vm.Guest("--disk", f"path={rootfs.rootfs()},readonly=on", "--disk",
                  f"path={disk},bw=2M+64K+6M", "--cmdline", "duet.root=/dev/vda duet.rootflags=ro",
                  script=script) as guest:
        console = guest.succeed(limit=300)
    holds(took(console, "limited"), 3, took(console, "free"), "disk")
