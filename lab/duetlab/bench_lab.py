# SPDX-License-Identifier: Apache-2.0
"""The place where the benchmarks run: a lab host of their own, or this machine's KVM."""

import os
import shlex
import subprocess
from pathlib import Path

from . import guests, hardware, plugin, rootfs
from .errors import LabError
from .host import LabHost
from .monitors import DUET, HOME, PEERS, TAP, Boot, Monitor

MARK_EXEC = 40  # the monitor is about to be exec'd
MARK_INIT = 110  # the guest's first process runs
MARK_VMRUN = 65535  # the plugin's own: a guest is entered the first time after a mark
UP = dict.fromkeys(("qemu", "memory", "icount", "profile", "kernel_options"))


class BenchLab:
    """Use as a context manager: leaving it takes the lab host down if it was started here."""

    def __init__(self, duet: Path, keep: bool) -> None:
        self.host = LabHost()
        self.duet = duet.resolve()
        self.keep = keep
        self.counts = hardware.mode(self.host.repository)[0] != "hardware"
        self.peers: list[Monitor] = []
        self._staged: set[tuple[str, str]] = set()

    def __enter__(self):
        if self.counts:
            self.keep = self.keep or self.host.alive()
            self.host.up({**UP, "profile": True})
        self._prepare()
        return self

    def __exit__(self, *_exc):
        self.shell(f"ip link del {TAP}; rm -rf {HOME}; true")
        if self.counts and not self.keep:
            self.host.down()

    def describe(self) -> str:
        if not self.counts:
            return "On hardware KVM."
        record = self.host.record()
        return (f"In the nested lab: {record['qemu']}, Linux {record['kernel']}. "
                "Counts are comparable, times are emulated.")  # fmt: skip

    def shell(self, script: str, limit: float = 300) -> str:
        """What SCRIPT prints, run by sh where KVM is."""
        lab = str(self.host.repository / "lab" / "lab")
        command = [lab, "exec", "--auto", "-n", "--", "sh", "-c", script]
        result = subprocess.run(command, capture_output=True, text=True, timeout=limit,
                                check=False, cwd=self.host.repository)  # fmt: skip
        if result.returncode != 0:
            raise LabError(f"bench: {script.strip()[:60]}...: exit status {result.returncode}, "
                           f"{result.stderr.strip()[-300:]}")  # fmt: skip
        return result.stdout

    def path(self, path: Path) -> str:
        """Where the lab host sees a file of this machine."""
        shared = (self.host.repository, Path(os.path.expanduser("~/.cache/duet")))
        if not self.counts or any(path.is_relative_to(home) for home in shared):
            return str(path)
        return f"/host{path}"

    def _prepare(self) -> None:
        copies = [f"{self.path(self.duet)} {HOME}/duet", f"{plugin.mark_program()} {HOME}/mark"]
        for peer in PEERS:
            if found := peer.path():
                self.peers.append(peer)
                if peer.copy:
                    copies.append(f"{self.path(Path(found).resolve())} {HOME}/{peer.copy}")
        self.shell(
            f"set -e; rm -rf {HOME}; mkdir -p {HOME}; cd {HOME}; truncate -s 64M disk\n"
            + "".join(f"cp {copy}\n" for copy in copies)
            + f"ip link del {TAP} 2>/dev/null || true\n"
            f"ip tuntap add {TAP} mode tap; ip link set {TAP} up"
        )

    def boot_of(self, kernel: str, image: str, words: str, script: str | None = None) -> Boot:
        """The kernel and an initrd with `mark` in it, copied next to the monitors."""
        initrd = guests.initrd(
            kernel, image, script, {"bin/mark": plugin.mark_program().read_bytes()}
        )
        for path, name in ((guests.kernel(kernel), kernel), (initrd, initrd.name)):
            if (str(path), name) not in self._staged:
                self.shell(f"cp {self.path(path)} {HOME}/{name}")
                self._staged.add((str(path), name))
        return Boot(f"{HOME}/{kernel}", f"{HOME}/{initrd.name}", words)

    def counted(self, monitor: Monitor, boot: Boot, limit: int = 120) -> dict | None:
        """Instructions of one start, None if it did not come to user space within LIMIT seconds:
        `init`, up to the guest's first process, and `vmrun`, up to the first entry of a guest."""
        plugin.marks(self.host)
        command = shlex.join(monitor.command(boot))
        self.shell(
            f"cd {HOME}; timeout -s KILL {limit} {HOME}/mark {MARK_EXEC} exec {command} "
            f">{HOME}/output 2>&1 </dev/null; true",
            limit=limit + 60,
        )
        marks = plugin.marks(self.host)["marks"]
        start = _first(marks, MARK_EXEC, False)
        ends = {"init": _first(marks, MARK_INIT, True), "vmrun": _first(marks, MARK_VMRUN, None)}
        if not start or not all(ends.values()):
            return None
        return {name: _difference(start["sum"], end["sum"]) for name, end in ends.items()}

    def output(self) -> str:
        """What the last monitor printed, the guest's console."""
        return self.shell(f"cat {HOME}/output").replace("\r", "")

    def debian_image(self) -> Path:
        return rootfs.rootfs()


def _first(marks: list[dict], number: int, in_guest: bool | None) -> dict | None:
    found = (m for m in marks if m["id"] == number and in_guest in (None, m["in_guest"]))
    return next(found, None)


def _difference(before: dict, after: dict) -> dict:
    return {name: after[name] - before[name] for name in after}


__all__ = ["DUET", "MARK_EXEC", "MARK_INIT", "BenchLab"]
