# SPDX-License-Identifier: Apache-2.0
"""The emulated 82540EM under the kernel's own e1000 driver: traffic both ways, what it costs in
register accesses, the driver's self-test, a back end that goes away."""

import contextlib
import re
import subprocess

import pytest

from duetlab import rootfs, vm
from test_net import tap

ROOT = ("--cmdline", "duet.root=/dev/vda duet.rootflags=ro")
UP = "ip addr add 192.168.77.2/24 dev eth0; ip link set eth0 up\n"


def rootfs_options():
    return ("--disk", f"path={rootfs.rootfs()},readonly=on", *ROOT)


def device(guest):
    return next(d for d in guest.stats["devices"] if d["name"] == "net0")


@contextlib.contextmanager
def iperf_server():
    peer = subprocess.Popen(vm.lab_command("iperf3", "-s", "--forceflush"), stdout=subprocess.PIPE, text=True)
    try:
        while "listening" not in peer.stdout.readline():
            assert peer.poll() is None, "iperf3 -s ended"
        yield
    finally:
        peer.terminate()
        peer.wait()


@pytest.mark.parametrize("kernel", ["6.1-amd64", "6.12-amd64"])
def test_ping_and_registers(kernel):
    script = UP + """
readlink /sys/class/net/eth0/device/driver
cat /sys/class/net/eth0/address
while [ "$(cat /sys/class/net/eth0/carrier)" != 1 ]; do usleep 100000; done
ping -c 5 -i 0.2 -s 1400 192.168.77.1 && echo "ping ok"
"""
    with tap() as name, vm.Guest("--net", f"tap,ifname={name},model=e1000,mac=52:54:00:12:34:56",
                                 kernel=kernel, script=script) as guest:
        console = guest.succeed()
        net = device(guest)
    assert "ping ok" in console and "drivers/e1000" in console and "52:54:00:12:34:56" in console
    assert net["type"] == "e1000" and net["link_up"] == 1 and net["dropped"] == 0
    assert net["frames_sent"] >= 5 and net["frames_received"] >= 5
    assert net["interrupts"] > 0 and net["dma_errors"] == 0
    registers = net["registers"]
    assert registers["TDT write"] >= 5
    assert registers["ICR read"] >= net["interrupts"]


# Sends pseudo-random bytes to the first caller, then takes what the second sends; tells both sums.
PEER = """
import hashlib, random, socket
server = socket.create_server(("0.0.0.0", 7001))
print("listening", flush=True)
data = random.Random(7).randbytes(%d)
caller, _ = server.accept()
caller.sendall(data)
caller.close()
print("sent", hashlib.sha256(data).hexdigest(), flush=True)
caller, _ = server.accept()
total = hashlib.sha256()
while piece := caller.recv(65536):
    total.update(piece)
print("received", total.hexdigest(), flush=True)
"""


@contextlib.contextmanager
def peer(size):
    process = subprocess.Popen(vm.lab_command("python3", "-c", PEER % size), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "listening\n"
        yield process
    finally:
        process.terminate()
        process.wait()


CARRY = """
mkfifo /tmp/silent
nc $peer 7001 <>/tmp/silent | sha256sum | sed 's/^/came /'
head -c 6000000 /dev/urandom >/tmp/data
sha256sum </tmp/data | sed 's/^/went /'
nc $peer 7001 </tmp/data && echo "all sent"
"""


def carry(net, script):
    with peer(6000000) as process, vm.Guest("--net", net, kernel="6.1-amd64", script=script + CARRY) as guest:
        console = guest.succeed(limit=300)
        sums = dict(line.split() for line in process.stdout.read().splitlines())
        assert f"came {sums['sent']}" in console and f"went {sums['received']}" in console
        return device(guest)


def test_every_byte_over_tap():
    """The host's kernel segments and sums up what the guest's offloads leave to the controller."""
    with tap() as name:
        net = carry(f"tap,ifname={name},model=e1000", UP + "peer=192.168.77.1\n")
    assert net["bytes_sent"] > 6000000 and net["bytes_received"] > 6000000
    assert net["dropped"] == 0 and net["dma_errors"] == 0
    # Segmentation: far fewer doorbells than frames.
    assert net["registers"]["TDT write"] < net["frames_sent"]


def test_iperf_both_ways():
    script = UP + """
iperf3 -c 192.168.77.1 -n 20M && echo "iperf sent"
iperf3 -c 192.168.77.1 -n 20M -R && echo "iperf received"
"""
    with tap() as name, iperf_server(), vm.Guest(
            "--net", f"tap,ifname={name},model=e1000", *rootfs_options(), kernel="6.1-amd64",
            script=script) as guest:
        console = guest.succeed(limit=600)
        net = device(guest)
    assert "iperf sent" in console and "iperf received" in console
    assert net["bytes_sent"] > 20e6 and net["bytes_received"] > 20e6 and net["dma_errors"] == 0
    registers = net["registers"]
    frames = net["frames_sent"] + net["frames_received"]
    for name in ("TDT write", "RDT write", "ICR read", "IMS write", "IMC write"):
        assert registers[name] > 0
        print(f"{name}: {registers[name] / frames:.3f} per frame")
    print(f"{sum(registers.values()) / frames:.3f} accesses per frame of {frames}")
    assert sum(registers.values()) > net["interrupts"] * 3


def test_self_test():
    """What the driver tests by itself: registers, EEPROM, interrupt, loopback, link."""
    script = UP + """
while [ "$(cat /sys/class/net/eth0/carrier)" != 1 ]; do sleep 0.1; done
ethtool -t eth0 offline; echo "status $?"
while [ "$(cat /sys/class/net/eth0/carrier)" != 1 ]; do sleep 0.1; done
ping -c 3 192.168.77.1 && echo "ping ok"
"""
    with tap() as name, vm.Guest("--net", f"tap,ifname={name},model=e1000", *rootfs_options(),
                                 kernel="6.1-amd64", script=script) as guest:
        console = guest.succeed(limit=400)
        registers = device(guest)["registers"]
    assert "The test result is PASS" in console and "status 0\n" in console and "ping ok" in console
    assert all(result == "0" for result in re.findall(r"offline\)\s+(\d+)", console))
    assert registers["ICS write"] >= 10 and registers["MTA read"] >= 512


def test_back_end_goes_away():
    script = """
ip link set eth0 up
while [ "$(cat /sys/class/net/eth0/carrier)" != 1 ]; do usleep 100000; done
echo "link up"
while [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do usleep 100000; done
echo "link down"
"""
    with vm.Guest("--net", "user,model=e1000", kernel="6.1-amd64", script=script) as guest:
        guest.wait_for("^link up")
        vm.run("pkill", "-KILL", "passt")
        assert "link down" in guest.succeed()
