# SPDX-License-Identifier: Apache-2.0
"""One machine's life: reset in place, paused, moved to another process, with load on every device.

The program that does so is tests/life/life: `duet run` that obeys (see life.h there)."""

import contextlib
import re
from typing import NamedTuple

import pytest

from duetlab.guest import rootfs, vm
from matrix import SOAK, some

LIFE = vm.REPOSITORY / "build" / "tests" / "life" / "life"
LIMIT = 600

# A disk (@DISK@) written and read back until /tmp/stop is there; in $fio.
VERIFYING = """\
(
	while [ ! -e /tmp/stop ]; do
		fio --name=verify --filename=@DISK@ --direct=1 --ioengine=libaio --verify=crc32c \
			--verify_fatal=1 --do_verify=1 --rw=randwrite --bs=4k-64k --bsrange=4k-64k \
			--iodepth=16 --size=1M --randrepeat=0 >/tmp/fio.log 2>&1 || { cat /tmp/fio.log; echo "fio failed"; break; }
		echo "fio verified"
	done
	echo "fio ended"
) &
fio=$!
"""

# Load on disk, network, console and entropy, all of which say so when something is lost.
LOAD = """
[ -c /dev/hvc0 ] && exec </dev/hvc0 >/dev/hvc0 2>&1
modprobe -q sd_mod; until [ -b @DISK@ ]; do sleep 0.1; done
ip addr add 192.168.77.2/24 dev eth0; ip link set eth0 up
mac=$(cat /sys/class/net/eth0/address); echo "mac $mac"
@VERIFYING@read -r port
# A link that has just come up, on a busy machine: iperf3 gives up after three seconds.
until ping -c 1 -W 10 192.168.77.1 >/tmp/ping.log; do echo "no answer yet"; done
iperf3 -c 192.168.77.1 -p $port -b 5M -t 36000 -i 1 --forceflush >/tmp/iperf.log 2>&1 &
iperf=$!
until grep -q "bits/sec" /tmp/iperf.log; do
	kill -0 $iperf || { cat /tmp/iperf.log; echo "iperf failed"; exit 1; }
	sleep 0.2
done
( while [ ! -e /tmp/stop ]; do
	[ "$(head -c 4096 /dev/hwrng | wc -c)" = 4096 ] || { echo "entropy failed"; break; }
	echo "entropy came"; sleep 0.5
done ) &
( n=0; while [ ! -e /tmp/stop ]; do n=$((n + 1)); echo "tick $n."; sleep 0.2; done ) &
ticks=$!
echo "ready"
look_at_log() {
	dmesg >/tmp/dmesg
	grep -iE "error|lockup|stall|BUG|WARN|timed out|timeout|hung|reset (failed|link)|call trace" /tmp/dmesg |
		grep -vE "ACPI|RAS:|MSR|warn_on|mce:|AMD-Vi" && echo "the log has errors"
	echo "looked at the log"
}
while read -r line; do
	case $line in
	log) look_at_log ;;
	moved) before=$(wc -l </tmp/iperf.log)
		until [ "$(wc -l </tmp/iperf.log)" -gt $((before + 1)) ]; do sleep 0.2; done
		echo "iperf goes on: $(tail -n 1 /tmp/iperf.log)" ;;
	stop) break ;;
	esac
done
touch /tmp/stop; wait $fio; wait $ticks
kill -0 $iperf && echo "iperf lives"
[ "$(cat /sys/class/net/eth0/address)" = "$mac" ] && echo "same mac $mac"
look_at_log
echo "end of story"
""".replace("@VERIFYING@", VERIFYING)


class Often(NamedTuple):
    resets: int = 20
    pauses: int = 100
    moves: int = 10


class Variant(NamedTuple):
    options: tuple[str, ...] = ()
    disk: str = ""
    net: str = ""
    device: str = "/dev/vdb"
    kernel: str = "6.1-cloud"


# In make test.
FEW = {"plain": Often(2, 5, 2), "e1000 and IDE": Often(1, 2, 1)}
VARIANTS = {
    "plain": Variant(("--cpus", "2")),
    "e1000 and IDE": Variant(("--cpus", "2"), ",model=ide", ",model=e1000", "/dev/sda", "6.1-amd64"),
    "packed, 4 vCPUs, vhost": Variant(("--ring", "packed", "--cpus", "4"), ",queues=4", ",vhost=on"),
    "polled": Variant(("--console", "virtio"), ",poll=on", ",poll=on"),
}


