# SPDX-License-Identifier: Apache-2.0
"""Runs one command in the lab host and is, for its caller, that command.

Threads: one sends standard input, one receives, the main one turns signals
into frames. Only whole frames are sent, under one lock."""

import fcntl
import json
import os
import signal
import socket
import struct
import sys
import termios
import threading
import time
import tty

from ..base.errors import LabError
from . import wire
from .life import LabHost

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
ENVIRONMENT = (
    "PATH HOME USER LOGNAME TERM COLORTERM NO_COLOR LANG LANGUAGE TZ COLUMNS LINES CI "
    "ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS LSAN_OPTIONS PYTHONPATH VIRTUAL_ENV PYENV_VERSION"
).split()
ENVIRONMENT_PREFIXES = ("DUET_", "LC_", "PYTEST_")
CHUNK = 64 * 1024
DEATH_SECONDS = 5  # between a lost connection and the end of QEMU itself
LAB_FAILED = 125


def environment(extra: list[str], tsc_ratio: float) -> dict[str, str]:
    """The caller's variables that mean something in the lab host, EXTRA ones, and what it is itself."""
    found = {
        name: value
        for name, value in os.environ.items()
        if name in ENVIRONMENT or name.startswith(ENVIRONMENT_PREFIXES)
    }
    for item in extra:
        name, given, value = item.partition("=")
        if given:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    found["DUET_LAB"] = "1"
    found["DUET_LAB_TSC_RATIO"] = str(tsc_ratio)
    return found


def _window_size() -> tuple[int, int]:
    try:
        data = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return 24, 80
    rows, columns = struct.unpack("HHHH", data)[:2]
    return rows or 24, columns or 80


def _packages_stamp() -> str:
    """Changes whenever a package is installed or removed on this machine."""
    try:
        return str(os.stat("/var/lib/dpkg/status").st_mtime_ns)
    except OSError:
        return ""


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


