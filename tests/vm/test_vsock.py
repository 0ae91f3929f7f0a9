# SPDX-License-Identifier: Apache-2.0
"""virtio-vsock with a stock driver: a mebibyte in each direction, whoever connects."""

import contextlib
import hashlib
import re
import uuid

import pytest

from duetlab.guest import rootfs, vm
from matrix import some

KERNELS = ("6.1-cloud", "6.1-amd64", "6.12-amd64")
LIMIT = 600

# What both sides' programs begin with: a mebibyte that is each one's own.
COMMON = """
import hashlib, socket, sys
def data(who):
    return b"".join(hashlib.sha256(b"%s %d" % (who, i)).digest() for i in range(32768))
def drain(connection):
    return b"".join(iter(lambda: connection.recv(65536), b""))
def tell(what, got):
    print(what, len(got), hashlib.sha256(got).hexdigest(), flush=True)
"""

# The host connects to 5000 and is answered when it has said all; then the guest connects to 52.
GUEST = COMMON + """
server = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
server.bind((socket.VMADDR_CID_ANY, 5000))
server.listen()
print("listening", flush=True)
connection, peer = server.accept()
assert peer[0] == 2, peer
tell("guest received", drain(connection))
connection.sendall(data(b"guest"))
connection.close()
refused = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
try:
    refused.connect((2, 53))
    print("connected to nobody", flush=True)
except OSError as error:
    print("refused", error, flush=True)
connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
connection.connect((2, 52))
connection.sendall(data(b"guest"))
connection.shutdown(socket.SHUT_WR)
tell("guest received", drain(connection))
"""

HOST = COMMON + """
path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path + "_52")
listener.listen()
listener.settimeout(300)
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(300)
connection.connect(path)
connection.sendall(b"CONNECT 5000\\n")
line = connection.makefile("rb", buffering=0).readline()
assert line.startswith(b"OK "), line
connection.sendall(data(b"host"))
connection.shutdown(socket.SHUT_WR)
tell("host received", drain(connection))
connection.close()
connection, _ = listener.accept()
connection.settimeout(300)
tell("host received", drain(connection))
connection.sendall(data(b"host"))
connection.close()
"""


def digest(who: bytes) -> str:
    parts = (hashlib.sha256(b"%s %d" % (who, i)).digest() for i in range(32768))
    return hashlib.sha256(b"".join(parts)).hexdigest()


@contextlib.contextmanager
def socket_path():
    """A place for sockets where duet runs: the workspace may be of a kind that takes none."""
    directory = f"/tmp/duet-vsock-{uuid.uuid4().hex[:8]}"
    vm.run("mkdir", "-m", "700", directory)
    try:
        yield f"{directory}/v"
    finally:
        vm.run("rm", "-rf", directory, check=False)


def received(side: str, text: str) -> list[tuple[str, str]]:
    return re.findall(rf"^{side} received (\d+) ([0-9a-f]+)", text, re.M)


@pytest.mark.parametrize("ring", some(["split", "packed"]))
@pytest.mark.parametrize("kernel", some(KERNELS))
def test_both_directions(kernel, ring):
    script = f"cat >/tmp/talk.py <<'END'\n{GUEST}\nEND\npython3 /tmp/talk.py\n"
    with socket_path() as path, \
            vm.Guest("--vsock", f"path={path},cid=77", "--ring", ring, "--disk",
                     f"path={rootfs.rootfs()},readonly=on", "--cmdline",
                     "duet.root=/dev/vda duet.rootflags=ro", kernel=kernel, script=script) as guest:
        guest.wait_for("^listening", LIMIT)
        assert vm.run("stat", "-c", "%a %F", path).stdout.strip() == "600 socket"
        host = vm.run("python3", "-c", HOST, path, limit=LIMIT).stdout
        console = guest.succeed(LIMIT)
        assert vm.run("test", "-e", path, check=False).returncode != 0, "the socket is left"
        stats = guest.stats
    assert received("host", host) == [("1048576", digest(b"guest"))] * 2
    assert received("guest", console) == [("1048576", digest(b"host"))] * 2
    assert re.search(r"^refused .*[Rr]eset", console, re.M)
    vsock = next(device for device in stats["devices"] if device["type"] == "virtio-vsock")
    assert vsock["bytes_in"] == vsock["bytes_out"] == 2 << 20
    assert (vsock["from_guest"], vsock["from_host"], vsock["refused"]) == (1, 1, 1)
    assert vsock["violations"] == 0


def test_existing_file():
    """It is somebody's: it stays, and the machine does not start."""
    with socket_path() as path:
        vm.run("touch", path)
        with vm.Guest("--vsock", f"path={path}", script="true") as guest:
            assert guest.finish() != 0
        assert "the file exists; remove it" in guest.output
        assert vm.run("stat", "-c", "%F", path).stdout.startswith("regular")
