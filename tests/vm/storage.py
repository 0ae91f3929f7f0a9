# SPDX-License-Identifier: Apache-2.0
"""Storage that a test can make hang: a file on a file system in user space (FUSE) and a network
block device (NBD), each served by this program. Needs root and the modules fuse and nbd.

Run as a program where duet runs, it starts a machine on such a disk, takes its first line of
output, lets the storage hang and the console's pipe fill up, ends the machine by two SIGTERMs and
tells as JSON how that went:  storage.py beside|fuse|initrd|metrics|nbd|none COMMAND... (@DISK@ is the disk, with
beside one on FUSE of which the guest has to say that another one goes on; with initrd it is the initrd that the storage
has, and the guest is told to go on, by a line, when that hangs; with metrics the API at the socket @API@ is asked for
some then)"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SIZE = 1 << 40  # sparse: nothing of it is kept but what was written
LIMIT_MS = 1000  # what "at once" means
LIBC = ctypes.CDLL(None, use_errno=True)


class Store:
    """What was written, by block of 4 KiB; zeroes cost nothing."""

    def __init__(self):
        self.blocks: dict[int, bytes] = {}

    def read(self, at: int, length: int) -> bytes:
        blocks = [self.blocks.get(n, bytes(4096)) for n in range(at // 4096, -(-(at + length) // 4096))]
        return b"".join(blocks)[at % 4096:][:length]

    def write(self, at: int, data: bytes):
        if not any(data) and not self.blocks:
            return
        first = at // 4096
        whole = bytearray(self.read(first * 4096, -(-(at % 4096 + len(data)) // 4096) * 4096))
        whole[at % 4096:at % 4096 + len(data)] = data
        for n in range(0, len(whole), 4096):
            self.blocks[first + n // 4096] = bytes(whole[n:n + 4096])


class Hanging:
    """Answers requests in a thread, until it hangs."""

    def __init__(self):
        self.store = Store()
        self.goes = threading.Event()
        self.waits = threading.Event()  # somebody waits for an answer
        self.goes.set()

    def hang(self):
        self.goes.clear()

    def go_on(self):
        self.goes.set()

    def before_answer(self):
        if not self.goes.is_set():
            self.waits.set()
            self.goes.wait()


class Fuse(Hanging):
    """One directory with one file, opened past the page cache. It hangs as a stopped server does:
    requests lie in its queue. One that is already taken would hold the asking process in the kernel."""

    HEADER = struct.Struct("<IIQQIIII")

    def __init__(self, content: bytes | None = None):
        """What it has: CONTENT, or what is written."""
        super().__init__()
        self.content = content
        self.size = SIZE if content is None else len(content)
        self.directory = tempfile.mkdtemp(prefix="duet-fuse-")
        self.path = f"{self.directory}/disk"
        self.device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0,max_read=131072".encode()
        if LIBC.mount(b"duet", self.directory.encode(), b"fuse", 0, options) < 0:
            raise OSError(ctypes.get_errno(), "mount of a FUSE file system")
        threading.Thread(target=self.serve, daemon=True).start()
        # The kernel learns that there is no FLUSH: close() would wait for one, deaf to any signal.
        os.close(os.open(self.path, os.O_RDONLY))

    def close(self):
        LIBC.umount2(self.directory.encode(), 2)
        os.close(self.device)
        with contextlib.suppress(OSError):
            os.rmdir(self.directory)

    def attributes(self, node: int) -> bytes:
        mode, size = (0o40755, 0) if node == 1 else (0o100644, self.size)
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def answer(self, opcode: int, node: int, body: bytes) -> bytes | int | None:
        """What it says; a number is an error, None no answer."""
        if opcode == 26:  # INIT
            return struct.pack("<IIIIHHIIHHI7I", 7, 31, 1 << 17, 0, 64, 64, 1 << 17, 1, 32, 0, 0, *[0] * 7)
        if opcode == 1:  # LOOKUP
            if body != b"disk\0":
                return 2
            return struct.pack("<QQQQII", 2, 0, 3600, 3600, 0, 0) + self.attributes(2)
        if opcode in (3, 4):  # GETATTR, SETATTR
            return struct.pack("<QII", 3600, 0, 0) + self.attributes(node)
        if opcode == 35:  # CREATE: a file that nobody looks for
            return struct.pack("<QQQQII", 3, 0, 3600, 3600, 0, 0) + self.attributes(3) + struct.pack("<QII", 1, 1, 0)
        if opcode in (10, 12, 45):  # UNLINK, RENAME, RENAME2
            return b""
        if opcode in (14, 27):  # OPEN, OPENDIR: direct I/O
            return struct.pack("<QII", 1, 1, 0)
        if opcode == 15:
            _, at, length = struct.unpack_from("<QQI", body)
            return self.store.read(at, length) if self.content is None else self.content[at:at + length]
        if opcode == 16:
            _, at, length = struct.unpack_from("<QQI", body)
            self.store.write(at, body[40:40 + length])
            return struct.pack("<II", length, 0)
        if opcode in (18, 20, 29, 38):  # RELEASE, FSYNC, RELEASEDIR, DESTROY
            return b""
        return None if opcode in (2, 36, 42) else 38  # FORGET, INTERRUPT, BATCH_FORGET; ENOSYS

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                select.select([self.device], [], [])
                self.before_answer()
                request = os.read(self.device, (1 << 17) + 4096)
                _, opcode, unique, node, *_ = self.HEADER.unpack_from(request)
                said = self.answer(opcode, node, request[self.HEADER.size:])
                error = said if isinstance(said, int) else 0
                data = b"" if error or said is None else said
                if said is not None:
                    with contextlib.suppress(FileNotFoundError):  # who asked was ended meanwhile
                        os.write(self.device, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)


class Nbd(Hanging):
    """/dev/nbd0."""

    SET_SOCK, SET_BLOCK, SET_SIZE, DO_IT, CLEAR, DISCONNECT = (0xab00, 0xab01, 0xab02, 0xab03, 0xab04, 0xab08)

    def __init__(self):
        super().__init__()
        self.path = "/dev/nbd0"
        subprocess.run(["modprobe", "nbd"], check=True)
        self.device = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        ours, theirs = socket.socketpair()
        self.socket = ours
        self.ioctl(self.CLEAR, 0)
        self.ioctl(self.SET_SOCK, theirs.fileno())
        self.ioctl(self.SET_BLOCK, 4096)
        self.ioctl(self.SET_SIZE, 1 << 30)
        self.theirs = theirs
        threading.Thread(target=self.serve, daemon=True).start()
        threading.Thread(target=self.ioctl, args=(self.DO_IT, 0), daemon=True).start()

    def ioctl(self, request: int, value: int):
        # Not Python's, which holds its lock meanwhile.
        LIBC.ioctl(self.device, request, ctypes.c_ulong(value))

    def close(self):
        self.ioctl(self.DISCONNECT, 0)
        self.ioctl(self.CLEAR, 0)
        os.close(self.device)

    def take(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            if not more:
                raise OSError("closed")
            data += more
        return data

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                _, kind, handle, at, length = struct.unpack(">II8sQI", self.take(28))
                data = self.take(length) if kind == 1 else b""
                if kind == 2:
                    return
                self.before_answer()
                if kind == 1:
                    self.store.write(at, data)
                said = self.store.read(at, length) if kind == 0 else b""
                self.socket.sendall(struct.pack(">II8s", 0x67446698, 0, handle) + said)


class Plain(Hanging):
    """No storage of its own: the disk is what the command says."""

    path = "@DISK@"

    def close(self):
        pass


def wait_for(what, limit: float = 120):
    """Until WHAT() is true."""
    until = time.monotonic() + limit
    while not what():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.01)


def pending(pid: int, number: int) -> bool:
    """A signal was sent and not yet taken."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        masks = [line.split()[1] for line in status if line.startswith(("ShdPnd", "SigPnd"))]
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def waits_in(pid: int, name: str) -> str:
    """The function of the kernel that the thread NAME waits in."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        if (thread / "comm").read_text().strip() == name:
            return (thread / "wchan").read_text()
    return "?"


def read_until(file: int, words: bytes):
    """The machine's console, up to WORDS."""
    seen = b""
    while words not in seen:
        more = os.read(file, 65536)
        assert more, seen[-2000:].decode(errors="replace")
        seen += more


