# SPDX-License-Identifier: Apache-2.0
"""Where experiments run: duet and the workload copied in, tap interfaces, peers and disks."""

import contextlib
import os
import platform
import subprocess
from pathlib import Path

from ..base.paths import LAB, REPOSITORY
from ..guest import images, kit, vm
from ..host import counter, plugin
from ..host.place import Place

HOME = "/tmp/duet-experiments"
WORKLOAD = LAB / "experiments" / "workload"
TIMER = os.path.relpath(REPOSITORY / "guest" / "lib" / "timer.c", WORKLOAD)  # libduet's
FLAGS = f"-std=gnu11 -O2 -static -Wall -I {plugin.SOURCES} -lm".split()
KERNEL = "6.1-amd64"
IO_CPU, VCPU_CPU = 0, 1  # host CPUs: of I/O threads and peers, of the guest's vCPU
PORT = 7777


def workload() -> Path:
    """The static program that guests and peers run."""
    sources = (*sorted(path.name for path in WORKLOAD.glob("*.c")), TIMER)
    return plugin.compiled("workload", sources, FLAGS, WORKLOAD)


class ExperimentLab(Place):
    """Nothing else may run in it: the plugin counts all that does."""

    def prepare(self) -> None:
        self.taps: list[str] = []
        self.disks: list[str] = []
        program = workload()
        self.shell(f"set -e; mkdir -p {HOME}; cp {self.path(self.duet)} {HOME}/duet; "
                   f"cp {self.path(program)} {HOME}/workload; modprobe -q tun || true; modprobe -q vhost_net || true")

    def tidy(self) -> None:
        links = "".join(f"ip link del {name}; " for name in self.taps)
        self.shell(f"{links} rm -rf {HOME} {' '.join(self.disks)}; true")

    @property
    def environment(self) -> str:
        return "lab" if self.counts else "hardware"

    def versions(self) -> dict:
        record = self.host.record() if self.counts else {}
        duet = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True,
                              check=False, cwd=self.host.repository).stdout.strip()
        return {"kernel": record.get("kernel") or platform.release(),
                "qemu": record.get("qemu", "none: hardware"), "duet": duet or "unknown",
                "guest_kernel": images.release(KERNEL)}  # fmt: skip

    def tap(self, name: str, address: str) -> str:
        """A tap interface that holds ADDRESS/24, without IPv6's chatter; its name."""
        self.shell(f"set -e; ip link del {name} 2>/dev/null || true; "
                   f"ip tuntap add {name} mode tap vnet_hdr; "
                   f"echo 1 >/proc/sys/net/ipv6/conf/{name}/disable_ipv6 || true; "
                   f"ip addr add {address}/24 dev {name}; ip link set {name} up")
        self.taps.append(name)
        return name

    def disk(self, name: str, mebibytes: int) -> str:
        """A file with data in it, on a local file system; its path."""
        path = f"{self.local}/duet-{name}"
        self.disks.append(path)
        self.shell(f"set -e; rm -f {path}; "
                   f"dd if=/dev/zero of={path} bs=1M count={mebibytes} conv=fsync 2>/dev/null")
        return path

    def empty_disks(self, sizes: dict[str, int]) -> dict[str, str]:
        """Files of zeroes that take no space, on a local file system, by name: SIZES in MiB. Their paths."""
        paths = {name: f"{self.local}/duet-{name}" for name in sizes}
        self.disks += paths.values()
        self.shell("set -e; " + "; ".join(f"rm -f {paths[name]}; truncate -s {size}M {paths[name]}" for name, size in sizes.items()))
        return paths

    @property
    def local(self) -> str:
        """A folder on a disk of its own."""
        return "/scratch" if self.counts else "/var/tmp"

    def background(self, *command: str, ready: str):
        """COMMAND beside the guest, pinned with the I/O threads, once it has printed READY."""
        return vm.running(ready, *vm.lab_command("taskset", "-c", str(IO_CPU), *command,
                                                 direct=not self.counts))

    def peer(self, address: str):
        return self.background(f"{HOME}/workload", "serve", address, str(PORT), ready="serving")

    def crowd(self, others: int):
        """OTHERS programs that never rest on the CPU of the guest's vCPUs."""
        # Each in a session of its own: a host with autogroups shares its CPU among sessions.
        script = ("trap 'kill $pids' TERM; "
                  f"for i in $(seq {others}); do setsid taskset -c {VCPU_CPU} sh -c 'while :; do :; done' & pids=\"$pids $!\"; done; "
                  "echo crowded; wait")
        return vm.running("crowded", *vm.lab_command("sh", "-c", script, direct=not self.counts))

    def vcpu_times(self, pid_file: str) -> tuple[int, int]:
        """For how long the first vCPU's thread has run, and waited for a CPU, in nanoseconds: as its host's scheduler has it."""
        told = self.shell(f"for task in /proc/$(cat {pid_file})/task/*; do case $(cat $task/comm) in vcpu0) "
                          "cat $task/schedstat ;; esac; done")
        ran, waited, _slices = told.split()
        return int(ran), int(waited)

    def quota(self, pid_file: str, share: float) -> None:
        """The program whose id is in PID_FILE has a SHARE of one CPU, in turns of a second."""
        self.shell(f"set -e; group=/sys/fs/cgroup/duet-experiment; mkdir -p $group; "
                   f"echo {int(share * 1000000)} 1000000 >$group/cpu.max; cat {pid_file} >$group/cgroup.procs")

    def pin(self, pid_file: str, io: int = IO_CPU, vcpu: int = VCPU_CPU) -> str:
        """The vCPU on the CPU of that number, all other threads and vhost's worker on IO; what became so."""
        cpus = int(self.shell("nproc"))
        if cpus <= max(io, vcpu):
            return ""
        return self.shell(f"""
pid=$(cat {pid_file}); set -- /proc/$pid/task/*
for worker in $(pgrep -f "^\\[?vhost-$pid" || true); do set -- "$@" /proc/$worker; done
for task in "$@"; do
	read -r name <$task/comm
	case $name in vcpu* | CPU*) cpu={vcpu} ;; *) cpu={io} ;; esac
	taskset -cp $cpu ${{task##*/}} >/dev/null && echo "$name on CPU $cpu"
done""").strip()

    @contextlib.contextmanager
    def steady(self):
        """Without what the host does by the clock, in the lab some number of instructions and another one each time: KVM's halt
        polling, which spins for a vCPU, and NUMA balancing, which takes pages from a guest to see who touches them."""
        files = ("/sys/module/kvm/parameters/halt_poll_ns", "/proc/sys/kernel/numa_balancing")
        before = self.shell("; ".join(f"cat {file}; echo 0 >{file}" for file in files)).split()
        try:
            yield
        finally:
            self.shell("; ".join(f"echo {value} >{file}" for file, value in zip(files, before, strict=True)))

    def marks(self) -> list[dict]:
        """Those since the last call, oldest first, with counts as they were then; none on hardware."""
        return counter.marks(self.host)["marks"] if self.counts else []

    def executed(self) -> int | None:
        """Instructions of the lab host and its guests since it started; None on hardware."""
        return counter.count(self.host)["sum"]["instructions"] if self.counts else None

    def touches(self) -> dict:
        """What the plugin has counted of marked blocks' accesses: see counter.touches."""
        return counter.touches(self.host)

    def governor(self) -> str:
        """The host's frequency scaling, empty when it has none to control."""
        path = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
        return self.shell(f"cat {path} 2>/dev/null || true").strip()


def initrd_of_guest(more: dict[str, bytes] | None = None, with_kit: bool = False) -> Path:
    programs = {"bin/workload": workload(), "bin/mark": plugin.mark_program()}
    files = {path: file.read_bytes() for path, file in programs.items()} | (more or {})
    if with_kit:
        return images.initrd(KERNEL, "base", kit.PREPARE + WITH_KIT + SERVE, kit.files(KERNEL) | files)
    return images.initrd(KERNEL, "base", SERVE, files)


WITH_KIT = """
modprobe duet || echo "duet.ko does not load"
mount -t debugfs none /sys/kernel/debug
"""

# The guest does what is typed, line by line.
SERVE = """
stty -echo 2>/dev/null
echo "@ready"
while read -r line; do
	eval "$line"
	echo "@done $?"
done
"""

__all__ = ["HOME", "KERNEL", "PORT", "SERVE", "ExperimentLab", "initrd_of_guest", "workload"]