class Exec:
    def __init__(self, host: LabHost, record: dict, use_tty: bool, read_stdin: bool) -> None:
        self.host = host
        self.record = record
        self.tty = use_tty
        self.read_stdin = read_stdin
        self.sending = threading.Lock()
        self.credit = wire.WINDOW
        self.credit_changed = threading.Condition()
        self.stdin_wanted = True
        self.status: int | None = None
        self.wake_r, self.wake_w = os.pipe()
        self.sock: socket.socket

    def send(self, kind: bytes, data: bytes = b"") -> None:
        try:
            with self.sending:
                self.sock.sendall(wire.frame(kind, data))
        except OSError:
            pass  # the receiver sees the end of the connection and says so

    # Standard input

    def pump_stdin(self) -> None:
        while True:
            with self.credit_changed:
                self.credit_changed.wait_for(lambda: self.credit > 0 or not self.stdin_wanted)
                size = min(CHUNK, self.credit)
            if not self.stdin_wanted:
                return
            try:
                data = os.read(0, size)
            except OSError:
                data = b""
            if not data:
                self.send(wire.STDIN_END)
                return
            with self.credit_changed:
                self.credit -= len(data)
            self.send(wire.STDIN, data)

    def give_credit(self, count: int) -> None:
        with self.credit_changed:
            self.credit += count
            self.credit_changed.notify()

    # What comes back

    def receive(self) -> None:
        try:
            self.status = self.receive_frames()
        except BrokenPipeError:  # our own reader is gone, as if the command had met it
            self.status = 128 + signal.SIGPIPE
        except Exception as error:  # must not leave the main thread asleep
            print(f"lab: {type(error).__name__}: {error}", file=sys.stderr)
            self.status = LAB_FAILED
        finally:
            os.write(self.wake_w, b"\0")

    def receive_frames(self) -> int | None:
        parser = wire.Parser()
        while True:
            try:
                data = self.sock.recv(CHUNK)
            except OSError:
                return None
            if not data:
                return None
            for kind, body in parser.feed(data):
                status = self.handle(kind, body)
                if status is not None:
                    return status

    def handle(self, kind: bytes, body: bytes) -> int | None:
        if kind == wire.STDOUT:
            _write_all(1, body)
        elif kind == wire.STDERR:
            _write_all(2, body)
        elif kind == wire.CONSUMED:
            self.give_credit(struct.unpack("!I", body)[0])
        elif kind == wire.STDIN_CLOSED:
            with self.credit_changed:
                self.stdin_wanted = False
                self.credit_changed.notify()
        elif kind == wire.EXIT:
            end = json.loads(body)
            return end["code"] if "code" in end else 128 + end["signal"]
        elif kind == wire.REFUSED:
            refusal = json.loads(body)
            print(f"lab: {refusal['message']}", file=sys.stderr)
            return refusal["code"]
        return None

    # Signals

    def forward_signals(self) -> None:
        """Until the receiver writes a zero byte."""
        while True:
            for number in os.read(self.wake_r, 64):
                if number == 0:
                    return
                if number == signal.SIGWINCH:
                    self.send(wire.RESIZE, struct.pack("!HH", *_window_size()))
                else:
                    self.send(wire.SIGNAL, bytes([number]))

    def catch_signals(self) -> None:
        os.set_blocking(self.wake_w, False)
        signal.set_wakeup_fd(self.wake_w, warn_on_full_buffer=False)
        for number in FORWARDED + ((signal.SIGWINCH,) if self.tty else ()):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup stays nohup
                signal.signal(number, lambda *_: None)

    def run(self, argv: list[str], env: dict[str, str], cwd: str) -> int:
        rows, columns = _window_size()
        request = {
            "token": (self.host.state / "token").read_text(),
            "argv": argv,
            "cwd": cwd,
            "env": env,
            "tty": self.tty,
            "rows": rows,
            "columns": columns,
            "packages": _packages_stamp(),
            "umask": _umask(),
        }
        body = json.dumps(request).encode()
        if len(body) > wire.MAX_FRAME:
            raise LabError("the command's arguments and environment are too long", 126)
        self.catch_signals()
        try:
            self.sock = socket.create_connection(("127.0.0.1", self.record["port"]), timeout=30)
        except OSError:
            return self.lost()
        self.sock.settimeout(None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(wire.REQUEST, body)
        threading.Thread(target=self.receive, daemon=True).start()
        if self.read_stdin:
            threading.Thread(target=self.pump_stdin, daemon=True).start()
        else:
            self.send(wire.STDIN_END)
        self.forward_signals()
        return self.lost() if self.status is None else self.status

    def lost(self) -> int:
        """The connection ended before the command did: say why."""
        end = time.monotonic() + DEATH_SECONDS
        while self.host.alive(self.record) and time.monotonic() < end:
            time.sleep(0.05)
        if self.host.alive(self.record):
            message = f"the lab host's agent is gone; its console: {self.host.console}"
        elif self.host.record() != self.record:
            message = "the lab host was taken down while the command ran"
        else:
            message = f"the lab host crashed: {self.host.crash_reason()}"
        print(f"lab: {message}", file=sys.stderr, flush=True)
        return LAB_FAILED


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # the caller made it so; it may share it with others
            time.sleep(0.01)


def run(
    host: LabHost, record: dict, argv: list[str], *, use_tty=False, read_stdin=True, env=()
) -> int:
    """Run ARGV in the lab host in this working directory; its exit status."""
    if use_tty and not os.isatty(0):
        raise LabError("standard input is no terminal: leave --tty out", 2)
    saved = termios.tcgetattr(0) if use_tty else None
    if saved:
        tty.setraw(0)
    try:
        session = Exec(host, record, use_tty, read_stdin)
        return session.run(argv, environment(list(env), record["options"].get("tsc_ratio", 1.0)), os.getcwd())
    finally:
        if saved:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
