# SPDX-License-Identifier: Apache-2.0
"""The lab host's life: up, down, status, and what became of one that is gone.

Each clone of the repository has a lab host and a state directory of its own."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..base import debian
from ..base.cache import cache_dir, write_atomically
from ..base.errors import LabError
from ..base.paths import REPOSITORY
from ..base.progress import step
from . import linux, machine, plugin, qemu

MEMORY = 4096  # MiB
SCRATCH_SIZE = 8 << 30
NVME_SIZE = 1 << 30
BOOT_SECONDS = 240  # a busy machine takes long; a hang takes for ever
BOOT_TRIES = 2
# One CPU gets no timer interrupts any more. Seen at two of some hundred starts, early in the boot.
STALLED = "kthread timer wakeup didn't happen"
DOWN_SECONDS = 20
AGENT_PYTHON = "/usr/bin/python3"
SHARE_PACKET = 512000  # bytes, as much as the kernel's 9p over virtio takes
# What `up` may be asked for; a lab host that is up must have what is asked.
OPTION_NAMES = ("qemu", "memory", "icount", "profile", "kernel_options", "tsc_ratio", "pmu", "cpus")


class Stalled(LabError):
    """The emulator's fault: another start is likely to do."""


def say(message: str) -> None:
    print(f"lab: {message}", file=sys.stderr, flush=True)


