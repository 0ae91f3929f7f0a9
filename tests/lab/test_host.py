# SPDX-License-Identifier: Apache-2.0
"""What the lab's host is: it does not fall over, and has what a host of virtual machines has."""

import contextlib
import json
import os
import re
import shlex
import subprocess

import pytest
from calls import REPOSITORY, in_lab, lab, one_more, script
from duetlab.guest import images

STRESS_SECONDS = 600 if os.environ.get("DUET_SOAK") else 20
TRACE = "/sys/kernel/tracing"


@pytest.fixture(scope="module", autouse=True)
def up():
    result = lab("up", timeout=1800)
    assert result.returncode == 0, result.stderr.decode()


@contextlib.contextmanager
def busy_machine():
    """The machine's CPUs have other things to do, which is what the faults of an emulator like."""
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(3)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def identity() -> int:
    return json.loads(lab("status", "--json").stdout)["pid"]


def test_a_kernel_that_patches_itself():
    before = identity()
    with busy_machine():
        result = in_lab("lab/stress", str(STRESS_SECONDS), timeout=STRESS_SECONDS + 300)
    assert result.returncode == 0, result.stderr.decode()
    assert int(re.search(rb"flipped (\d+) times", result.stdout).group(1)) > 0
    assert identity() == before


def test_code_beside_data():
    """A program whose code and data share pages runs what it wrote last."""
    result = in_lab("python3", "tests/lab/code_beside_data.py")
    assert result.returncode == 0, result.stderr.decode()
    assert int(result.stdout.split()[0]) > 4000


# Of the host's kernel: what patches its code, and what each processor runs, by an IPI, when the first VM
# comes and when the last one goes. Their names have changed with its versions.
PATCHES = ("text_poke_bp_batch*", "smp_text_poke_batch_finish*")
SWITCHES = ("kvm_arch_enable_virtualization_cpu", "kvm_arch_disable_virtualization_cpu", "kvm_arch_hardware_enable",
            "kvm_arch_hardware_disable")


def traced(functions: tuple[str, ...], command: str) -> int:
    """How often FUNCTIONS, those that there are, were called in the lab host while COMMAND ran."""
    result = script(f"""
cd {TRACE} || exit 1
echo nop >current_tracer; echo >set_ftrace_filter
for name in {" ".join(f"'{name}'" for name in functions)}; do
	echo "$name" >>set_ftrace_filter 2>/dev/null && found=yes
done
[ "$found" ] || exit 1
echo function >current_tracer; echo 1 >tracing_on
# Switching the tracer on patches too: only what lies behind the mark counts.
echo begins >trace_marker
(cd {REPOSITORY} && {command}) || exit 1
echo ends >trace_marker
sed -n '/begins/,/ends/p' trace | grep -c ' <-'
echo nop >current_tracer; echo >set_ftrace_filter""")
    assert result.returncode == 0, result.stderr.decode()
    return int(result.stdout.split()[-1])


def test_a_machine_in_its_life_patches_no_kernel():
    """The agent holds a VM, so no other is the host's first or last: no code is patched, and no processor is
    interrupted for it. One whole life, from duet's start to its end."""
    flip = "echo 1 >/proc/sys/kernel/sched_schedstats; echo 0 >/proc/sys/kernel/sched_schedstats"
    online = "for on in 0 1; do echo $on >/sys/devices/system/cpu/cpu1/online || exit 1; done"
    assert traced(PATCHES, flip) >= 2, "the trace does not see what it is for"
    assert traced(SWITCHES, online) >= 2, "the trace does not see what it is for"
    files = [shlex.quote(str(path)) for path in (images.kernel("6.1-cloud"), images.initrd("6.1-cloud", "base", "true"))]
    life = f"build/duet run --kernel {files[0]} --initrd {files[1]} --memory 128M </dev/null | grep -q 'Linux version'"
    assert traced(PATCHES, life) == 0
    assert traced(SWITCHES, life) == 0


@pytest.fixture(scope="module")
def slow():
    """A lab host of another TSC frequency, with performance counters."""
    with one_more("slow") as env:
        result = lab("up", "--memory", "1024", "--tsc-ratio", "0.4", "--pmu", env=env, timeout=600)
        assert result.returncode == 0, result.stderr.decode()
        yield env


def tsc_mhz(**kwargs) -> float:
    log = script("dmesg", **kwargs).stdout.decode()
    return float(re.search(r"tsc: (?:Detected|Refined TSC clocksource calibration:) ([\d.]+) MHz", log).group(1))


def test_frequency_of_the_tsc(slow):
    assert tsc_mhz(env=slow) / tsc_mhz() == pytest.approx(0.4, rel=0.02)
    assert lab("up", "--tsc-ratio", "0.5", env=slow).returncode != 0
    assert lab("up", "--tsc-ratio", "9", env=slow).returncode == 2


def test_the_doctor_tells_the_frequency(slow):
    def found(**kwargs):
        return json.loads(in_lab("build/duet", "doctor", "--json", **kwargs).stdout)["tsc"]

    own, slower = found(), found(env=slow)
    assert (own["lab_ratio"], slower["lab_ratio"]) == (1.0, 0.4)
    assert slower["khz"] / own["khz"] == pytest.approx(0.4, rel=0.02)
    line = next(line for line in in_lab("build/duet", "doctor", env=slow).stdout.decode().splitlines()
                if line.startswith("TSC: "))
    assert "MHz, 0.4 of the machine's" in line


def test_tsc_scaling():
    found = json.loads(in_lab("build/duet", "doctor", "--json").stdout)
    assert found["host"]["tsc_scaling"]["usable"]


COUNT = r"""
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
# struct perf_event_attr: hardware event 1 (instructions), user space only.
attr = struct.pack("IIQQQQQ", 0, 112, 1, 0, 0, 0, 1 << 5 | 1 << 6).ljust(112, b"\0")
fd = libc.syscall(298, attr, 0, -1, -1, 0)
assert fd >= 0, os.strerror(ctypes.get_errno())
def count():
    return struct.unpack("Q", os.read(fd, 8))[0]
def loop(rounds):
    before = count()
    for _ in range(rounds):
        pass
    return count() - before
loop(1000)
print(loop(100000), loop(200000))
"""


def test_performance_counters(slow):
    once, twice = map(int, in_lab("python3", "-c", COUNT, env=slow).stdout.split())
    assert 100000 < once < 100000 * 200
    assert twice / once == pytest.approx(2, rel=0.05)
    assert b"AMD PMU driver" in script("dmesg", env=slow).stdout
    # Only when it is asked for: counters cost the host's kernel work at each entry and exit.
    assert b"AMD PMU driver" not in script("dmesg").stdout
