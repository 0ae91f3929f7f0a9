# SPDX-License-Identifier: Apache-2.0
"""What it takes to move a guest to another process, by duet and by QEMU, at rest and while it writes to its memory."""

import json
import shlex
import shutil

from ..base.errors import LabError
from ..base.paths import LAB
from ..experiment.lab import workload
from .lab import BenchLab
from .monitors import HOME, Boot
from .report import Report

KERNEL = "6.1-cloud"
MEMORY_MIB = 512
BUSY_PERCENT = 20  # of its memory, written to in a second
BUSY_MIB = 192
DOWNTIME_MS = 300  # allowed to both
SECONDS = 200  # for one to come to an end
SENT_MAX = 1.05  # pages for each that is not zero
DOWNTIME_SHARE = 0.25  # of QEMU's
BUSY_MOVES = 3
WARMUP = 3  # moves that do not count: 266, 98, 98, 46 and 23 ms were five in a row
MOVES = 5  # at rest: the lab stands still itself now and then, for longer than a move
SOCK, WAY = f"{HOME}/control", f"{HOME}/way"

IDLE = 'echo "bench: idle"\nexec sleep 100000\n'
BUSY = (f"workload travel /tmp/stop {BUSY_MIB} {(MEMORY_MIB << 8) * BUSY_PERCENT // 100} - - - >/tmp/travel &\n"
        "until grep -q travelling /tmp/travel; do sleep 0.1; done\n" + IDLE)  # fmt: skip

# TARGET waits, SOURCE's guest is idle; then what MOVE prints.
_RUN = """
cd {home}; rm -f output there {sock} {way}
{target} >there 2>&1 </dev/null & there=$!
{source} >output 2>&1 </dev/null & pid=$!
n=0
until grep -q "bench: idle" output && [ -S {way} ]; do
	n=$((n + 1))
	[ $n -lt 600 ] && kill -0 $pid && kill -0 $there || {{ tail -5 output there >&2; kill -9 $pid $there; exit 1; }}
	sleep 0.5
done
sleep 3
{move}
status=$?
kill -9 $pid $there 2>/dev/null; wait; exit $status
"""


def duet(boot: Boot) -> list[str]:
    """A machine with its control at SOCK."""
    return [f"{HOME}/duet", "run", "--cache", f"{HOME}/cache", "--kernel", boot.kernel, "--initrd", boot.initrd,
            "--memory", f"{MEMORY_MIB}M", "--disk", f"path={HOME}/disk", "--api-sock", SOCK, "--cmdline", boot.words]  # fmt: skip


def qemu(boot: Boot) -> list[str]:
    """The same by QEMU, without CONTROL."""
    return ["qemu-system-x86_64", "-M", "pc", "-enable-kvm", "-cpu", "host", "-m", str(MEMORY_MIB), "-smp", "1",
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-kernel", boot.kernel,
            "-initrd", boot.initrd, "-append", f"console=ttyS0 {boot.words}",
            "-drive", f"if=none,id=disk,format=raw,file={HOME}/disk", "-device", "virtio-blk-pci,drive=disk"]  # fmt: skip


CONTROL = ["-qmp", f"unix:{SOCK},server=on,wait=off"]


def _duet(boot: Boot) -> tuple[list[str], list[str], str]:
    """Source, target, and how one is made the other."""
    move = (f"timeout {SECONDS} {HOME}/duet ctl {SOCK} migrate unix:{WAY} --downtime {DOWNTIME_MS} >/dev/null; "
            f"{HOME}/duet ctl {SOCK} get /duet/migration")  # fmt: skip
    return duet(boot), [f"{HOME}/duet", "run", "--incoming", f"unix:{WAY}"], move


def _qemu(lab: BenchLab, boot: Boot) -> tuple[list[str], list[str], str]:
    move = f"python3 {lab.path(LAB / 'host' / 'qmp.py')} {SOCK} move unix:{WAY} {DOWNTIME_MS} {SECONDS}"
    return [*qemu(boot), *CONTROL], [*qemu(boot), "-incoming", f"unix:{WAY}"], move


