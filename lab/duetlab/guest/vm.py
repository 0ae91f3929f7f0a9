# SPDX-License-Identifier: Apache-2.0
"""A guest under duet, on hardware or in the nested lab, its console as a stream of lines.

Used by the demo, the tests, the benchmarks and the experiments. Nothing here waits for a time to
pass: every wait is for an event, with a limit after which it fails."""

import contextlib
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from pathlib import Path

from ..base.cache import cache_dir
from ..base.paths import DUET, LAB, REPOSITORY
from . import images

BOOT_LIMIT = 400  # seconds; a guest in the lab needs about 10, beside other work many more
LAB_FAILED = 125  # the exit status of lab/lab when it was the lab that failed


class GuestFailure(Exception):
    """What was awaited did not come; the message ends with the console's last lines."""


class LabFailure(GuestFailure):
    """The lab host died under the command: whatever the command was to say is not to be judged."""


@contextlib.contextmanager
def workspace():
    """A directory that the lab host sees under the same path, removed at the end."""
    home = cache_dir() / "run"
    home.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=home))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def lab_command(*command: str, stdin: bool = False, direct: bool = False) -> list[str]:
    """COMMAND as it is run where KVM is: right here, or in the lab host; DIRECT: here anyway."""
    lab = [str(LAB / "lab"), "exec", "--direct" if direct else "--auto"]
    return lab + ([] if stdin else ["-n"]) + ["--", *command]


def run(*command: str, check: bool = True, limit: float = 300, **more) -> subprocess.CompletedProcess:
    """COMMAND to its end, where KVM is."""
    result = subprocess.run(lab_command(*command), capture_output=True, text=True, timeout=limit,
                            check=False, cwd=REPOSITORY, **more)
    if result.returncode == LAB_FAILED:
        raise LabFailure(f"{' '.join(command)}: {result.stderr.strip()}")
    if check and result.returncode != 0:
        raise GuestFailure(f"{' '.join(command)}: exit status {result.returncode}\n"
                           f"{result.stdout}{result.stderr}")
    return result


def _filled(path: Path, step: int) -> list[int]:
    """Which pieces of STEP bytes hold anything but zeroes."""
    with open(path, "rb") as file:
        return [number for number, piece in enumerate(iter(lambda: file.read(step), b"")) if any(piece)]


def copy_sparse(source: Path, target: str):
    """SOURCE, a file of this machine, into TARGET, a file where duet runs.

    Only what is not zero is read there: the lab's shares know no holes."""
    step = 1 << 20
    script = ("import sys\n"
              "with open(sys.argv[1], 'rb') as source, open(sys.argv[2], 'wb') as target:\n"
              f"    for at in (int(number) * {step} for number in sys.argv[3:]):\n"
              "        source.seek(at)\n"
              "        target.seek(at)\n"
              f"        target.write(source.read({step}))\n"
              f"    target.truncate({source.stat().st_size})\n")
    run("python3", "-c", script, str(source), target, *map(str, _filled(source, step)), limit=900)


@contextlib.contextmanager
def running(ready: str, *command: str):
    """COMMAND, from the line with READY on; ended on leaving. Its output goes on in `stdout`."""
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        while ready not in (line := process.stdout.readline()):
            if not line:
                raise GuestFailure(f"{shlex.join(command)} ended without {ready!r}")
        yield process
    except Exception as error:
        # What else fails when the lab does is not to be judged. Its end may come a little later.
        with contextlib.suppress(subprocess.TimeoutExpired):
            if process.wait(timeout=1) == LAB_FAILED:
                raise LabFailure(f"{shlex.join(command)}: the lab host is gone, as it said above") from error
        raise
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        process.kill()


def give_address(link: str, address: str):
    """ADDRESS for LINK where duet runs. Two links with one would each get half of the answers: an
    error, for the tests that run at the same time need addresses of their own."""
    run("sh", "-c", f"other=$(ip -oneline address show to {address.split('/')[0]}) && "
                    'if [ "$other" ]; then echo "taken: $other"; exit 1; fi; '
                    f"ip address add {address} dev {link}")


@contextlib.contextmanager
def tap(address: str | None = "192.168.77.1/24", multi_queue: bool = False, vnet_hdr: bool = False):
    """A tap interface with ADDRESS where duet runs; its name."""
    name = f"t{uuid.uuid4().hex[:8]}"
    more = " multi_queue" * multi_queue + " vnet_hdr" * vnet_hdr
    run("sh", "-c", f"ip tuntap add {name} mode tap{more} && ip link set {name} up")
    try:
        if address:
            give_address(name, address)
        yield name
    finally:
        run("ip", "link", "del", name, check=False)


def _quiet(options: tuple[str, ...]) -> list[str]:
    """OPTIONS, by which the guest's kernel says on its console only what is wrong: its whole log is
    twenty thousand exits, and a fourth of a boot's time in the lab. `dmesg` has it all the same."""
    if "--cmdline" not in options:
        return [*options, "--cmdline", "quiet"]
    return [f"{words} quiet" if before == "--cmdline" else words
            for before, words in zip(("", *options), options)]


