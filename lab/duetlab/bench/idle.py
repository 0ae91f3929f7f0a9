# SPDX-License-Identifier: Apache-2.0
"""Memory besides guest RAM, and what wakes the monitor of an idle guest."""

import json
import re
import shlex

from ..experiment.subject import causes
from .lab import DUET, BenchLab
from .monitors import HOME, MEMORY_MIB, Monitor
from .report import Report

KERNEL = "6.1-cloud"
OUTSIDE_MAX = 1.2  # MiB
IDLE_SECONDS = 10
SETTLE_SECONDS = 3

SCRIPT = """
ip link set eth0 up
dd if=/dev/vda of=/dev/null bs=64k count=64 2>/dev/null
echo "bench: idle"
exec sleep 100000
"""

# MONITOR in the background until the guest says that it is idle; then what MEASURE prints.
# Whoever waits does nothing meanwhile: it would be counted.
_RUN = """
cd {home}; rm -f output stats.json lines; mkfifo lines
{command} >output 2>&1 </dev/null & pid=$!
tail -n +1 -f --pid=$pid output >lines 2>/dev/null & lines=$!
timeout 240 grep -q -m 1 "bench: idle" lines || {{ tail -5 output >&2; kill -9 $pid $lines; exit 1; }}
kill $lines
sleep {settle}
{measure}
kill -9 $pid; wait $pid 2>/dev/null; true
"""

# Two statistics, the second after a while in which nothing happens.
SAMPLES = """
sample() {{ rm -f stats.json; kill -USR1 $pid; until [ -s stats.json ]; do sleep 0.1; done; }}
cat /proc/$pid/smaps
sample; cp stats.json first.json
sleep {seconds}
sample; echo ====; cat first.json; echo ====; cat stats.json
"""


def guest(lab: BenchLab, command: list[str], measure: str, settle: int = SETTLE_SECONDS) -> str:
    """What MEASURE prints, SETTLE seconds after the guest that COMMAND starts is idle."""
    return lab.shell(_RUN.format(home=HOME, command=shlex.join(command), settle=settle,
                                 measure=measure))  # fmt: skip


def _idle(lab: BenchLab, monitor: Monitor, measure: str) -> str:
    return guest(lab, monitor.command(lab.boot_of(KERNEL, "base", "", SCRIPT)), measure)


def exits_at_rest(first: str, second: str) -> dict[str, int]:
    """To user space, between two statistics; by cause."""
    return causes(json.loads(first), json.loads(second))


def outside_pss(smaps: str) -> float:
    """MiB, without the mappings as large as the guest's RAM."""
    total = 0
    for mapping in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", smaps):
        size, pss = (re.search(rf"(?m)^{name}: +(\d+) kB", mapping) for name in ("Size", "Pss"))
        if size and pss and int(size.group(1)) < MEMORY_MIB * 1024 * 3 // 4:
            total += int(pss.group(1))
    return total / 1024


def measure(lab: BenchLab, report: Report, parts: list[str]) -> None:
    text = _idle(lab, DUET, SAMPLES.format(seconds=IDLE_SECONDS if "idle" in parts else 0))
    smaps, first, second = text.split("====\n")
    if "memory" in parts:
        report.heading("Memory besides guest RAM, with a disk and a NIC (proportional set size)")
        for peer in lab.peers:
            _peer(lab, report, peer)
        report.row("duet", outside_pss(smaps), "MiB", OUTSIDE_MAX)
    if "idle" in parts:
        report.heading(f"Exits to user space of an idle guest in {IDLE_SECONDS} s")
        found = exits_at_rest(first, second)
        console = found.pop("serial", 0)
        shown = ", ".join(f"{name} {count}" for name, count in found.items())
        # A signal for statistics may interrupt a vCPU: that one is the measurement's.
        report.row("duet, besides the console's", sum(found.values()), "", 0, detail=shown)
        report.row("duet, the console's", console, "")


def _peer(lab: BenchLab, report: Report, peer: Monitor) -> None:
    try:
        report.row(peer.name, outside_pss(_idle(lab, peer, "cat /proc/$pid/smaps")), "MiB")
    except Exception as error:  # a peer that hangs is a result
        report.note(f"  {peer.name}: {error}")
