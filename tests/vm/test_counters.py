# SPDX-License-Identifier: Apache-2.0
"""Performance counters that the host keeps for each vCPU, in stock guests with stock perf."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from duetlab.experiment.lab import workload
from duetlab.guest import kit, vm
from matrix import SOAK, soak, some

KERNELS = ("6.1-amd64", "6.12-amd64")
LIMIT = 300
SOFTWARE = {"task-clock", "context-switches", "cpu-migrations", "page-faults"}
HARDWARE = {"cycles", "instructions", "cache-references", "cache-misses", "branches", "branch-misses"}
ROUNDS = 20_000_000

GUEST = kit.PREPARE + """
modprobe duet selftest=1 || { dmesg | tail -20; exit 1; }
echo "events: $(ls /sys/bus/event_source/devices/duet/events | tr '\\n' ' ')"
for scope in thread 0; do
	echo "$scope: $(workload counters duet task-clock $scope %(rounds)d 0)"
done
echo "naps: $(workload counters duet task-clock+context-switches+page-faults thread 1000000 200)"
perf stat -x, -e duet/task-clock/,duet/page-faults/ true 2>&1 | sed 's/^/perf: /'
perf stat -a -x, -e duet/task-clock/ sleep 0.2 2>&1 | sed 's/^/all: /'
perf stat -e duet/task-clock/ sh -c 'for i in 1 2 3 4 5; do (:) & done; wait' 2>&1 | grep -q msec || exit 1
perf record -e duet/task-clock/ true 2>/dev/null && { echo "it samples"; exit 1; }
perf stat -e duet/task-clock/ sleep 100 &
until [ "$(cat /sys/module/duet/refcnt)" != 0 ]; do sleep 0.2; done
rmmod duet 2>/dev/null && { echo "unloaded while in use"; exit 1; }
kill %%1; wait
rmmod duet || exit 1
[ ! -e /sys/bus/event_source/devices/duet ] || exit 1
dmesg | grep -E "lockup|detected stalls|BUG:|WARNING: CPU|Call Trace" && { echo "the log has errors"; exit 1; }
echo "all counted"
""" % {"rounds": ROUNDS}


def perf_files() -> dict[str, bytes]:
    """This machine's perf with what it is linked to, for a guest without a C library."""
    perf = shutil.which("perf")
    if not perf:
        pytest.skip("no perf here to put into the guest: apt-get install linux-perf")
    listed = subprocess.run(["ldd", perf], capture_output=True, text=True, check=True).stdout
    paths = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    return {"bin/perf": Path(perf).read_bytes()} | {path.lstrip("/"): Path(path).read_bytes() for path in paths}


def said(output: str, word: str) -> str:
    """What the guest's script printed behind WORD."""
    return next(line for line in output.splitlines() if line.startswith(f"{word}: ")).split(": ", 1)[1]


def host_has_pmu() -> bool:
    return vm.run("test", "-e", "/sys/bus/event_source/devices/cpu", check=False).returncode == 0


def near(value: int, truth: int, share: float) -> bool:
    return abs(value - truth) <= truth * share


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_perf_stat(kernel):
    files = kit.files(kernel) | perf_files() | {"bin/workload": workload().read_bytes()}
    with vm.Guest("--coop", "yield=off", "--pmu", "pv", "--cpus", "2", kernel=kernel, memory="768M", files=files,
                  script=GUEST) as guest:
        output = guest.succeed(LIMIT)
    assert "all counted" in output, output[-2000:]
    names = {name for name in said(output, "events").split() if "." not in name}
    assert names == (SOFTWARE | HARDWARE if host_has_pmu() else SOFTWARE)
    thread, cpu, naps = (json.loads(said(output, word)) for word in ("thread", "0", "naps"))
    # The guest's own clock of the thread, less what the host gave to others.
    assert 0 < thread["events"][0]["count"] <= thread["events"][0]["enabled"] * 1.01, thread
    assert not SOAK or near(thread["events"][0]["count"], thread["thread_ns"], 0.2), thread
    assert 0 < cpu["events"][0]["count"] <= cpu["events"][0]["enabled"] * 1.01, cpu
    # Not while it sleeps. What the guest takes for enabled begins and ends a call later, two hundred times.
    assert 0 < naps["events"][0]["count"] < naps["ns"], naps
    assert float(said(output, "perf").split(",")[0]) > 0, output[-2000:]
    assert float(said(output, "all").split(",")[0]) > 0, output[-2000:]


@soak
def test_without_counters():
    """A machine with the device and without --pmu pv: the module does the rest, and there is no PMU."""
    script = kit.PREPARE + """
modprobe duet selftest=1 || exit 1
[ ! -e /sys/bus/event_source/devices/duet ] || exit 1
echo "no counters"
"""
    with vm.Guest("--coop", "yield=off", kernel=KERNELS[0], files=kit.files(KERNELS[0]), script=script) as guest:
        assert "no counters" in guest.succeed(LIMIT)
