# SPDX-License-Identifier: Apache-2.0
"""What the cooperation device costs: its calls, the guest's hints, and a guest that does not use it."""

import statistics
from dataclasses import replace

from ..experiment.lab import KERNEL, ExperimentLab
from ..experiment.subject import Subject, undisturbed
from ..guest import kit
from . import idle
from .lab import DUET, MARK_INIT, BenchLab
from .monitors import Boot
from .report import Report

FILE = "/sys/kernel/debug/duet-channel"  # the module's guest/module/bench.c
STEPS = 300
SWITCH_STEPS = 60
TIMES = 5  # what a step does: so short that many steps see no tick of a clock
READS = 1000
BATCHES = (1, 8, 64)
CALL_MAX = 1.2  # of an empty port write
BATCHED_MAX = 1 / 20  # of a fast call, each in the largest batch
HINTS_MAX = 0.1  # %, of the guest's time
NAP_US = 1000
SECONDS = 10
RATE = 1_000  # switches a second
INSTRUCTIONS = 2.5e9  # a second: one a cycle, at 2.5 GHz
UNUSED_MAX = 1  # %, more
MILLION = 1e6


def measure(lab: ExperimentLab, report: Report) -> None:
    report.heading("The cooperation device: instructions of host and guest together")
    if not lab.counts:
        report.note("  Instructions are counted in the nested lab only: skipped.")
        return
    with Subject(lab, kit=True) as subject:
        call = _calls(subject, report)
        _batched(subject, report, call)
        _page(subject, report)
    _hints(lab, report)


# Calls


def _all(counts: dict) -> float:
    return counts["host"] + counts["guest_low"] + counts["guest_high"]


def _cost(subject: Subject, way: str, times: int, more: str = "") -> dict[str, float]:
    """Counts of WAY once: many times of it in one order, without the order itself."""
    some, none = (undisturbed(subject.counted(f"workload repeat {FILE} '{way} {count} {more}' {STEPS}")["counts"]["steps"])
                  for count in (times, 0))  # fmt: skip
    return {name: (some[name] - none[name]) / times for name in some}


def _parts(counts: dict) -> str:
    return (f"duet {counts['host_user']:.0f}, host kernel {counts['host_kernel']:.0f}, "
            f"guest {counts['guest_low'] + counts['guest_high']:.0f}; guest entries {counts['vmruns']:.2f}")  # fmt: skip


def _calls(subject: Subject, report: Report) -> float:
    """What a fast call costs."""
    port, call = (_cost(subject, way, TIMES) for way in ("port", "call"))
    report.row("a write to a port where nothing is", _all(port), "", detail=_parts(port))
    report.row("a fast call", _all(call), "", detail=_parts(call))
    report.row("a fast call beside the port", _all(call) / _all(port), "", CALL_MAX)
    return _all(call)


