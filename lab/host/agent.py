# SPDX-License-Identifier: Apache-2.0
"""The lab host's first process: runs commands for `lab exec`, reaps orphans.

It blocks in accept(); each connection gets a forked copy that runs one command
in a session of its own, so an exec starts no interpreter and one that fails
takes nothing else along."""

import errno
import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from duetlab.host import wire  # noqa: E402

PORT = 7000
CHUNK = 64 * 1024
BACKLOG = 1 << 20  # output waiting for a slow caller, in bytes; then the command waits
HANGUP_SECONDS = 2
DRAIN_CHUNKS = 32
NOT_EXECUTABLE, NOT_FOUND, LAB_FAILED = 126, 127, 125


class Refusal(Exception):
    def __init__(self, message: str, code: int = LAB_FAILED) -> None:
        super().__init__(message)
        self.code = code


def receive_request(conn: socket.socket, parser: wire.Parser, token: str) -> dict:
    """The first frame; whatever follows it stays in the parser's hands."""
    conn.settimeout(30)
    data = b""
    while True:
        frames = parser.feed(data)
        if frames:
            break
        data = conn.recv(CHUNK)
        if not data:
            raise Refusal("no request")
    kind, body = frames[0]
    request = json.loads(body) if kind == wire.REQUEST else {}
    if request.get("token") != token:
        raise Refusal("wrong token: this is another repository's lab host")
    request["early"] = frames[1:]
    return request


def forget_old_packages(state: str, stamp: str) -> None:
    """Packages installed on the machine since the last command: look again.

    The system's share is cached without revalidation, missing names included."""
    path = "/run/packages"
    try:
        with open(path) as file:
            seen = file.read()
    except FileNotFoundError:
        seen = stamp
    if seen != stamp:
        for what in ("4", "3"):  # say nothing in the log; drop all (1 to 4 are allowed)
            with open("/proc/sys/vm/drop_caches", "w") as file:
                file.write(what)
    with open(path, "w") as file:
        file.write(stamp)


