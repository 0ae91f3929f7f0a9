# SPDX-License-Identifier: Apache-2.0
"""The place where the benchmarks run: a lab host of their own, or this machine's KVM."""

import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..guest import images, rootfs
from ..host import counter, plugin
from ..host.place import Place
from .monitors import DUET, HOME, PEERS, TAP, Boot, Monitor

MARK_EXEC = 40  # the monitor is about to be exec'd
MARK_INIT = 110  # the guest's first process runs
LOOK_SECONDS = 0.2
GRACE_SECONDS = 10
MARK_VMRUN = 65535  # the plugin's own: a guest is entered the first time after a mark


class BenchLab(Place):
    """A lab host with both plugins; the monitors and what they boot are copied into its memory."""

    def __init__(self, duet: Path, keep: bool) -> None:
        super().__init__(duet, keep, profile=True)
        self.peers: list[Monitor] = []
        self._staged: set[tuple[str, str]] = set()

    def tidy(self) -> None:
        self.shell(f"ip link del {TAP}; rm -rf {HOME}; true")

    def prepare(self) -> None:
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

    def boot_of(self, kernel: str, image: str, words: str, script: str | None = None,
                files: dict[str, bytes] | None = None) -> Boot:  # fmt: skip
        """The kernel and an initrd with `mark` and FILES in it, copied next to the monitors."""
        initrd = images.initrd(
            kernel, image, script, {"bin/mark": plugin.mark_program().read_bytes()} | (files or {})
        )
        for path, name in ((images.kernel(kernel), kernel), (initrd, initrd.name)):
            if (str(path), name) not in self._staged:
                self.shell(f"cp {self.path(path)} {HOME}/{name}")
                self._staged.add((str(path), name))
        return Boot(f"{HOME}/{kernel}", f"{HOME}/{initrd.name}", words)

    def counted(self, monitor: Monitor, boot: Boot, limit: int = 300) -> dict | None:
        """Instructions of one start, None if it did not come to user space within LIMIT seconds
        (of a busy machine): `init`, up to the guest's first process, and `vmrun`, up to the first
        entry of a guest."""
        marks = self._marks_of(shlex.join(monitor.command(boot)), limit)
        start = _first(marks, MARK_EXEC, False)
        ends = {"init": _first(marks, MARK_INIT, True), "vmrun": _first(marks, MARK_VMRUN, None)}
        if not start or not all(ends.values()):
            return None
        return {name: _difference(start["sum"], end["sum"]) for name, end in ends.items()}

    def _marks_of(self, command: str, limit: int) -> list[dict]:
        """A monitor that does not end by itself soon after its guest's first process ran is ended."""
        counter.marks(self.host)
        marks: list[dict] = []
        with ThreadPoolExecutor(1) as worker:
            running = worker.submit(
                self.shell,
                f"cd {HOME}; {HOME}/mark {MARK_EXEC} exec {command} >{HOME}/output 2>&1 </dev/null & "
                f"echo $! >{HOME}/pid; wait; true",
                limit=limit + 60,
            )
            end = time.monotonic() + limit
            while not running.done() and time.monotonic() < end:
                time.sleep(LOOK_SECONDS)
                marks += counter.marks(self.host)["marks"]
                if _first(marks, MARK_INIT, True):
                    end = min(end, time.monotonic() + GRACE_SECONDS)
            if not running.done():
                self.shell(f"kill -KILL $(cat {HOME}/pid); true")
            running.result()
        return marks + counter.marks(self.host)["marks"]

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
