# SPDX-License-Identifier: Apache-2.0
"""What --api-sock costs a machine that nobody asks anything, and that nothing of it is there without the option."""

import statistics
import subprocess
from dataclasses import replace
from pathlib import Path

from ..base.paths import REPOSITORY
from . import idle, profile
from .lab import DUET, MARK_EXEC, MARK_INIT, BenchLab
from .monitors import HOME, Boot
from .report import Report

KERNEL = "6.1-cloud"
INSTRUCTIONS_MAX = 1.0  # M, more than without
SHARE_MAX = 0.01  # of its start, without the option
MEMORY_MAX = 0.25  # MiB, likewise
SPREAD_MAX = 0.3  # M, between two starts that are alike; with more nothing is told of the host's kernel
MILLION = 1e6
PAGE = 4096
PRESENT = 1 << 63  # an entry of /proc/PID/pagemap

# A word for each of COUNT pages from the page FIRST on.
_PAGES = "dd if=/proc/$pid/pagemap bs=8 skip={first} count={count} 2>/dev/null | od -An -v -tx8 -w8"


def _with_api(boot: Boot) -> list[str]:
    return [*DUET.command(boot), "--api-sock", f"{HOME}/api.sock"]


WITH_API = replace(DUET, name="duet --api-sock", command=_with_api)


def measure(lab: BenchLab, report: Report, runs: int) -> None:
    report.heading("Without --api-sock: the code of src/api, src/http and libmicrohttpd")
    ours, library = _places(lab)
    if ours and library:
        if lab.counts:
            _runs_nothing(lab, report, ours, library)
        _is_not_there(lab, report, ours | library)
    else:
        report.note("  skipped: this clone has no static build of them (make build)")
    report.heading("--api-sock, besides what duet takes without it")
    if lab.counts:
        _start(lab, report, runs)
    _memory(lab, report)


def _places(lab: BenchLab) -> tuple[dict[range, str], dict[range, str]]:
    """Where duet has the functions of the API, and libmicrohttpd's; empty if what it was linked of is not here."""
    objects = [path for layer in ("api", "http") for path in (REPOSITORY / "build/src" / layer).glob("*.a.p/*.o")]
    library = subprocess.run(["gcc", "-print-file-name=libmicrohttpd.a"], capture_output=True, text=True, check=True).stdout.strip()
    ours = profile.places_of(lab.duet, objects) if objects else {}
    return ours, profile.places_of(lab.duet, [library]) if Path(library).is_absolute() else {}


def _boot_of(lab: BenchLab) -> Boot:
    return lab.boot_of(KERNEL, "minimal", f"rdinit=/bin/mark {MARK_INIT} exec /bin/busybox {DUET.end} -f")


def _runs_nothing(lab: BenchLab, report: Report, ours: dict, library: dict) -> None:
    """The library has a constructor, which a static program runs at each start."""
    profile.expect(lab.host, MARK_EXEC, MARK_INIT)
    counts = lab.counted(DUET, _boot_of(lab))
    if not counts:
        report.note("  a guest did not come to user space")
        return
    blocks = profile.take(lab.host)
    total = 0
    for what, places in (("src/api and src/http", ours), ("libmicrohttpd", library)):
        ran = profile.instructions_at(blocks, places)
        total += ran.total()
        report.row(f"{what}: instructions until user space", ran.total(), "",
                   detail=", ".join(f"{name} {count}" for name, count in ran.most_common()) or f"none of {len(places)} functions")  # fmt: skip
    report.row("both, as a share of duet's own before the first vCPU runs", total / counts["vmrun"]["host_user"], "",
               SHARE_MAX)


def _is_not_there(lab: BenchLab, report: Report, places: dict[range, str]) -> None:
    """Of an idle guest. A page that other code lies on too says nothing."""
    pages = {page for place in places for page in range(place.start // PAGE, (place.stop - 1) // PAGE + 1)}
    mixed = pages & profile.others_pages(lab.duet, places, PAGE)
    first = min(pages)
    boot = lab.boot_of(KERNEL, "base", "", idle.SCRIPT)
    words = idle.guest(lab, DUET.command(boot), _PAGES.format(first=first, count=max(pages) - first + 1)).split()
    there = {first + nth for nth, word in enumerate(words) if int(word, 16) & PRESENT}
    report.row("pages in memory", len(there & (pages - mixed)), "", 0,
               detail=f"of {len(pages - mixed)}; {len(mixed)} more hold other code as well, {len(there & mixed)} of them are there")  # fmt: skip


def _first_entry(lab: BenchLab, monitor) -> dict | None:
    """Counts from exec to the first entry of the guest."""
    lab.shell(f"rm -f {HOME}/api.sock")
    counts = lab.counted(monitor, _boot_of(lab))
    return counts and counts["vmrun"]


def _start(lab: BenchLab, report: Report, runs: int) -> None:
    """By turns. duet's own instructions are the same each time; the host kernel's are not, so the cheapest of each way are
    compared: other work only adds to them."""
    _first_entry(lab, DUET)  # fills the caches
    found = [(_first_entry(lab, DUET), _first_entry(lab, WITH_API)) for _ in range(runs)]
    if not all(plain and api for plain, api in found):
        report.note("  a guest did not come to user space")
        return
    own = _more([statistics.median(pair[way]["host_user"] for pair in found) for way in (0, 1)])
    kernels = [sorted(pair[way]["host_kernel"] / MILLION for pair in found) for way in (0, 1)]
    report.row("duet's own instructions before the first vCPU runs", own, "M", INSTRUCTIONS_MAX)
    spread = max(ordered[1] - ordered[0] for ordered in kernels) if runs > 1 else None
    told = "; ".join(", ".join(f"{count:.2f}" for count in ordered) for ordered in kernels)
    if spread is None or spread > SPREAD_MAX:
        report.note(f"  with the host kernel's: skipped, for its part differs by itself ({told} M; --runs 9 finds quieter starts)")
        return
    kernel = kernels[1][0] - kernels[0][0]
    report.row("... and the host kernel's", own + kernel, "M", INSTRUCTIONS_MAX,
               detail=f"the kernel's part {kernel:.2f}; starts without and with it took {told}")  # fmt: skip


def _more(counts: list[float]) -> float:
    return (counts[1] - counts[0]) / MILLION


def _memory(lab: BenchLab, report: Report) -> None:
    sizes = []
    for monitor in (DUET, WITH_API):
        lab.shell(f"rm -f {HOME}/api.sock")
        boot = lab.boot_of(KERNEL, "base", "", idle.SCRIPT)
        sizes.append(idle.outside_pss(idle.guest(lab, monitor.command(boot), "cat /proc/$pid/smaps")))
    report.row("memory", sizes[1] - sizes[0], "MiB", MEMORY_MAX, detail=f"{sizes[0]:.2f} without")