class Guest:
    """One `duet run`. Use as a context manager: leaving it ends whatever still runs.

    KERNEL is one of images.KERNELS, or a file, which then needs an INITRD of its own.
    PEER gives another monitor's command line for a kernel and an initrd."""

    # What stands before duet's own command line: keeps its process id.
    KEEP_PID = 'echo $$ >"$0"; exec "$@"'

    def __init__(self, *options: str, kernel: str | Path = "6.1-cloud", script: str | None = None,
                 image: str = "base", vmlinux: bool = False, initrd: Path | None = None,
                 files: dict[str, bytes] | None = None, memory: str = "512M",
                 program: Path | str = DUET, wrapper: tuple[str, ...] = (), direct: bool = False,
                 peer=None):
        self._home = contextlib.ExitStack()
        self.directory = self._home.enter_context(workspace())
        self.stats_path = self.directory / "stats.json"
        kernel_file = kernel if isinstance(kernel, Path) else (
            images.vmlinux(kernel) if vmlinux else images.kernel(kernel))
        initrd = initrd or images.initrd(kernel, image, script, files)
        self.command = [*wrapper, str(program), "run", "--kernel", str(kernel_file), "--initrd",
                        str(initrd), "--memory", memory, "--stats", str(self.stats_path), *_quiet(options)]
        if peer:
            self.command = [*wrapper, *peer(str(kernel_file), str(initrd))]
        self.pid_path = self.directory / "pid"
        self.command = ["sh", "-c", self.KEEP_PID, str(self.pid_path), *self.command]
        self.output = ""
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(
            lab_command(*self.command, stdin=True, direct=direct), cwd=REPOSITORY, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.kill()
        self._home.close()

    def _read(self):
        while chunk := os.read(self._process.stdout.fileno(), 65536):
            self._lines.put(chunk.decode(errors="replace").replace("\r", ""))
        self._lines.put(None)

    def _more(self, until: float) -> bool:
        """Take the next piece of the console; false when there is none any more."""
        left = until - time.monotonic()
        if left <= 0:
            raise GuestFailure(f"waited too long; the console's last lines:\n{self.tail()}")
        try:
            chunk = self._lines.get(timeout=left)
        except queue.Empty:
            return self._more(until)
        if chunk is None:
            self._lines.put(None)  # for who asks again
            return False
        self.output += chunk
        return True

    def _glance(self, seconds: float):
        """What comes on the console within SECONDS; an end does not."""
        try:
            chunk = self._lines.get(timeout=seconds)
        except queue.Empty:
            return
        if chunk is None:
            self._lines.put(None)
            raise GuestFailure(f"ended with status {self.finish()}; the console's last lines:\n{self.tail()}")
        self.output += chunk

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.output.splitlines()[-lines:])

    def wait_for(self, pattern: str, limit: float = BOOT_LIMIT, after: int = 0) -> re.Match:
        """The first match of PATTERN on the console, from character AFTER on."""
        until = time.monotonic() + limit
        while True:
            found = re.compile(pattern, re.MULTILINE).search(self.output, after)
            if found:
                return found
            if not self._more(until):
                self.finish()  # tells a lab host that died
                raise GuestFailure(f"ended without {pattern!r} on its console:\n{self.tail()}")

    def type(self, text: str):
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def signal(self, number: int):
        """To duet, wherever it runs."""
        self._process.send_signal(number)

    @property
    def pid(self) -> int:
        """The monitor's, where it runs. Known once its first line is there."""
        return int(self.pid_path.read_text())

    def children(self, name: str) -> list[str]:
        """Process ids of those that the monitor started (passt)."""
        found = run("pgrep", "-P", str(self.pid), f"^{name}", check=False).stdout.split()
        return [pid for pid in found if pid.isdigit()]

    def kill_monitor(self):
        """SIGKILL, as from outside: nothing of it goes on."""
        run("kill", "-KILL", str(self.pid))

    def finish(self, limit: float = BOOT_LIMIT) -> int:
        """Wait for the end; duet's exit status."""
        until = time.monotonic() + limit
        while self._more(until):
            pass
        status = self._process.wait(timeout=30)
        if status == LAB_FAILED:
            raise LabFailure(self.tail())
        return status

    def kill(self):
        if self._process.poll() is None:
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
                self._process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=10)
                    break
        self._process.stdin.close()

    @property
    def stats(self) -> dict:
        return json.loads(self.stats_path.read_text())

    def snapshot(self, limit: float = BOOT_LIMIT) -> dict:
        """Its statistics as of now."""
        self.stats_path.unlink(missing_ok=True)
        self.signal(signal.SIGUSR1)
        until = time.monotonic() + limit
        while not self.stats_path.exists():  # written beside it and renamed: whole when it is there
            if time.monotonic() > until:
                raise GuestFailure(f"no statistics after SIGUSR1; the console's last lines:\n{self.tail()}")
            self._glance(0.05)
        return self.stats

    def succeed(self, limit: float = BOOT_LIMIT) -> str:
        """Wait for the end; the test script and duet must both have ended well. The console."""
        status = self.finish(limit)
        if status != 0 or "duet-guest: exit 0\n" not in self.output:
            raise GuestFailure(f"duet's exit status {status}; the console's last lines:\n"
                               f"{self.tail()}")
        return self.output
