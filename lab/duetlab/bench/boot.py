# SPDX-License-Identifier: Apache-2.0
"""Instructions from exec of the monitor to the guest's first process, and where they go."""

import re
import statistics

from . import profile
from .lab import DUET, MARK_EXEC, MARK_INIT, BenchLab
from .monitors import HOME, PEERS, Monitor
from .report import Report

KERNELS = {"6.1-cloud": 1.0, "6.1-amd64": 0.6}  # of the peers' instructions
FIRST_ENTRY_MAX = 10  # M instructions
MILLION = 1e6
TOP = 25


def _words(monitor: Monitor) -> str:
    return f"rdinit=/bin/mark {MARK_INIT} exec /bin/busybox {monitor.end} -f"


def _parts(counts: dict) -> str:
    names = {"host_user": "monitor", "host_kernel": "host kernel",
             "guest_low": "guest below its kernel's addresses", "guest_high": "guest kernel"}  # fmt: skip
    shown = [f"{words} {counts[name] / MILLION:.1f}" for name, words in names.items()]
    return ", ".join([*shown, f"guest entries {counts['vmruns']}"])


def _median(runs: list[dict]) -> dict:
    order = sorted(runs, key=lambda run: run["init"]["instructions"])
    return order[len(order) // 2]


def _added_words(lab: BenchLab, given: str) -> str:
    """What duet itself put on the command line of the guest that ran last."""
    found = re.search(r"Kernel command line: (.*)", lab.output())
    return found.group(1).replace(given, "").strip() if found else ""


def _measure(lab: BenchLab, report: Report, kernel: str, monitor: Monitor, words: str = ""):
    given = f"{words} {_words(monitor)}".strip()
    counts = lab.counted(monitor, lab.boot_of(kernel, "minimal", given))
    if not counts:
        report.note(f"  {monitor.name}: did not come to user space (timeout)")
    return counts


def _alternating(lab: BenchLab, report: Report, kernel: str, runs: int) -> dict[str, list]:
    found: dict[str, list] = {monitor.name: [] for monitor in (DUET, *lab.peers)}
    for _ in range(runs):
        for monitor in (DUET, *lab.peers):
            if counts := _measure(lab, report, kernel, monitor):
                found[monitor.name].append(counts)
    return found


def boot(lab: BenchLab, report: Report, runs: int) -> None:
    report.heading("Instructions from exec of the monitor to user space, M (1 vCPU, 256 MiB, "
                   "a disk, a NIC)")  # fmt: skip
    for monitor in PEERS:
        if monitor not in lab.peers:
            report.note(f"  {monitor.name} is left out: no {monitor.program} on PATH")
    for kernel, share in KERNELS.items():
        _measure(lab, report, kernel, DUET)  # fills the caches
        added = _added_words(lab, _words(DUET))
        found = _alternating(lab, report, kernel, runs)
        if not found["duet"]:
            continue
        peers = {name: _median(counts) for name, counts in found.items() if counts}
        ours = peers.pop("duet")
        for name, counts in peers.items():
            report.row(f"{kernel}, {name}", counts["init"]["instructions"] / MILLION, "M",
                       detail=_parts(counts["init"]))  # fmt: skip
        least = min((c["init"]["instructions"] for c in peers.values()), default=None)
        report.row(f"{kernel}, duet", ours["init"]["instructions"] / MILLION, "M",
                   least * share / MILLION if least else None, at_most=share < 1,
                   words=f"({share:g} x the better peer)", detail=_parts(ours["init"]))  # fmt: skip
        for monitor in lab.peers:
            if counts := _measure(lab, report, kernel, monitor, _fitting(added)):
                report.row(f"{kernel}, {monitor.name} given duet's words",
                           counts["init"]["instructions"] / MILLION, "M")  # fmt: skip
        report.row(f"{kernel}, duet itself before the first vCPU runs",
                   statistics.median(c["vmrun"]["host_user"] for c in found["duet"]) / MILLION,
                   "M", FIRST_ENTRY_MAX)  # fmt: skip
    report.note(f"  Words that duet adds by itself: {added}")


def _fitting(words: str) -> str:
    """Without those that say how to end the guest or where its console is: peers have their own."""
    own = ("console=", "reboot=", "panic=")
    return " ".join(word for word in words.split() if not word.startswith(own))


def where(lab: BenchLab, report: Report, kernel: str = "6.1-cloud") -> None:
    report.heading(f"Where the count goes, duet with {kernel}")
    boot_of = lab.boot_of(kernel, "minimal", "nokaslr " + _words(DUET))
    lab.counted(DUET, boot_of)
    profile.expect(lab.host, MARK_EXEC, MARK_INIT)
    counts = lab.counted(DUET, boot_of)
    if not counts:
        report.note("  the guest did not come to user space")
        return
    blocks = profile.take(lab.host)
    report.table("sides", [("the guest's kernel", counts["init"]["guest_high"] / MILLION),
                           ("the host's kernel", counts["init"]["host_kernel"] / MILLION),
                           ("duet", counts["init"]["host_user"] / MILLION),
                           ("the guest before it runs at its kernel's addresses",
                            counts["init"]["guest_low"] / MILLION)], "M instructions")  # fmt: skip
    functions = profile.by_function(blocks, profile.guest_symbols(kernel, f"{HOME}/duet"), True)
    _table(report, "the guest's kernel by purpose", profile.by_category(functions), None)
    _table(report, "the guest's kernel by function", functions, TOP)
    host = profile.by_function(blocks, profile.host_symbols(lab.host), False)
    _table(report, "the host's kernel by function", host, TOP)
    _console(lab, report, counts["init"], boot_of)


def _table(report: Report, name: str, counts, top: int | None) -> None:
    rows = [(row, count / MILLION) for row, count in counts.most_common(top)]
    report.table(name, rows, "M instructions")


def _console(lab: BenchLab, report: Report, counts: dict, boot_of) -> None:
    """What the messages cost: the same start under `quiet`."""
    words = boot_of.words + " quiet"
    silent = lab.counted(DUET, type(boot_of)(boot_of.kernel, boot_of.initrd, words))
    if silent:
        saved = counts["instructions"] - silent["init"]["instructions"]
        report.row("all sides, for the console's output", saved / MILLION, "M")