class LabHost:
    """The lab host of one clone; nothing here keeps it alive."""

    def __init__(self, repository: Path = REPOSITORY) -> None:
        self.repository = repository
        name = hashlib.sha256(str(repository).encode()).hexdigest()[:12]
        also = os.environ.get("DUET_LAB_NAME", "")
        if not re.fullmatch(r"[\w.-]{0,32}", also):
            raise LabError(f"DUET_LAB_NAME={also}: use letters, digits, . _ and - only", 2)
        self.state = cache_dir() / "lab" / (f"{name}-{also}" if also else name)
        self.console = self.state / "console.log"

    # What is known of it

    def record(self) -> dict:
        """What `up` wrote about the running lab host; empty if it was taken down."""
        try:
            return json.loads((self.state / "running.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def alive(self, record: dict | None = None) -> bool:
        record = self.record() if record is None else record
        return bool(record) and _start_time(record["pid"]) == record["start_time"]

    def crash_reason(self) -> str:
        """One line on how the last lab host ended without having been taken down."""
        console = self.console.read_text(errors="replace") if self.console.exists() else ""
        panic = re.search(r"Kernel panic - (.*)|(lab init: .*)", console)
        log = self.state / "qemu.log"
        last = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        if panic:
            reason = panic.group(0).strip()
        elif last:
            reason = last[-1]
        else:
            reason = "QEMU is gone"
        return f"{reason}; its console: {self.console}"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.state / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with step("lab: wait for another caller that starts or stops the lab host"):
                    fcntl.flock(file, fcntl.LOCK_EX)
            yield

    # Up

    def up(self, options: dict) -> dict:
        """The running lab host's record, started if it is down.

        OPTIONS: those of OPTION_NAMES; None means the default.
        Those given must fit a lab host that is already up."""
        record = self.record()
        wanted = os.environ.get("DUET_LAB_QEMU")
        if wanted and not options.get("qemu"):
            options = {**options, "qemu": wanted}
        if not self.alive(record):
            with self._locked():
                record = self.record()
                if not self.alive(record):
                    if record:
                        say(f"the lab host before this one crashed: {self.crash_reason()}")
                    record = self._start(options)
        self._check(record, options)
        return record

    def _check(self, record: dict, options: dict) -> None:
        for name, value in options.items():
            if value is not None and value != "any" and record["options"].get(name) != value:
                raise LabError(
                    f"the lab host is up with {name} {record['options'].get(name)}: "
                    "take it down first (lab/lab down)"
                )

    def _start(self, options: dict) -> dict:
        chosen = qemu.choose(options.get("qemu") or "mended", say)
        kernel = linux.find()
        if not os.path.exists(AGENT_PYTHON):
            debian.install_missing(["python3-minimal"])
        wanted = machine.Machine(
            qemu=chosen,
            # Under -icount QEMU 10 corrupts its guest when a plugin adds inline.
            plugin=None if options.get("icount") else plugin.plugin_for(chosen),
            profile=plugin.profile_plugin_for(chosen) if options.get("profile") else None,
            kernel=kernel.image,
            memory=options.get("memory") or MEMORY,
            state=self.state,
            repository=self.repository,
            cache=cache_dir(),
            icount=bool(options.get("icount")),
            kernel_options=options.get("kernel_options") or "",
            tsc_ratio=options.get("tsc_ratio") or 1.0,
            pmu=bool(options.get("pmu")),
            cpus=options.get("cpus") or machine.CPUS,
        )
        self._check_mended(wanted)
        with step(f"lab: start the lab host ({chosen.name}, Linux {kernel.release})"):
            started = time.monotonic()
            process, port = self._boot(wanted, kernel)
        record = {
            "pid": process.pid,
            "start_time": _start_time(process.pid),
            "port": port,
            "qemu": chosen.name,
            "kernel": kernel.release,
            "boot_seconds": round(time.monotonic() - started, 1),
            "options": {
                "qemu": "mended" if chosen.mended else "stock",
                "memory": wanted.memory,
                "icount": wanted.icount,
                "profile": bool(wanted.profile),
                "kernel_options": wanted.kernel_options,
                "tsc_ratio": wanted.tsc_ratio,
                "pmu": wanted.pmu,
                "cpus": wanted.cpus,
            },
        }
        write_atomically(self.state / "running.json", json.dumps(record).encode())
        (self.state / "starting.json").unlink()
        return record

    def _boot(self, wanted: machine.Machine, kernel: linux.Kernel) -> tuple[subprocess.Popen, int]:
        """The lab host when it is ready, and its agent's port."""
        tries = BOOT_TRIES
        while True:
            tries -= 1
            self._prepare(kernel)
            process = self._launch(wanted)
            try:
                self._wait_until_ready(process)
                return process, self._agent_port()
            except BaseException as error:  # interrupts too: no QEMU is left behind
                process.kill()
                process.wait()
                if not tries or not isinstance(error, Stalled):
                    raise
                say(f"{error}; starting another one")

    def _prepare(self, kernel: linux.Kernel) -> None:
        self._end_unfinished()
        for name in ("ready", "qmp.sock", "count.sock", "profile.sock", "running.json"):
            (self.state / name).unlink(missing_ok=True)
        for path in (self.console, self.state / "qemu.log"):
            if path.exists():
                os.replace(path, path.with_suffix(".old.log"))
        token = self.state / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(16))
        settings = {
            "repository": str(self.repository),
            "cache": str(cache_dir()),
            "state": str(self.state),
            "home": str(Path.home()),
            "modules": str(kernel.modules),
            "python": AGENT_PYTHON,
            "msize": str(SHARE_PACKET),
            "fresh": "mmap",
            "late": " ".join(linux.LATE),
        }
        script = self.repository / "lab/host/init"
        image = linux.initramfs(kernel, script, settings)
        write_atomically(self.state / "initramfs", image)
        _make_sparse(self.state / "nvme.raw", NVME_SIZE)
        scratch = self.state / "scratch.raw"
        _make_sparse(scratch, SCRATCH_SIZE)
        mkfs = shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if not mkfs:
            debian.install_missing(["e2fsprogs"])
        command = [mkfs or "/sbin/mkfs.ext4", "-q", "-F", "-E", "nodiscard", str(scratch)]
        subprocess.run(command, check=True)

    @staticmethod
    def _check_mended(wanted: machine.Machine) -> None:
        if not wanted.qemu.mended and (wanted.pmu or wanted.tsc_ratio != 1.0):
            raise LabError("--pmu and --tsc-ratio need the mended QEMU: leave --stock out", 2)

    def _launch(self, wanted: machine.Machine) -> subprocess.Popen:
        with open(self.state / "qemu.log", "w") as log:
            process = subprocess.Popen(
                machine.arguments(wanted),
                cwd=self.state,
                env={**os.environ, **machine.environment(wanted)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        born = {"pid": process.pid, "start_time": _start_time(process.pid)}
        write_atomically(self.state / "starting.json", json.dumps(born).encode())
        return process

    def _end_unfinished(self) -> None:
        """A caller that was killed while it started a lab host has left its QEMU."""
        path = self.state / "starting.json"
        if path.exists():
            left = json.loads(path.read_text())
            if self.alive(left):
                say("ending a lab host whose start was interrupted")
                os.kill(left["pid"], signal.SIGKILL)
            path.unlink()

    def _wait_until_ready(self, process: subprocess.Popen) -> None:
        end = time.monotonic() + BOOT_SECONDS
        while not (self.state / "ready").exists():
            if process.poll() is not None:
                raise LabError(f"the lab host does not start: {self.crash_reason()}")
            if self._has_stalled():
                raise Stalled(
                    f"a CPU of the lab host lost its timer at boot, it was ended; its console: {self.console}"
                )
            if time.monotonic() > end:
                raise LabError(
                    f"the lab host is not ready after {BOOT_SECONDS} s and was ended; "
                    f"its console: {self.console}"
                )
            time.sleep(0.05)

    def _has_stalled(self) -> bool:
        return self.console.exists() and STALLED in self.console.read_text(errors="replace")

    def _agent_port(self) -> int:
        shown = self.monitor("info usernet")
        match = re.search(
            rf"HOST_FORWARD\]\s+\S+\s+\S+\s+(\d+)\s+\S+\s+{machine.AGENT_PORT}", shown
        )
        if not match:
            raise LabError("QEMU does not tell the agent's port: " + shown.strip())
        return int(match.group(1))

    # QEMU's monitor

    def monitor(self, line: str) -> str:
        """The answer to one line of QEMU's human monitor."""
        answers = self._qmp(
            {"execute": "human-monitor-command", "arguments": {"command-line": line}}
        )
        return answers["return"]

    def _qmp(self, command: dict) -> dict:
        with connect_unix(self.state / "qmp.sock") as sock, sock.makefile("rw") as stream:
            sock.settimeout(10)
            stream.readline()
            for message in ({"execute": "qmp_capabilities"}, command):
                stream.write(json.dumps(message) + "\n")
                stream.flush()
                answer = _qmp_answer(stream)
        return answer

    # Down

    def down(self) -> bool:
        """Take the lab host down; whether there was one."""
        with self._locked():
            record = self.record()
            running = self.alive(record)
            self._end_unfinished()
            # First: those who wait for a command must not call this a crash.
            (self.state / "running.json").unlink(missing_ok=True)
            if running:
                self._end(record["pid"])
        return running

    def _end(self, pid: int) -> None:
        """Its file systems are not worth a shutdown: all of them start anew."""
        try:
            self._qmp({"execute": "quit"})
        except (OSError, LabError, json.JSONDecodeError):
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + DOWN_SECONDS
        while _start_time(pid):
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                end += DOWN_SECONDS
            time.sleep(0.05)


def connect_unix(path: Path) -> socket.socket:
    """A connection to the socket at PATH, however long its name is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{path.name}")
    except OSError:
        sock.close()
        raise
    finally:
        os.close(directory)
    return sock


def _qmp_answer(stream) -> dict:
    while True:
        line = stream.readline()
        if not line:
            return {"return": ""}
        answer = json.loads(line)
        if "error" in answer:
            raise LabError(f"QEMU's monitor: {answer['error']['desc']}")
        if "return" in answer:
            return answer


def _start_time(pid: int) -> int:
    """When the process started, in ticks since boot; 0 if it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def _make_sparse(path: Path, size: int) -> None:
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)
