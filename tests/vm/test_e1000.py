# SPDX-License-Identifier: Apache-2.0
"""The emulated 82540EM on passt, which takes whole frames only, and goes away. test_spectrum.py has it
on a tap."""

from duetlab.guest import vm
from test_spectrum import BULK, CARRY, check_carried, device, peer


def test_every_byte_over_passt_until_it_is_gone():
    """The controller segments and sums up by itself; then the link goes down."""
    script = """
ip link set eth0 up
udhcpc -i eth0 -n -q -t 10 -T 2 -s /etc/udhcpc/default.script
peer=$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')
""" + CARRY + """
[ "$(cat /sys/class/net/eth0/carrier)" = 1 ] && echo "link up"
while [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do usleep 100000; done
echo "link down"
"""
    with peer() as process, vm.Guest("--net", "user,model=e1000", kernel="6.1-amd64", script=script) as guest:
        guest.wait_for("^link up$", limit=300)
        vm.run("kill", "-KILL", *guest.children("passt"))
        console = guest.succeed()
        check_carried(console, process)
        net = device(guest)
    assert "link down" in console
    assert net["bytes_sent"] > BULK and net["bytes_received"] > BULK
    assert net["dma_errors"] == 0 and net["link_up"] == 0