class Life(vm.Guest):
    """A guest whose machine obeys, and a peer for its network."""

    port = 5301

    def obey(self, command: str, answer: str | None = None) -> re.Match:
        after = len(self.output)
        self.type(f"\x01{command}\n")
        found = self.wait_for(answer or rf"life: {command} (done|failed.*)$", LIMIT, after)
        assert "failed" not in found[0], found[0]
        return found

    def boot(self, peers: contextlib.ExitStack, after: int = 0) -> str:
        """Up to the load running; the MAC address. A server of its own for each start: one whose
        caller is gone waits for it."""
        mac = self.wait_for(r"^mac ([0-9a-f:]+)$", LIMIT, after)[1]
        self.port += 1
        peers.close()
        peers.enter_context(vm.running("listening", *vm.lab_command(
            "iperf3", "-s", "-p", str(self.port), "--forceflush", "--rcv-timeout", "600000")))
        self.type(f"{self.port}\n")
        self.wait_for(r"^ready$", LIMIT, after)
        return mac

    def log(self) -> tuple[int, int]:
        """Pages that change while the load goes on; those of them that are not in the log."""
        self.obey("log")
        self.goes_on()
        found = self.obey("log", r"life: log (?:changed (\d+) unlogged (\d+)|failed.*)")
        self.wait_for(r"life: log done", LIMIT, found.end())
        return int(found[1]), int(found[2])

    def measure(self) -> tuple[int, int]:
        found = self.obey("measure", r"life: measure (?:descriptors (\d+) memory (\d+) bytes|failed.*)")
        self.wait_for(r"life: measure done", LIMIT, found.end())
        return int(found[1]), int(found[2])

    def clean_log(self):
        """Of this boot's kernel, so far."""
        after = len(self.output)
        self.type("log\n")
        self.wait_for(r"^looked at the log$", LIMIT, after)
        assert "the log has errors" not in self.output, self.tail()

    def goes_on(self):
        """Each load has made progress since now."""
        after = len(self.output)
        self.type("moved\n")
        self.wait_for(r"^iperf goes on", LIMIT, after)
        self.wait_for(r"^fio verified$", LIMIT, after)
        self.wait_for(r"^entropy came$", LIMIT, after)


def no_more(now: tuple[int, int], before: tuple[int, int]) -> bool:
    """Neither descriptors nor KiB."""
    print(f"descriptors and bytes: {before}, then {now}")
    return now[0] == before[0] and now[1] < before[1] + 1024


def guest_alone(console: str) -> str:
    """Without the machine's answers, which may stand in the middle of a line of the guest's."""
    return re.sub(r"\nlife: [^\n]*\n", "", console)


def lost_ticks(console: str) -> dict[int, str]:
    """Numbers that are missing on the console of one start, and what is there instead."""
    seen = {int(found[1]): found.end() for found in re.finditer(r"tick (\d+)\.", console)}
    lost = sorted(set(range(1, max(seen, default=0) + 1)) - seen.keys())
    return {n: console[seen.get(n - 1, 0) :][:300] for n in lost}


@pytest.mark.parametrize("name", some(VARIANTS, len(FEW)))
def test_reset_paused_and_moved(name, local_disk):
    variant = VARIANTS[name]
    often = Often() if SOAK else FEW[name]
    disk = local_disk("8M", "life")
    with vm.tap(vnet_hdr=True) as tap, contextlib.ExitStack() as peers, Life(
            "--disk", f"path={rootfs.rootfs()},readonly=on", "--disk", f"path={disk}{variant.disk}",
            "--net", f"tap,ifname={tap}{variant.net}", *variant.options, "--cmdline",
            "duet.root=/dev/vda duet.rootflags=ro", program=LIFE, memory="256M",
            kernel=variant.kernel, script=LOAD.replace("@DISK@", variant.device)) as guest:
        mac = guest.boot(peers)
        measured = None
        for _ in range(often.resets):
            guest.clean_log()
            after = len(guest.output)
            # It may come in the middle of a line.
            guest.obey("reset", r"duet-guest: user space$")
            assert guest.boot(peers, after) == mac
            measured = measured or guest.measure()
        guest.goes_on()
        assert no_more(guest.measure(), measured)
        start = guest.output.rindex(f"mac {mac}")
        guest.obey("pause 1")
        guest.goes_on()
        measured = guest.measure()
        guest.obey(f"pause {often.pauses}")
        guest.goes_on()
        assert no_more(guest.measure(), measured)
        changed, unlogged = guest.log()
        assert changed > 100 and unlogged == 0
        measured = None
        for _ in range(often.moves):
            guest.obey("move")
            guest.goes_on()
            measured = measured or guest.measure()
        assert no_more(guest.measure(), measured)
        guest.type("stop\n")
        guest.wait_for(r"^end of story$", LIMIT)
        console = guest.succeed()
    story = guest_alone(console[start:])
    assert "failed" not in story, story[-3000:]
    assert "the log has errors" not in story, story[-3000:]
    assert f"same mac {mac}" in story and "iperf lives" in story
    assert not lost_ticks(story)
