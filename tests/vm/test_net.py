# SPDX-License-Identifier: Apache-2.0
"""Networks: tap and passt, both directions, and a back end that dies."""


import pytest

from duetlab.guest import rootfs, vm
from matrix import some


# Until the host's end sends, too: its kernel tells of links once a second, and drops what comes before.
UP = """ip addr add 192.168.77.2/24 dev eth0; ip link set eth0 up
until ping -c 1 -W 10 192.168.77.1 >/dev/null; do echo "no answer yet"; done"""


@pytest.mark.parametrize("ring", some(["packed", "split"]))
def test_tap_ping(ring):
    script = f"""
{UP}
ping -c 5 -i 0.2 -s 1400 192.168.77.1 && echo "ping ok"
"""
    with vm.tap() as name, vm.Guest("--net", f"tap,ifname={name}", "--ring", ring, script=script) as guest:
        assert "ping ok" in guest.succeed()


def test_iperf_both_ways():
    """Bulk transfer with offloads; every byte arrives (TCP), none is refused."""
    script = """
ip addr add 192.168.77.2/24 dev eth0; ip link set eth0 up
iperf3 -c 192.168.77.1 -n 50M && echo "sent"
iperf3 -c 192.168.77.1 -n 50M -R && echo "received"
"""
    with vm.tap() as name, vm.running("listening", *vm.lab_command("iperf3", "-s", "--forceflush")), vm.Guest(
            "--net", f"tap,ifname={name}", "--disk", f"path={rootfs.rootfs()},readonly=on", "--cmdline",
            "duet.root=/dev/vda duet.rootflags=ro", script=script) as guest:
        console = guest.succeed(limit=600)
        net = next(d for d in guest.stats["devices"] if d["name"] == "net0")
    assert "sent" in console and "received" in console
    assert sum(net["queues"][q].get("bytes", 0) for q in net["queues"]) > 95 * 10**6


def test_multi_queue_tap():
    script = f"""
{UP}
ls -d /sys/class/net/eth0/queues/rx-1 && ping -c 3 -i 0.2 192.168.77.1 && echo "ping ok"
"""
    with vm.tap(multi_queue=True) as name, vm.Guest(
            "--net", f"tap,ifname={name},queues=2", "--cpus", "2", script=script) as guest:
        assert "ping ok" in guest.succeed()


def test_passt_dies_and_the_guest_goes_on():
    script = """
ip link set eth0 up
udhcpc -i eth0 -n -q -t 10 -T 2 -s /etc/udhcpc/default.script >/dev/null 2>&1
ip route | grep -q "^default via .* dev eth0" && echo "dhcp ok"
while [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do usleep 100000; done
echo "link down"
"""
    with vm.Guest("--net", "user", script=script) as guest:
        guest.wait_for("^dhcp ok")
        vm.run("kill", "-KILL", *guest.children("passt"))
        console = guest.succeed()
    assert "link down" in console
    assert "passt" in console.split("dhcp ok")[1], "no line told that passt is gone"


def test_passt_lives_as_long_as_its_guest():
    """A service manager that stops the unit signals passt too, before the guest has shut down."""
    script = """
lease() { udhcpc -i eth0 -n -q -t 10 -T 2 -s /etc/udhcpc/default.script >/dev/null 2>&1; }
ip link set eth0 up
lease && echo "dhcp ok"
read line
lease && echo "dhcp again"
"""
    with vm.Guest("--net", "user", script=script) as guest:
        guest.wait_for("^dhcp ok")
        vm.run("kill", "-TERM", *guest.children("passt"))
        vm.run("kill", "-HUP", *guest.children("passt"))
        guest.type("go\n")
        assert "dhcp again" in guest.succeed()


# duet with its own /tmp, /run and /dev/shm, for other tests use the host's meanwhile; tells what is left in them.
# The program may itself be below /tmp: a working directory stays what it is.
ALONE = ("unshare", "-m", "sh", "-c", """
cd "${1%/*}" && shift || exit
for place in /tmp /run /dev/shm; do mount -t tmpfs none $place || exit; done
rm -rf /run/mount  # that is mount's own
./duet "$@"
status=$?
echo "left behind: [$(find /tmp /run /dev/shm -mindepth 1)]"
exit $status
""", "sh")


def test_nothing_is_left_behind():
    with vm.Guest("--net", "user", script="echo ready; read line", wrapper=ALONE) as guest:
        guest.wait_for("^ready")
        duet, = guest.children("duet")
        passt, = vm.run("pgrep", "-P", duet, "^passt").stdout.split()
        guest.type("go\n")
        guest.succeed()
        assert vm.run("test", "-d", f"/proc/{passt}", check=False).returncode == 1
    assert "left behind: []" in guest.output, guest.tail()
