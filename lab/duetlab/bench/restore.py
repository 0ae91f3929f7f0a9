# SPDX-License-Identifier: Apache-2.0
"""What a machine costs that goes on from a snapshot, beside the start of the one it was taken of."""

import re
import statistics
from dataclasses import replace

from . import idle
from .lab import DUET, MARK_INIT, BenchLab
from .monitors import HOME
from .report import Report

KERNEL = "6.1-cloud"
FIRST_ENTRY_MAX = 5.0  # M of duet's own instructions
PRIVATE_MAX = 2.0  # MiB
SPEAKS_SHARE = 0.1  # of a boot's instructions
MILLION = 1e6
SNAPSHOT = f"{HOME}/snapshot"

# A program of the guest speaks once a second, before and after.
SCRIPT = f"""
ip link set eth0 up
dd if=/dev/vda of=/dev/null bs=64k count=64 2>/dev/null
while :; do /bin/mark {MARK_INIT}; echo "bench: idle"; sleep 1; done
"""


def _restored(_boot) -> list[str]:
    return [f"{HOME}/duet", "run", "--restore", SNAPSHOT]


RESTORED = replace(DUET, name="duet --restore", command=_restored)


def private(smaps: str) -> float:
    """MiB that are of this process alone and not the file's, whose pages in memory count as dirty here: it is on tmpfs."""
    return sum(int(kib) for kib in re.findall(r"(?m)^Anonymous: +(\d+) kB", smaps)) / 1024


def measure(lab: BenchLab, report: Report, runs: int) -> None:
    report.heading("A machine that goes on from a snapshot of itself (1 vCPU, 256 MiB, a disk, a NIC)")
    boot = lab.boot_of(KERNEL, "base", "", SCRIPT)
    lab.shell(f"rm -rf {HOME}/api.sock {SNAPSHOT}")
    idle.guest(lab, [*DUET.command(boot), "--api-sock", f"{HOME}/api.sock", "--allow", HOME],
               f"{HOME}/duet ctl {HOME}/api.sock snapshot {SNAPSHOT} >/dev/null || {{ kill -9 $pid; exit 1; }}")  # fmt: skip
    if lab.counts:
        _start(lab, report, boot, runs)
    smaps = idle.guest(lab, _restored(boot), "cat /proc/$pid/smaps")
    report.row("memory of one of its own, soon after", private(smaps), "MiB", PRIVATE_MAX)


def _start(lab: BenchLab, report: Report, boot, runs: int) -> None:
    lab.counted(RESTORED, boot)  # fills the caches
    found = [counts for _ in range(runs) if (counts := lab.counted(RESTORED, boot))]
    if not found:
        report.note("  no guest went on")
        return
    own, kernel = (statistics.median(counts["vmrun"][side] for counts in found) / MILLION
                   for side in ("host_user", "host_kernel"))  # fmt: skip
    report.row("duet's own instructions before the first vCPU runs", own, "M", FIRST_ENTRY_MAX,
               detail=f"of the host's kernel {kernel:.2f}")  # fmt: skip
    spoken = statistics.median(counts["init"]["instructions"] for counts in found) / MILLION
    booted = lab.counted(DUET, boot)
    limit = booted["init"]["instructions"] / MILLION * SPEAKS_SHARE if booted else None
    report.row("all instructions until a program of the guest speaks", spoken, "M", limit, words="(a tenth of a boot's)",
               detail="it does so once a second")  # fmt: skip
