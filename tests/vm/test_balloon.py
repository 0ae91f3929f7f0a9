# SPDX-License-Identifier: Apache-2.0
"""Memory that goes back to the host: a stock driver's balloon, reports and hints, seen in PSS."""

import re
import time

import pytest

from duetlab.guest import vm
from matrix import SOAK, soak, some

LIFE = vm.REPOSITORY / "build" / "tests" / "life" / "life"
KERNELS = ("6.1-cloud", "6.1-amd64", "6.12-amd64")
MIB = 1 << 20
LIMIT = 600

# Obeys: `fill N` takes N MiB and lets go of them, `keep N` takes them for good and remembers what is
# in them, `check` compares, `grab N` is a process of N MiB.
GUEST = """
[ -e /sys/bus/virtio/drivers/virtio_balloon/virtio* ] || { echo "no driver"; exit 1; }
mkdir -p /mnt/fill /mnt/keep
mount -t tmpfs -o size=100% fill /mnt/fill; mount -t tmpfs -o size=100% keep /mnt/keep
pattern() { yes "some 32 bytes of text, all lines." | head -c $(($1 * 1048576)); }
echo "ready"
while read -r what n; do
	case $what in
	fill) dd if=/dev/zero of=/mnt/fill/file bs=1M count=$n 2>/dev/null && rm /mnt/fill/file && echo "filled" ;;
	keep) pattern $n >/mnt/keep/file && md5sum </mnt/keep/file >/tmp/sum && echo "kept" ;;
	check) md5sum </mnt/keep/file | cmp - /tmp/sum && echo "same" || echo "lost" ;;
	drop) rm /mnt/keep/file && echo "dropped" ;;
	grab) dd if=/dev/zero of=/dev/null bs=${n}M count=1 2>/dev/null && echo "grabbed" || echo "killed" ;;
	total) awk '/^MemTotal/ { print "total " $2 }' /proc/meminfo ;;
	stop) break ;;
	esac
done
dmesg | grep -E "lockup|LOCKUP|detected stalls|BUG:|WARNING: CPU|Call Trace" && echo "the log has errors"
echo "end of story"
"""


class Balloon(vm.Guest):
    """A guest that does as it is told, and what its machine says of its balloon."""

    def __init__(self, options: str, kernel: str = KERNELS[0], memory: str = "512M"):
        super().__init__("--balloon", options, program=LIFE, kernel=kernel, memory=memory, script=GUEST)

    def ask(self, line: str, answer: str) -> re.Match:
        after = len(self.output)
        self.type(line + "\n")
        return self.wait_for(answer, LIMIT, after)

    def obey(self, command: str, answer: str | None = None) -> re.Match:
        found = self.ask(f"\x01{command}", answer or rf"life: {command} (done|failed.*)$")
        assert "failed" not in found[0], found[0]
        return found

    def now(self) -> tuple[float, dict]:
        """MiB of the guest's memory that are the host's, and the balloon's statistics."""
        stats = self.snapshot()
        balloon = next(device for device in stats["devices"] if device["type"] == "virtio-balloon")
        return stats["memory"]["guest_ram_pss"] / MIB, balloon

    def until(self, holds, what: str, limit: float = LIMIT) -> tuple[float, dict]:
        """HOLDS(pss, balloon) is true at last."""
        end = time.monotonic() + limit
        while True:
            pss, balloon = self.now()
            if holds(pss, balloon):
                return pss, balloon
            assert time.monotonic() < end, f"{what}: {pss:.0f} MiB, {balloon}"
            time.sleep(0.2)

    def inflated_to(self, mib: int) -> tuple[float, dict]:
        return self.until(lambda _, balloon: balloon["actual_pages"] == mib * 256, f"inflated to {mib} MiB")

    def is_well(self):
        self.ask("stop", r"^end of story$")
        before, _, after = self.succeed().partition("the log has errors")
        assert not after, f"the guest's log has errors:\n{before[-3000:]}"


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_inflated_and_deflated(kernel):
    with Balloon("reporting=off", kernel) as guest:
        guest.wait_for(r"^ready$", LIMIT)
        total = int(guest.ask("total", r"^total (\d+)$")[1])
        guest.ask("keep 40", r"^kept$")
        guest.ask("fill 320", r"^filled$")
        before, _ = guest.now()
        assert before > 360
        guest.obey("balloon 256")
        guest.inflated_to(256)
        # The last pages wait for neighbours for a moment.
        after, balloon = guest.until(lambda _, balloon: balloon["discarded_pages"] >= 256 * 256, "all given back")
        print(f"{kernel}: {before:.0f} MiB, then {after:.0f}; {balloon}")
        # A few of its pages may never have been touched.
        assert before - after > 170
        assert balloon["inflated_pages"] == balloon["discarded_pages"] == 256 * 256
        assert balloon["refused"] == balloon["failed_pages"] == 0
        assert balloon["discards"] < balloon["discarded_pages"] / 4
        assert int(guest.ask("total", r"^total (\d+)$")[1]) == total - 256 * 1024
        # Over a pause and a move it stays what it is.
        guest.obey("pause 3")
        guest.obey("move")
        moved, balloon = guest.now()
        assert balloon["actual_pages"] == 256 * 256 and moved < after + 40
        guest.obey("balloon 0")
        guest.inflated_to(0)
        guest.ask("check", r"^same$")
        guest.ask("fill 320", r"^filled$")
        guest.ask("check", r"^same$")
        assert int(guest.ask("total", r"^total (\d+)$")[1]) == total
        guest.is_well()


