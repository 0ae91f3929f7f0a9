# SPDX-License-Identifier: Apache-2.0
"""What the host's manager costs itself: beside idle machines, and for one decision over many."""

import json
import re

from ..base.errors import LabError
from ..base.paths import LAB
from ..experiment.lab import HOME, KERNEL, WITH_KIT, ExperimentLab
from ..experiment.managed import DIRECTORY, PID, Managed
from ..experiment.subject import MARK_END, MARK_START
from ..guest import images, kit, vm
from . import profile
from .lab import BenchLab
from .report import Report

SECONDS = 20
GUESTS = 8  # real ones: the lab's memory would hold three times as many, but they take minutes to start
GUEST_MIB = 128
PLAYED = 50
PLAYERS = LAB / "host" / "players.py"
CPU_MAX, MEMORY_MAX = 0.5, 8  # % of a CPU, MiB
INSTRUCTIONS = 2.5e9  # a second: one a cycle, at 2.5 GHz

VMS, DECISION_MAX = 1000, 10  # ms
POLICY_FILES = {"memory.c", "working_set.c", "cpu.c", "locality.c"}
POLICY_NAMES = r"memory_(look|level|decide|allowed|reclaim_step)$"  # of those of their functions that others call

_SCRIPT = kit.PREPARE + WITH_KIT + 'echo "bench: idle"\nexec sleep 100000\n'

_BOOT = """
cd {directory}; mkfifo awake
for n in $(seq {guests}); do
	{duet} --api-sock {directory}/idle$n.sock <awake >console$n 2>&1 & echo $! >>pids
done
exec 3>awake
for n in $(seq {guests}); do
	until grep -q "bench: idle" console$n; do kill -0 $(sed -n "$n p" pids) || {{ tail -5 console$n >&2; exit 1; }}; sleep 1; done
done
echo "all idle"; wait
"""


def _guests(lab: ExperimentLab):
    """They run while it is entered."""
    initrd = images.initrd(KERNEL, "base", _SCRIPT, kit.files(KERNEL))
    duet = (f"{HOME}/duet run --cache {HOME}/kernels --entropy off --kernel {lab.path(images.kernel(KERNEL))} "
            f"--initrd {lab.path(initrd)} --memory {GUEST_MIB}M --cpus 2 --coop --balloon stats=1,deflate-on-oom=on "
            "--cmdline quiet")  # fmt: skip
    script = _BOOT.format(directory=DIRECTORY, guests=GUESTS, duet=duet)
    return vm.running("all idle", *vm.lab_command("sh", "-c", script, direct=not lab.counts))


def _players(lab: ExperimentLab):
    command = ["python3", lab.path(PLAYERS), DIRECTORY, str(PLAYED), f"{HOME}/brief.json"]
    return vm.running("playing", *vm.lab_command(*command, direct=not lab.counts))


def _look(lab: ExperimentLab) -> dict:
    """Of duetd, over SECONDS: instructions, its part of the time; and what memory it takes."""
    text = lab.shell(f"""
pid=$(cat {PID}); ran() {{ cut -d' ' -f1 /proc/$pid/schedstat; }}
before=$(ran); {HOME}/workload retired $pid {SECONDS}; after=$(ran)
echo $((after - before)) $(awk '/^VmHWM/ {{ print $2 }}' /proc/$pid/status) $(awk '/^Pss:/ {{ print $2 }}' /proc/$pid/smaps_rollup)
""")
    counts, rest = text.strip().splitlines()
    ran, most, pss = map(int, rest.split())
    return {**json.loads(counts), "ran": ran, "most": most / 1024, "pss": pss / 1024}


def _rows(report: Report, words: str, found: dict) -> None:
    each = found["instructions"] / (found["ns"] / 1e9)
    report.row(f"{words}: CPU of duetd", 100 * each / INSTRUCTIONS, "%", CPU_MAX, at_most=False,
               detail=f"{each / 1e6:.2f} M instructions a second, {100 * found['user'] / max(1, found['instructions']):.0f} % its own, the rest "
                      f"the kernel's; at one a cycle and 2.5 GHz. Of the time here {100 * found['ran'] / found['ns']:.2f} %")  # fmt: skip
    report.row(f"{words}: memory of duetd, at most", found["most"], "MiB", MEMORY_MAX, detail=f"PSS {found['pss']:.2f} MiB")


def _seen(host: Managed, count: int) -> None:
    host.until(lambda machines: len(machines) >= count and all("weight" in one for one in machines.values()), f"{count} machines weighed")


def _brief(lab: ExperimentLab) -> None:
    """One machine's answer as it is, for those who play."""
    lab.shell(f"curl -sS --unix-socket {DIRECTORY}/idle1.sock http://localhost/duet/brief >{HOME}/brief.json && "
              f"grep -q working_set_bytes {HOME}/brief.json")


def idle(lab: ExperimentLab, report: Report) -> None:
    with Managed(lab) as host:
        with _guests(lab):
            host.start()
            _seen(host, GUESTS)
            _rows(report, f"{GUESTS} idle guests", _look(lab))
            _brief(lab)
            lab.shell(f"kill -KILL $(cat {DIRECTORY}/pids); true")
        host.end()
        lab.shell(f"rm -f {DIRECTORY}/*.sock")
        with _players(lab):
            host.start()
            _seen(host, PLAYED)
            _rows(report, f"{PLAYED} played machines", _look(lab))
            host.end()


# A decision


def _decision_time(text: str) -> tuple[int, int]:
    """How many decisions, and microseconds of each, as duetd simulate tells."""
    seconds = re.search(r"(\d+) s; pages", text)
    time = re.search(r"(?m)^working-set .* (\d+) us$", text)
    if not seconds or not time:
        raise LabError(f"duetd simulate: {text[:300]}")
    return int(seconds.group(1)), int(time.group(1))


def decision(lab: BenchLab, report: Report) -> None:
    """Of policies over VMS machines of a made trace: their functions, without those of libraries that they call."""
    report.heading(f"duetd: a decision over {VMS} machines (memory, CPU and NUMA)")
    program = lab.duet.with_name("duetd")
    run = "/tmp/bench-duetd"
    lab.shell(f"set -e; mkdir -p {run}; cp {lab.path(program)} {run}/; {run}/duetd simulate --make {VMS} >{run}/trace")
    if lab.counts:
        profile.expect(lab.host, MARK_START, MARK_END)
    mark = "/tmp/bench/mark" if lab.counts else ":"
    text = lab.shell(f"{mark} {MARK_START}; {run}/duetd simulate --policy working-set {run}/trace; {mark} {MARK_END}; rm -rf {run}", 900)
    decisions, time = _decision_time(text)
    if not lab.counts:
        report.row("time", time / 1000, "ms", DECISION_MAX, at_most=False)
        return
    counts = profile.by_function(profile.take(lab.host), profile.program_symbols(program), False, profile.STATIC)
    each = sum(counts[name] for name in profile.functions_of(program, POLICY_FILES, POLICY_NAMES)) / decisions
    if not each:
        report.note("  skipped: duetd is not linked statically, so its functions cannot be told apart (-Dstatic_link=true)")
        return
    report.row("at one instruction a cycle and 2.5 GHz", 1000 * each / INSTRUCTIONS, "ms", DECISION_MAX, at_most=False,
               detail=f"{each / 1e6:.2f} M instructions, of {decisions} decisions; emulated time of one: {time / 1000:.1f} ms")  # fmt: skip


def measure(lab: ExperimentLab, report: Report) -> None:
    report.heading(f"duetd beside idle machines, over {SECONDS} s")
    idle(lab, report)