def set_window(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def run_child(request: dict, fds: tuple[int, int, int], failure: int) -> None:
    """In the child: become the command. Never returns."""
    try:
        os.setsid()
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
        if request["tty"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
                signal.signal(number, signal.SIG_DFL)
        os.closerange(3, failure)
        os.closerange(failure + 1, 256)
        os.umask(request["umask"])
        os.chdir(request["cwd"])
    except OSError as error:
        reason = f"{request['cwd']}: {error.strerror}"
        if error.errno == errno.ENOENT:
            reason = (
                f"{request['cwd']} is not there in the lab host: run from the repository "
                "(the machine's own files are under /host)"
            )
        os.write(failure, json.dumps([LAB_FAILED, reason]).encode())
        os._exit(LAB_FAILED)
    try:
        os.execvpe(request["argv"][0], request["argv"], request["env"])
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        code = NOT_FOUND if missing else NOT_EXECUTABLE
        reason = f"{request['argv'][0]}: {error.strerror}"
        os.write(failure, json.dumps([code, reason]).encode())
        os._exit(code)


class Session:
    """One command and its streams, driven by one poll loop."""

    def __init__(self, conn: socket.socket, request: dict, parser: wire.Parser) -> None:
        self.conn = conn
        self.parser = parser
        self.to_caller = bytearray()
        self.to_stdin = bytearray()
        self.stdin_ended = False
        self.connected = True
        self.tty = request["tty"]
        self.outputs: dict[int, bytes] = {}
        self.stdin = -1
        self.start(request)
        for kind, data in request["early"]:
            self.handle(kind, data)

    def start(self, request: dict) -> None:
        if self.tty:
            master, terminal = pty.openpty()
            set_window(terminal, request["rows"], request["columns"])
            theirs = (terminal, terminal, terminal)
            self.stdin = master
            self.outputs[master] = wire.STDOUT
        else:
            (in_r, in_w), (out_r, out_w), (err_r, err_w) = os.pipe(), os.pipe(), os.pipe()
            theirs = (in_r, out_w, err_w)
            self.stdin = in_w
            self.outputs = {out_r: wire.STDOUT, err_r: wire.STDERR}
        failure_r, failure_w = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            run_child(request, theirs, failure_w)
        for fd in {*theirs, failure_w}:
            os.close(fd)
        reason = b""
        while data := os.read(failure_r, CHUNK):
            reason += data
        os.close(failure_r)
        if reason:
            os.waitpid(self.pid, 0)
            code, message = json.loads(reason)
            raise Refusal(message, code)
        for fd in (self.stdin, *self.outputs):
            os.set_blocking(fd, False)
        self.pidfd = os.pidfd_open(self.pid)

    # Frames from the caller

    def handle(self, kind: bytes, data: bytes) -> None:
        if kind == wire.STDIN:
            if self.stdin >= 0:
                self.to_stdin += data
            else:
                self.consumed(len(data))
        elif kind == wire.STDIN_END:
            self.stdin_ended = True
            self.close_stdin_if_done()
        elif kind == wire.SIGNAL:
            self.signal(data[0])
        elif kind == wire.RESIZE and self.tty:
            set_window(self.stdin, *struct.unpack("!HH", data))

    def signal(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def consumed(self, count: int) -> None:
        self.to_caller += wire.frame(wire.CONSUMED, struct.pack("!I", count))

    def close_stdin_if_done(self) -> None:
        """A terminal has no end of input of its own: the caller types it."""
        if self.stdin_ended and not self.to_stdin and self.stdin >= 0 and not self.tty:
            os.close(self.stdin)
            self.stdin = -1

    def read_caller(self) -> None:
        try:
            data = self.conn.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.connected = False
            return
        for kind, body in self.parser.feed(data):
            self.handle(kind, body)

    # The command's streams

    def write_stdin(self) -> None:
        try:
            count = os.write(self.stdin, self.to_stdin[:CHUNK])
        except BlockingIOError:
            return
        except OSError:  # nobody reads any more
            self.consumed(len(self.to_stdin))
            self.to_caller += wire.frame(wire.STDIN_CLOSED)
            self.to_stdin.clear()
            if not self.tty:
                os.close(self.stdin)
                self.stdin = -1
            return
        del self.to_stdin[:count]
        self.consumed(count)
        self.close_stdin_if_done()

    def read_output(self, fd: int) -> bool:
        """Whether there may be more to read."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last process let go of the terminal
            data = b""
        if data:
            self.to_caller += wire.frame(self.outputs[fd], data)
            return True
        if not self.tty:
            os.close(fd)
        del self.outputs[fd]
        return False

    def flush(self) -> None:
        try:
            count = self.conn.send(self.to_caller)
            del self.to_caller[:count]
        except BlockingIOError:
            pass
        except OSError:
            self.connected = False

    def poll(self) -> set[int]:
        poller = select.poll()
        to_caller = select.POLLOUT if self.to_caller else 0
        poller.register(self.conn, select.POLLIN | to_caller)
        poller.register(self.pidfd, select.POLLIN)
        wanted = dict.fromkeys(self.outputs, select.POLLIN) if len(self.to_caller) < BACKLOG else {}
        if self.to_stdin and self.stdin >= 0:
            wanted[self.stdin] = wanted.get(self.stdin, 0) | select.POLLOUT
        for fd, events in wanted.items():
            poller.register(fd, events)
        return {fd for fd, _ in poller.poll()}

    def run(self) -> None:
        self.conn.setblocking(False)
        exited = False
        while self.connected and not exited:
            ready = self.poll()
            exited = self.pidfd in ready
            if self.conn.fileno() in ready:
                self.read_caller()
            if self.to_stdin and self.stdin in ready:
                self.write_stdin()
            for fd in [fd for fd in self.outputs if fd in ready]:
                self.read_output(fd)
            if self.to_caller:
                self.flush()
        if exited:
            self.finish()
        else:
            self.hang_up()

    def finish(self) -> None:
        """What the command wrote before it exited still goes out; then its status."""
        for fd in list(self.outputs):
            for _ in range(DRAIN_CHUNKS):  # a process left behind may write for ever
                if not self.read_output(fd):
                    break
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        end = {"code": status} if status >= 0 else {"signal": -status}
        self.conn.setblocking(True)
        self.conn.sendall(bytes(self.to_caller) + wire.frame(wire.EXIT, json.dumps(end).encode()))

    def hang_up(self) -> None:
        """The caller is gone: its command goes too."""
        self.signal(signal.SIGHUP)
        self.signal(signal.SIGCONT)
        select.select([self.pidfd], [], [], HANGUP_SECONDS)
        self.signal(signal.SIGKILL)


def serve(conn: socket.socket, token: str, state: str) -> None:
    parser = wire.Parser()
    try:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = receive_request(conn, parser, token)
        forget_old_packages(state, request["packages"])
        conn.settimeout(None)
        Session(conn, request, parser).run()
    except Refusal as refusal:
        body = json.dumps({"message": str(refusal), "code": refusal.code}).encode()
        conn.settimeout(30)
        conn.sendall(wire.frame(wire.REFUSED, body))
        conn.shutdown(socket.SHUT_WR)


def reap(_signal: int, _frame: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


KVM_CREATE_VM, KVM_CREATE_IRQCHIP, KVM_CREATE_VCPU = 0xAE01, 0xAE60, 0xAE41


def hold_a_machine() -> None:
    """A VM with an in-kernel LAPIC and a vCPU that never runs, for the lab host's life.

    The first and the last VM of a host turn its processors' virtualization on and off and flip
    static keys, which patches the kernel's running code, four times in each VM's life. With this
    one held no VM is the first or the last. Its descriptors stay open."""
    try:
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        machine = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
        fcntl.ioctl(machine, KVM_CREATE_IRQCHIP, 0)
        fcntl.ioctl(machine, KVM_CREATE_VCPU, 0)
    except OSError as error:
        print(f"agent: no virtual machine to hold: {error}", file=sys.stderr, flush=True)


def main() -> None:
    state = sys.argv[1]
    hold_a_machine()
    with open(os.path.join(state, "token")) as file:
        token = file.read()
    listener = socket.create_server(("", PORT), backlog=64)
    signal.signal(signal.SIGCHLD, reap)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with open(os.path.join(state, "ready"), "w") as file:
        file.write(f"{time.clock_gettime(time.CLOCK_BOOTTIME):.1f}\n")
    while True:
        conn, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            try:
                serve(conn, token, state)
            except BaseException as error:
                print(f"agent: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        conn.close()


main()
