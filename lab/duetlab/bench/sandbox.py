# SPDX-License-Identifier: Apache-2.0
"""What --sandbox costs: a machine's start, and the way of its data."""

import statistics
from dataclasses import replace

from ..experiment.lab import PORT, ExperimentLab
from ..experiment.subject import Subject, usual
from .io import DISK_MIB, HOST, READS, TRIPS, WARMUP, nic
from .lab import DUET, MARK_INIT, BenchLab
from .monitors import Boot
from .report import Report

KERNEL = "6.1-cloud"
START_MAX = 1.05  # times duet's own instructions without it
PATH_MAX = 1.01  # times the host's instructions without it
MILLION = 1e6
OFF, TRY = ("--sandbox", "off"), ("--sandbox", "try")


def _without(boot: Boot) -> list[str]:
    return [*DUET.command(boot), *OFF]


WITHOUT = replace(DUET, name="duet --sandbox off", command=_without)


def start(lab: BenchLab, report: Report, runs: int) -> None:
    """By turns; the kernel's part differs by millions from one start to the next, duet's own does not."""
    report.heading("--sandbox: a machine's start, with and without")
    boot = lab.boot_of(KERNEL, "minimal", f"rdinit=/bin/mark {MARK_INIT} exec /bin/busybox {DUET.end} -f")
    lab.counted(DUET, boot)  # fills the caches
    found = [(lab.counted(WITHOUT, boot), lab.counted(DUET, boot)) for _ in range(runs)]
    if not all(without and confined for without, confined in found):
        report.note("  a guest did not come to user space")
        return
    own, kernel = ([statistics.median(pair[way]["vmrun"][side] for pair in found) / MILLION for way in (0, 1)]
                   for side in ("host_user", "host_kernel"))  # fmt: skip
    report.row("duet's own instructions before the first vCPU runs, times those without", own[1] / own[0], "", START_MAX,
               detail=f"{own[1]:.2f} M to {own[0]:.2f} M; of the host's kernel {kernel[1]:.1f} M to {kernel[0]:.1f} M")  # fmt: skip


def measure(lab: ExperimentLab, report: Report) -> None:
    report.heading("--sandbox: host instructions on the data path, with and without")
    if not lab.counts:
        report.note("  skipped: instructions are counted in the nested lab only")
        return
    with lab.steady():
        ways = {option[1]: {**_disk(lab, option), **_net(lab, option)} for option in (OFF, TRY)}
    for name, without in ways["off"].items():
        confined = ways["try"][name]
        report.row(f"{name}, times those without", confined / without, "", PATH_MAX,
                   detail=f"{confined / 1000:.2f} k to {without / 1000:.2f} k")  # fmt: skip


def _disk(lab: ExperimentLab, option: tuple[str, str]) -> dict[str, float]:
    path = lab.disk("bench", DISK_MIB)
    with Subject(lab, *option, "--disk", f"path={path},cache=direct") as subject:
        for _ in range(2):  # the first time fills caches of host and guest
            found = {f"read of {size >> 10} KiB, {way}, depth {depth}":
                     usual(subject.counted(f"workload disk /dev/vda {way} {depth} {count} {size}"))["host"]
                     for way, depth, count, size in READS}  # fmt: skip
    return found


def _net(lab: ExperimentLab, option: tuple[str, str]) -> dict[str, float]:
    """A packet and its answer; by virtio, which duet serves on its I/O thread, and by the e1000, whose
    registers are exits on the vCPU's."""
    found = {}
    for model in ("virtio", "e1000"):
        with nic(lab, f"model={model}", *option) as subject:
            counted = subject.counted(f"workload request {HOST} {PORT} {4 * TRIPS} {WARMUP}")
            found[f"round trip over tap, {model}"] = usual(counted)["host"]
    return found
