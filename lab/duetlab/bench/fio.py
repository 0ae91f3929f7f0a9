# SPDX-License-Identifier: Apache-2.0
"""What a 4 KiB random read costs in kicks, interrupts and exits, by fio in a Debian guest."""

import json
import shlex

from ..experiment.subject import causes
from .lab import BenchLab
from .monitors import HOME
from .report import Report

KERNEL = "6.1-cloud"
REQUESTS = 2000
DEPTHS = (1, 32)
RUNS = 3  # each is judged: what is well in one and not in the next is not understood
DISK = "/scratch/bench-disk"

SCRIPT = f"""
for depth in {" ".join(map(str, DEPTHS * RUNS))}; do
	echo "bench: ready"
	sleep 4
	fio --name=read --filename=/dev/vdb --direct=1 --rw=randread --bs=4k --ioengine=libaio \\
		--iodepth=$depth --number_ios={REQUESTS} --output=/tmp/fio.json --output-format=json
	echo "bench: done"
	sleep 4
done
poweroff -f
"""

# A signal for statistics after each of the guest's lines, two seconds into its pause.
_RUN = """
cd {home}; rm -f output stats.json
dd if=/dev/urandom of={disk} bs=1M count=128 conv=fsync 2>/dev/null
{command} >output 2>&1 </dev/null & pid=$!
for n in {samples}; do
	tries=0
	until [ "$(grep -c "bench: ready\\|bench: done" output)" -ge $n ]; do
		sleep 0.5; tries=$((tries + 1))
		[ $tries -lt 400 ] && kill -0 $pid || {{ tail -5 output >&2; kill -9 $pid; exit 1; }}
	done
	sleep 1; rm -f stats.json; kill -USR1 $pid
	until [ -s stats.json ]; do sleep 0.1; done
	cp stats.json stats.$n
done
kill -9 $pid; wait $pid; rm -f {disk}
for n in {samples}; do cat stats.$n; echo ====; done
"""


def _statistics(lab: BenchLab) -> list[dict]:
    boot = lab.boot_of(KERNEL, "base", "", SCRIPT)
    command = [f"{HOME}/duet", "run", "--kernel", boot.kernel, "--initrd", boot.initrd,
               "--memory", "512M", "--cache", f"{HOME}/cache", "--stats", f"{HOME}/stats.json",
               "--disk", f"path={lab.path(lab.debian_image())},readonly=on",
               "--disk", f"path={DISK},cache=direct",
               "--cmdline", "duet.root=/dev/vda duet.rootflags=ro"]  # fmt: skip
    samples = " ".join(str(n + 1) for n in range(2 * RUNS * len(DEPTHS)))
    text = lab.shell(_RUN.format(home=HOME, disk=DISK, command=shlex.join(command),
                                 samples=samples), limit=1500)  # fmt: skip
    return [json.loads(part) for part in text.split("====\n")[:-1]]


def _disk(statistics: dict) -> dict:
    """The counters of the second disk's queue."""
    disks = [d for d in statistics["devices"] if "block" in d["type"]]
    queue = next(iter(disks[1]["queues"].values()))
    return {**{k: v for k, v in disks[1].items() if isinstance(v, int)}, **queue}


def measure(lab: BenchLab, report: Report) -> None:
    report.heading(f"4 KiB random reads by fio, {REQUESTS} for each depth, {RUNS} times")
    samples = _statistics(lab)
    for number, depth in enumerate(DEPTHS * RUNS):
        before, after = samples[2 * number], samples[2 * number + 1]
        then, now = _disk(before), _disk(after)
        used = {name: now[name] - then.get(name, 0) for name in now if isinstance(now[name], int)}
        found = causes(before, after)
        _rows(report, f"run {number // len(DEPTHS) + 1}, depth {depth}", depth, used, found)


def _rows(report: Report, name: str, depth: int, used: dict, found: dict[str, int]) -> None:
    console = found.pop("serial", 0)
    exits = sum(found.values()) / REQUESTS
    kicks = used["kicks"] / REQUESTS
    detail = ", ".join(f"{name} {count}" for name, count in found.items())
    if depth == 1:
        report.row(f"{name}: kicks a request", kicks, "", 1.02)
        report.row(f"{name}: interrupts a request", used["interrupts"] / REQUESTS, "", 1.02)
        report.row(f"{name}: other exits to user space", exits, "", 0.02,
                   detail=f"{detail or 'none'}; console {console}")  # fmt: skip
    else:
        report.row(f"{name}: kicks and exits a request", kicks + exits, "", 0.3,
                   detail=f"kicks {kicks:.3f}; {detail or 'no exits'}; console {console}")  # fmt: skip
        report.row(f"{name}: interrupts a request", used["interrupts"] / REQUESTS, "")