def _moved(lab: BenchLab, commands: tuple[list[str], list[str], str]) -> dict:
    source, target, move = commands
    script = _RUN.format(home=HOME, sock=SOCK, way=WAY, source=shlex.join(source), target=shlex.join(target), move=move)
    return json.loads(lab.shell(script, limit=900))


def _figures_of_duet(told: dict) -> dict:
    return {"done": told["state"] == "done", "sent": told["pages_sent"], "again": told["pages_resent"],
            "downtime": told["downtime_ns"] / 1e6, "rounds": told["rounds"]}  # fmt: skip


def _figures_of_qemu(told: dict) -> dict:
    """It does not say which pages it sent again."""
    return {"done": told["status"] == "completed", "sent": told["ram"]["normal"], "again": None,
            "downtime": told.get("downtime"), "rounds": told["ram"]["dirty-sync-count"]}  # fmt: skip


def _middle(moves: list[dict]) -> dict:
    """One of them, and of their downtimes the median; those that came to no end are the last."""
    order = sorted(moves, key=lambda one: (not one["done"], one["downtime"] or 0))
    return {**order[len(order) // 2], "downtimes": [one["downtime"] for one in moves], "endless": sum(not one["done"] for one in moves)}


def _moves(lab: BenchLab, boot: Boot, count: int) -> tuple[list[dict], list[dict], str]:
    """By duet, by QEMU, in turn, and why there are none or fewer of QEMU's."""
    ours, theirs = [], []
    words = "" if shutil.which("qemu-system-x86_64") else "QEMU is left out: no qemu-system-x86_64 on PATH"
    for _ in range(count):
        ours.append(_figures_of_duet(_moved(lab, _duet(boot))))
        try:
            if not words:
                theirs.append(_figures_of_qemu(_moved(lab, _qemu(lab, boot))))
        except LabError as error:  # a peer that hangs is a result
            words = f"QEMU: {error}"
    return ours, theirs, words


def _found(lab: BenchLab, report: Report, boot: Boot, count: int) -> tuple[dict, dict | None]:
    ours, theirs, words = _moves(lab, boot, count)
    if words:
        report.note(f"  {words}")
    return _middle(ours), _middle(theirs) if theirs and not words else None


def _told(found: dict) -> str:
    again = "" if found["again"] is None else f", {found['again']} of them again"
    each = ", ".join(f"{time:.0f}" for time in found["downtimes"] if time is not None)
    return f"{found['sent']} pages sent{again}, in {found['rounds']} rounds; each time: {each} ms"


def _rows(report: Report, ours: dict, theirs: dict | None) -> None:
    if theirs and theirs["done"]:
        report.row("QEMU: stood still", theirs["downtime"], "ms", detail=_told(theirs))
    elif theirs:
        report.note(f"  QEMU: came to no end in {SECONDS} s: {_told(theirs)}")
    limit = theirs["downtime"] * DOWNTIME_SHARE if theirs and theirs["done"] else None
    if ours["done"]:
        report.row("duet: stood still", ours["downtime"], "ms", limit, words="(a quarter of QEMU's)", detail=_told(ours))


def measure(lab: BenchLab, report: Report) -> None:
    program = {"bin/workload": workload().read_bytes()}
    report.heading(f"A guest of {MEMORY_MIB} MiB at rest goes to another process; it may stand still for {DOWNTIME_MS} ms")
    boot = lab.boot_of(KERNEL, "base", "", IDLE)
    _moves(lab, boot, WARMUP)  # the lab translates code when it first runs, here while the guest stands still
    ours, theirs = _found(lab, report, boot, MOVES)
    report.row("duet: pages sent for each that is not zero", ours["sent"] / (ours["sent"] - ours["again"]), "", SENT_MAX)
    _rows(report, ours, theirs)
    report.heading(f"... and one that writes to {BUSY_PERCENT} % of its memory in a second")
    ours, theirs = _found(lab, report, lab.boot_of(KERNEL, "base", "", BUSY, program), BUSY_MOVES)
    report.row(f"duet: moves that came to no end, of {BUSY_MOVES}", ours["endless"], "", 0)
    _rows(report, ours, theirs)
