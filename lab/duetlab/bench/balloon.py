# SPDX-License-Identifier: Apache-2.0
"""What it costs the host to take memory from a guest, and that free page reporting ends."""

import json

from ..experiment.subject import causes
from ..host import counter
from . import idle
from .lab import DUET, BenchLab
from .report import Report

KERNEL = "6.1-cloud"
MEMORY = "512M"
TAKEN_MIB = 256
PAGES = TAKEN_MIB * 256
INSTRUCTIONS_MAX = 400  # of the host, a page
MARK_BEFORE, MARK_AFTER = 30, 31
QUIET_SECONDS = 10
SETTLE_SECONDS = 20  # Linux reports what became free for some seconds

# Its free memory is the host's already when the balloon begins, and its driver comes last. It clears no page
# that it takes: that would be its own work, but in its time the clocks of the slow lab host tick, and count.
_INFLATE = f"""
mkdir -p /mnt; mount -t tmpfs -o size=100% fill /mnt
dd if=/dev/zero of=/mnt/file bs=1M count=400 2>/dev/null; rm /mnt/file
total() {{ awk '/^MemTotal/ {{ print $2 }}' /proc/meminfo; }}
before=$(total)
mark {MARK_BEFORE}
modprobe virtio_balloon
until [ $(($(total) + {TAKEN_MIB * 1024})) -le $before ]; do usleep 1000000; done
mark {MARK_AFTER}
echo "bench: idle"
exec sleep 100000
"""

_QUIET = """
mkdir -p /mnt; mount -t tmpfs -o size=100% fill /mnt
dd if=/dev/zero of=/mnt/file bs=1M count=300 2>/dev/null; rm /mnt/file
echo "bench: idle"
exec sleep 100000
"""


def _command(lab: BenchLab, script: str, words: str, *options: str) -> list[str]:
    command = DUET.command(lab.boot_of(KERNEL, "base", words, script))
    command[command.index("--memory") + 1] = MEMORY
    return [*command, "--balloon", *options]


def _statistics(stats: dict) -> dict:
    return next(device for device in stats["devices"] if device["type"] == "virtio-balloon")


def _inflate(lab: BenchLab, report: Report) -> None:
    counter.marks(lab.host)
    command = _command(lab, _INFLATE, "duet.modules=virtio_pci init_on_alloc=0", f"size={TAKEN_MIB}M,reporting=off")
    text = idle.guest(lab, command, idle.SAMPLES.format(seconds=0))
    marks = {mark["id"]: mark["sum"] for mark in counter.marks(lab.host)["marks"] if mark["in_guest"]}
    if not {MARK_BEFORE, MARK_AFTER} <= marks.keys():
        report.note("  the guest did not come to its balloon")
        return
    balloon = _statistics(json.loads(text.split("====\n")[-1]))
    spent = {name: (marks[MARK_AFTER][name] - marks[MARK_BEFORE][name]) / PAGES for name in counter.FIELDS}
    report.row("host instructions a page", spent["host_user"] + spent["host_kernel"], "", INSTRUCTIONS_MAX,
               detail=f"duet {spent['host_user']:.0f}, host kernel {spent['host_kernel']:.0f}, "
                      f"guest {spent['guest_low'] + spent['guest_high']:.0f}; "
                      f"{balloon['discarded_pages']} pages in {balloon['discards']} pieces")  # fmt: skip


def _quiet(lab: BenchLab, report: Report) -> None:
    command = _command(lab, _QUIET, "")
    text = idle.guest(lab, command, idle.SAMPLES.format(seconds=QUIET_SECONDS), SETTLE_SECONDS)
    _, first, second = text.split("====\n")
    before, after = json.loads(first), json.loads(second)
    then, now = _statistics(before), _statistics(after)
    kicks = sum(queue["kicks"] - then["queues"][name]["kicks"] for name, queue in now["queues"].items())
    exits = causes(before, after).get(now["name"], 0)
    report.row(f"kicks and exits of a guest that reports, in {QUIET_SECONDS} s", kicks + exits, "", 0,
               detail=f"{now['reported_pages']} pages reported before")  # fmt: skip


def measure(lab: BenchLab, report: Report) -> None:
    report.heading(f"A balloon ({TAKEN_MIB} of {MEMORY}iB taken, then free page reporting)")
    if lab.counts:
        _inflate(lab, report)
    _quiet(lab, report)