def _batches(subject: Subject, report: Report, way: str, words: str) -> float:
    """What each of the largest batch costs."""
    alone, each = None, {}
    for k in BATCHES:
        batch = _cost(subject, way, max(2, TIMES // k), str(k))
        each = {name: count / k for name, count in batch.items()}
        alone = alone or _all(batch)
        report.row(f"{words} in batches of {k}", _all(each), "",
                   detail=f"{_parts(each)}; H/k = {alone / k:.0f}")  # fmt: skip
    return _all(each)


def _batched(subject: Subject, report: Report, call: float) -> None:
    """By one fast call for all, which is how the module asks; and by the queue, which lets it do something else."""
    _batches(subject, report, "request", "a queued call")
    each = _batches(subject, report, "batch", "a call")
    report.row(f"a call in batches of {BATCHES[-1]}, beside one alone", each / call, "", BATCHED_MAX)


def _page(subject: Subject, report: Report) -> None:
    """A whole step without an exit: the order and all that it reads."""
    found = undisturbed(subject.counted(f"workload repeat {FILE} 'page {READS}' {STEPS}")["counts"]["steps"])
    report.row(f"{READS} reads of the shared page: exits", found["vmruns"], "", 0)


# Hints


def _guest_of(counts: dict) -> float:
    return counts["guest_low"] + counts["guest_high"]


def _load(lab: ExperimentLab, hints: str) -> tuple[float, float, float]:
    """The guest's instructions for a switch under load, for one with naps, and for a second of rest."""
    with Subject(lab, "--coop", f"hints={hints}", files=kit.files(KERNEL)) as subject:
        subject.command(kit.PREPARE.strip() + "; modprobe duet")
        found = [subject.counted(f"workload switches {SWITCH_STEPS} {us}") for us in (0, NAP_US)]
        switches = [_guest_of(undisturbed(one["counts"]["steps"])) / one["answer"]["switches"] for one in found]
        rest = subject.counted(f"mark 20; sleep {SECONDS}; mark 21; echo '{{}}'")["counts"]
        return *switches, _guest_of(rest) / SECONDS


def _hints(lab: ExperimentLab, report: Report) -> None:
    report.heading(f"The guest's hints, of its time at {RATE} switches a second, one instruction a cycle and 2.5 GHz")
    without, told = (_load(lab, way) for way in ("off", "on"))
    dense, sparse, second = (after - before for before, after in zip(without, told, strict=True))
    report.row("more instructions a switch, one after the other", dense, "", detail=f"{without[0]:.0f} without")
    report.row("more instructions a switch, with naps", sparse, "", detail=f"{without[1]:.0f} without")
    report.row("more instructions a second of a guest at rest", second, "", detail=f"{without[2]:.0f} without")
    share = (max(dense, sparse) * RATE + max(0.0, second)) / INSTRUCTIONS
    report.row("share of the guest's time", 100 * share, "%", HINTS_MAX)


# A guest without the kit


def _with_device(boot: Boot) -> list[str]:
    return [*DUET.command(boot), "--coop"]


WITH_DEVICE = replace(DUET, name="duet --coop", command=_with_device)
RESTS = 5  # starts of each
UNUSED_KERNEL = "6.1-cloud"


def unused(lab: BenchLab, report: Report, runs: int) -> None:
    report.heading("A guest that knows nothing of the device, beside one without it")
    if lab.counts:
        _start(lab, report, runs)
    _rest(lab, report, max(runs, RESTS))


def _start(lab: BenchLab, report: Report, runs: int) -> None:
    words = f"rdinit=/bin/mark {MARK_INIT} exec /bin/busybox {DUET.end} -f"
    boot = lab.boot_of(UNUSED_KERNEL, "minimal", words)
    lab.counted(DUET, boot)  # fills the caches
    found = [[lab.counted(monitor, boot) for monitor in (DUET, WITH_DEVICE)] for _ in range(runs)]
    if not all(all(pair) for pair in found):
        report.note("  a guest did not come to user space")
        return
    for name, key, target in (("instructions to user space", "instructions", UNUSED_MAX), ("guest entries to user space", "vmruns", None)):
        plain, device = (statistics.median(pair[way]["init"][key] for pair in found) for way in (0, 1))
        report.row(f"{name}: more", 100 * (device / plain - 1), "%", target,
                   detail=f"{plain / MILLION:.4g} M without" if key == "instructions" else
                   f"{plain} without; two thirds of them are the lines that Linux prints about any function of PCI")  # fmt: skip


def _rest(lab: BenchLab, report: Report, runs: int) -> None:
    """Memory: the least of some starts, since what of the program is in memory comes in windows of 64 KiB, a few more or less."""
    sizes, exits = ([], []), ([], [])
    for _ in range(runs):
        for way, monitor in enumerate((DUET, WITH_DEVICE)):
            boot = lab.boot_of(UNUSED_KERNEL, "base", "", idle.SCRIPT)
            smaps, first, second = idle.guest(lab, monitor.command(boot), idle.SAMPLES.format(seconds=idle.IDLE_SECONDS)).split("====\n")
            sizes[way].append(idle.outside_pss(smaps))
            exits[way].append(sum(count for name, count in idle.exits_at_rest(first, second).items() if name != "serial"))
    plain, device = (min(found) for found in sizes)
    report.row("memory: more", 100 * (device / plain - 1), "%", UNUSED_MAX, detail=f"{plain:.3f} MiB without")
    report.row(f"exits of an idle guest in {idle.IDLE_SECONDS} s: more", min(exits[1]) - min(exits[0]), "", 0)