@soak
def test_over_a_reset():
    """The new kernel's driver finds it empty and fills it again."""
    with Balloon("size=200M,reporting=off") as guest:
        guest.wait_for(r"^ready$", LIMIT)
        guest.inflated_to(200)
        after = len(guest.output)
        guest.obey("reset", r"^duet-guest: user space")
        guest.wait_for(r"^ready$", LIMIT, after)
        guest.inflated_to(200)
        guest.ask("keep 60", r"^kept$")
        guest.ask("check", r"^same$")
        guest.is_well()


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_out_of_memory(kernel):
    """A process that needs more than is left gets it from the balloon."""
    with Balloon("deflate-on-oom=on,reporting=off", kernel) as guest:
        guest.wait_for(r"^ready$", LIMIT)
        guest.obey("balloon 340")
        _, balloon = guest.until(lambda _, b: b["actual_pages"] > 300 * 256, "inflated")
        guest.ask("grab 150", r"^grabbed$")
        _, after = guest.now()
        assert after["actual_pages"] < balloon["actual_pages"]
        guest.ask("stop", r"^end of story$")
        guest.succeed()


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_reports(kernel):
    """What became free goes back by itself; a guest that is quiet says nothing."""
    with Balloon("size=0", kernel) as guest:
        guest.wait_for(r"^ready$", LIMIT)
        guest.ask("keep 40", r"^kept$")
        guest.ask("fill 320", r"^filled$")
        low, balloon = guest.until(lambda pss, _: pss < 220, "reported")
        print(f"{kernel}: {low:.0f} MiB; {balloon}")
        assert balloon["reported_pages"] > 120 * 256 and balloon["failed_pages"] == 0

        def quiet(_pss, now):
            nonlocal balloon
            same = {name: queue["kicks"] for name, queue in now["queues"].items()} == {
                name: queue["kicks"] for name, queue in balloon["queues"].items()}
            balloon = now
            time.sleep(5)
            return same

        guest.until(quiet, "quiet for five seconds")
        guest.ask("check", r"^same$")
        guest.ask("fill 320", r"^filled$")
        guest.ask("check", r"^same$")
        guest.is_well()


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_hints(kernel):
    """All that is free at once, and nothing of what is used: also not what is taken back meanwhile."""
    with Balloon("reporting=off,hinting=on", kernel) as guest:
        guest.wait_for(r"^ready$", LIMIT)
        guest.ask("keep 100", r"^kept$")
        guest.ask("fill 250", r"^filled$")
        before, _ = guest.now()
        found = guest.obey("hint", r"life: hint (?:(\d+) bytes|failed.*)")
        after, balloon = guest.now()
        print(f"{kernel}: {before:.0f} MiB, then {after:.0f}; {balloon}")
        assert int(found[1]) > 100 * MIB and before - after > 100
        guest.ask("check", r"^same$")
        guest.ask("fill 250", r"^filled$")
        # A round while the guest is short of memory: its driver lets go of blocks in the middle.
        after = len(guest.output)
        for _ in range(3 if SOAK else 1):
            guest.type("fill 300\n")
            guest.obey("hint", r"life: hint (?:(\d+) bytes|failed.*)")
            guest.wait_for(r"^filled$", LIMIT, after)
            after = len(guest.output)
            guest.ask("check", r"^same$")
        guest.is_well()


@soak
def test_statistics():
    with Balloon("stats=1,reporting=off") as guest:
        guest.wait_for(r"^ready$", LIMIT)
        total = int(guest.ask("total", r"^total (\d+)$")[1])
        _, balloon = guest.until(lambda _, b: b["guest"]["answers"] >= 3, "three answers")
        assert balloon["guest"]["total_memory"] == total * 1024
        free = balloon["guest"]["free_memory"]
        guest.ask("keep 100", r"^kept$")
        guest.until(lambda _, b: b["guest"]["free_memory"] < free - 90 * MIB, "less is free")
        guest.is_well()
