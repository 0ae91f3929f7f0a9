# SPDX-License-Identifier: Apache-2.0
"""What a guest's writes cost the host while changed pages are logged, by duet and by QEMU, and what a vCPU's ring
costs a machine that nobody logs."""

import shlex
import shutil
import statistics
from dataclasses import replace

from ..base.errors import LabError
from ..base.paths import LAB
from ..host import counter
from .lab import DUET, MARK_INIT, BenchLab
from .migrate import CONTROL, SOCK, duet, qemu
from .monitors import HOME, Boot
from .report import Report

KERNEL = "6.1-cloud"
WRITTEN_MIB = 128
PAGES = WRITTEN_MIB * 256
SECONDS = 60  # that QEMU logs for: longer than it takes
STARTS = 3
CPUS = 4
MILLION = 1e6
MARK = 30  # round N is from MARK + 2 N to MARK + 2 N + 1

# Each line that comes is a round: every page of a file in memory is written once.
_GUEST = f"""
mkdir -p /mnt; mount -t tmpfs -o size=100% fill /mnt
write() {{ dd if=/dev/zero of=/mnt/file bs=1M count={WRITTEN_MIB} conv=notrunc 2>/dev/null; }}
write; write
echo "bench: idle"
mark={MARK}
while read line; do
	mark $mark; write; mark $((mark + 1))
	mark=$((mark + 2))
	echo "bench: written $mark"
done
"""

_RUN = """
cd {home}; rm -rf output lines snapshot {sock}; mkfifo lines; exec 3<>lines
{command} >output 2>&1 <lines & pid=$!
await() {{
	n=0
	until grep -q "bench: $1" output; do
		n=$((n + 1)); sleep 0.5
		[ $n -lt 600 ] && kill -0 $pid || {{ tail -5 output >&2; kill -9 $pid; exit 1; }}
	done
}}
await idle; sleep 3; echo >&3; await "written {first}"
{log} >/dev/null || {{ kill -9 $pid; exit 1; }}
sleep 3; echo >&3; await "written {second}"
kill -9 $pid; wait $pid 2>/dev/null; true
"""


def _a_page(lab: BenchLab, command: list[str], log: str) -> list[dict[str, float]]:
    """Counts for each page that is written, without the log and with it; `host` is what the host took."""
    counter.marks(lab.host)
    lab.shell(_RUN.format(home=HOME, sock=SOCK, command=shlex.join(command), log=log,
                          first=MARK + 2, second=MARK + 4), limit=900)  # fmt: skip
    marks = {mark["id"]: mark["sum"] for mark in counter.marks(lab.host)["marks"] if mark["in_guest"]}
    found = [{name: (marks[at + 1][name] - marks[at][name]) / PAGES for name in counter.FIELDS} for at in (MARK, MARK + 2)]
    return [{**each, "host": each["host_user"] + each["host_kernel"]} for each in found]


def _qemu(lab: BenchLab, command: list[str]) -> list[dict[str, float]] | None:
    """QEMU logs for the length of a measurement of its own."""
    log = f"python3 {lab.path(LAB / 'host' / 'qmp.py')} {SOCK} log {SECONDS}"
    return _a_page(lab, command, log) if shutil.which("qemu-system-x86_64") else None


def _row(report: Report, name: str, each: dict[str, float], target: float | None = None) -> None:
    report.row(name, each["host"], "", target, words="(QEMU's and 2 %)",
               detail=f"monitor {each['host_user']:.0f}, host kernel {each['host_kernel']:.0f}; guest entries {each['vmruns']:.2f}")  # fmt: skip


def _tracked(lab: BenchLab, boot: Boot, dirty: str) -> list[dict[str, float]]:
    return _a_page(lab, [*duet(boot), "--allow", HOME, "--track-dirty", "on", "--dirty", dirty],
                   f"{HOME}/duet ctl {SOCK} snapshot {HOME}/snapshot")  # fmt: skip


def _starting(*options: str):
    return replace(DUET, command=lambda boot: [*DUET.command(boot), "--cpus", str(CPUS), *options])


def starts(lab: BenchLab, report: Report) -> None:
    """By turns. The rings' memory is the host kernel's, and in no process's statistics."""
    report.heading(f"A start of {CPUS} vCPUs, with rings and without, M instructions before the first vCPU runs")
    boot = lab.boot_of(KERNEL, "minimal", f"rdinit=/bin/mark {MARK_INIT} exec /bin/busybox {DUET.end} -f")
    ways = {dirty: _starting("--dirty", dirty) for dirty in ("log", "ring")}
    lab.counted(ways["ring"], boot)  # fills the caches
    found: dict[str, list[dict]] = {dirty: [] for dirty in ways}
    for _ in range(STARTS):
        for dirty, monitor in ways.items():
            if counts := lab.counted(monitor, boot):
                found[dirty].append(counts["vmrun"])
    for dirty, counts in found.items():
        own, kernel = (statistics.median(each[side] for each in counts) / MILLION for side in ("host_user", "host_kernel"))
        report.row(f"--dirty {dirty}", own + kernel, "M", detail=f"monitor {own:.2f}, host kernel {kernel:.2f}")


def measure(lab: BenchLab, report: Report) -> None:
    starts(lab, report)
    report.heading(f"A guest writes once to each page of {WRITTEN_MIB} MiB: instructions of the host, a page")
    boot = lab.boot_of(KERNEL, "base", "", _GUEST)
    _tracked(lab, boot, "log")  # does not count: the first in a new lab host took 1.7 times what the next ones did
    plain, logged = _tracked(lab, boot, "log")
    ringed = _tracked(lab, boot, "ring")[1]
    _row(report, "duet, no log", plain)
    found = None
    try:
        found = _qemu(lab, [*qemu(boot), *CONTROL])
    except LabError as error:  # a peer that hangs is a result
        report.note(f"  QEMU: {error}")
    if found:
        _row(report, "QEMU, no log", found[0])
        _row(report, "QEMU, changed pages are logged", found[1])
    _row(report, "duet, changed pages are logged", logged, found[1]["host"] * 1.02 if found else None)
    _row(report, "duet, the same by a ring", ringed)
