# SPDX-License-Identifier: Apache-2.0
"""What --api-sock costs a machine that nobody asks anything."""

import statistics
from dataclasses import replace

from . import idle
from .lab import DUET, MARK_INIT, BenchLab
from .monitors import HOME, Boot
from .report import Report

KERNEL = "6.1-cloud"
INSTRUCTIONS_MAX = 1.0  # M of duet's own, more than without
MEMORY_MAX = 0.25  # MiB, likewise
MILLION = 1e6


def _with_api(boot: Boot) -> list[str]:
    return [*DUET.command(boot), "--api-sock", f"{HOME}/api.sock"]


WITH_API = replace(DUET, name="duet --api-sock", command=_with_api)


def measure(lab: BenchLab, report: Report, runs: int) -> None:
    report.heading("--api-sock, besides what duet takes without it")
    if lab.counts:
        _start(lab, report, runs)
    _memory(lab, report)


def _first_entry(lab: BenchLab, monitor) -> dict | None:
    """Counts from exec to the first entry of the guest."""
    lab.shell(f"rm -f {HOME}/api.sock")
    words = f"rdinit=/bin/mark {MARK_INIT} exec /bin/busybox {DUET.end} -f"
    counts = lab.counted(monitor, lab.boot_of(KERNEL, "minimal", words))
    return counts and counts["vmrun"]


def _start(lab: BenchLab, report: Report, runs: int) -> None:
    """By turns; the kernel's part differs by millions from one start to the next, duet's own does not."""
    _first_entry(lab, DUET)  # fills the caches
    found = [(_first_entry(lab, DUET), _first_entry(lab, WITH_API)) for _ in range(runs)]
    if not all(plain and api for plain, api in found):
        report.note("  a guest did not come to user space")
        return
    own, kernel = ([statistics.median(pair[way][side] for pair in found) / MILLION for way in (0, 1)]
                   for side in ("host_user", "host_kernel"))  # fmt: skip
    report.row("duet's own instructions before the first vCPU runs", own[1] - own[0], "M", INSTRUCTIONS_MAX,
               detail=f"{own[0]:.2f} without; of the host's kernel {kernel[1] - kernel[0]:.2f} more than {kernel[0]:.2f}")  # fmt: skip


def _memory(lab: BenchLab, report: Report) -> None:
    sizes = []
    for monitor in (DUET, WITH_API):
        lab.shell(f"rm -f {HOME}/api.sock")
        boot = lab.boot_of(KERNEL, "base", "", idle.SCRIPT)
        sizes.append(idle.outside_pss(idle.guest(lab, monitor.command(boot), "cat /proc/$pid/smaps")))
    report.row("memory", sizes[1] - sizes[0], "MiB", MEMORY_MAX, detail=f"{sizes[0]:.2f} without")
