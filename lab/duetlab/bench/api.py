# SPDX-License-Identifier: Apache-2.0
"""What --api-sock costs a machine that nobody asks anything."""

from dataclasses import replace

from . import idle
from .lab import DUET, MARK_INIT, BenchLab
from .monitors import HOME, Boot
from .report import Report

KERNEL = "6.1-cloud"
INSTRUCTIONS_MAX = 1.0  # M, more than without
MEMORY_MAX = 0.25  # MiB, likewise
MILLION = 1e6


def _with_api(boot: Boot) -> list[str]:
    return [*DUET.command(boot), "--api-sock", f"{HOME}/api.sock"]


WITH_API = replace(DUET, name="duet --api-sock", command=_with_api)


def measure(lab: BenchLab, report: Report) -> None:
    report.heading("--api-sock, besides what duet takes without it")
    monitors = (DUET, WITH_API)
    if lab.counts:
        words = f"rdinit=/bin/mark {MARK_INIT} exec /bin/busybox {DUET.end} -f"
        found = []
        for monitor in (DUET, *monitors):  # the first fills the caches
            lab.shell(f"rm -f {HOME}/api.sock")
            found.append(lab.counted(monitor, lab.boot_of(KERNEL, "minimal", words)))
        if all(found):
            plain, api = (counts["vmrun"]["host_user"] + counts["vmrun"]["host_kernel"] for counts in found[1:])
            report.row("instructions before the first vCPU runs", (api - plain) / MILLION, "M", INSTRUCTIONS_MAX,
                       detail=f"{plain / MILLION:.2f} without")  # fmt: skip
        else:
            report.note("  a guest did not come to user space")
    sizes = []
    for monitor in monitors:
        lab.shell(f"rm -f {HOME}/api.sock")
        boot = lab.boot_of(KERNEL, "base", "", idle.SCRIPT)
        sizes.append(idle.outside_pss(idle.guest(lab, monitor.command(boot), "cat /proc/$pid/smaps")))
    report.row("memory", sizes[1] - sizes[0], "MiB", MEMORY_MAX, detail=f"{sizes[0]:.2f} without")