def fill(pipe: int):
    """Until nothing more goes into it; nobody reads it from now on."""
    writer = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b".")
    os.close(writer)


@contextlib.contextmanager
def asked_for_metrics(api: str):
    """Nobody waits for the answer."""
    body = b'{"action_type": "FlushMetrics"}'
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(api)
        client.sendall(b"PUT /actions HTTP/1.1\r\nHost: duet\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        yield


def main(kind: str, *command: str) -> dict:
    if kind == "initrd":
        initrd = command.index("--initrd") + 1
        with open(command[initrd], "rb") as file:
            storage = Fuse(file.read())
        command = (*command[:initrd], "@DISK@", *command[initrd + 1:])
    else:
        storage = {"beside": Fuse, "fuse": Fuse, "metrics": Fuse, "nbd": Nbd, "none": Plain}[kind]()
    api = f"/tmp/duet-storage-{os.getpid()}.sock"
    with tempfile.TemporaryFile() as errors, contextlib.ExitStack() as open_ones:
        duet = subprocess.Popen([word.replace("@DISK@", storage.path).replace("@API@", api) for word in command],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        try:
            console = duet.stdout.fileno()
            read_until(console, b"ready\r\n")
            if kind != "none":
                storage.hang()
                if kind == "metrics":
                    open_ones.enter_context(asked_for_metrics(api))
                duet.stdin.write(b"go on\n")
                duet.stdin.flush()
                assert storage.waits.wait(120), "nobody asked the storage"
                if kind == "beside":
                    read_until(console, b"the other disk goes on\r\n")
                if kind in ("beside", "fuse"):
                    wait_for(lambda: waits_in(duet.pid, "duet-io") == "io_cqring_wait")
            fill(console)
            duet.send_signal(signal.SIGTERM)
            wait_for(lambda: not pending(duet.pid, signal.SIGTERM))
            begun = time.monotonic()
            duet.send_signal(signal.SIGTERM)
            try:
                duet.wait(10)
                held = False
            except subprocess.TimeoutExpired:
                held = True  # the kernel does not let it go before the storage answers
            seconds = time.monotonic() - begun
            storage.go_on()
            status = duet.wait(60)
        except BaseException:
            errors.seek(0)
            print(errors.read().decode(errors="replace"), file=sys.stderr)
            raise
        finally:
            duet.kill()
            storage.go_on()
            duet.wait()
            storage.close()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    return {"status": status, "held": held, "seconds": round(seconds, 2), "said": said,
            "limit_ms": LIMIT_MS}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
