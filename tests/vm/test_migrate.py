# SPDX-License-Identifier: Apache-2.0
"""A running machine goes to another duet process, with load on disk, network, memory and console; and
what is left when it cannot."""

import contextlib
import json
import re
import shutil
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from api import Api, socket
from matrix import some
from test_held import COUNTS, kernel, lives_of
from test_life import LIMIT, LOAD, lost_ticks

from duetlab.guest import images, rootfs, vm

NET = "192.168.80"  # no other test's: they run beside this one
SLOW_LINE = Path(__file__).with_name("slow_line.py")
MOVES = {"unix": ("unix:@PATH@", ()), "tcp": ("tcp:127.0.0.1:@PORT@", ("--streams", "3", "--compress"))}


@contextlib.contextmanager
def bridge():
    """Two taps on a bridge of this host: the machine's one before, and the one after."""
    name = f"b{uuid.uuid4().hex[:8]}"
    vm.run("sh", "-c", f"ip link add {name} type bridge && ip link set {name} up")
    try:
        vm.give_address(name, f"{NET}.1/24")
        with vm.tap(None, vnet_hdr=True) as one, vm.tap(None, vnet_hdr=True) as two:
            for link in (one, two):
                vm.run("ip", "link", "set", link, "master", name)
            yield one, two
    finally:
        vm.run("ip", "link", "del", name, check=False)


def address(kind: str = "unix") -> str:
    token = uuid.uuid4().int
    return MOVES[kind][0].replace("@PATH@", f"/tmp/move-{token % 10**9}").replace(
        "@PORT@", str(20000 + token % 20000))


def target(where: str, *options: str, wrapper: tuple[str, ...] = ()) -> vm.Guest:
    """A duet that waits for a machine, started by WRAPPER."""
    guest = vm.Guest(wrapper=wrapper, peer=lambda kernel, initrd: [
        str(vm.DUET), "run", "--incoming", where, "--log", "info", *options])
    guest.wait_for("waiting for a machine at")
    return guest


def migrate(sock: str, where: str, *options: str, limit: float = LIMIT):
    return vm.run(str(vm.DUET), "ctl", sock, "migrate", where, *options, check=False, limit=limit)


def test_an_idle_guest_costs_its_pages_once():
    sock, where = socket(), address()
    with vm.Guest("--api-sock", sock, script='echo "up"\nread -r line\necho "typed $line"\n') as source:
        source.wait_for(r"^up$", LIMIT)
        with target(where) as there:
            moved = migrate(sock, where)
            assert moved.returncode == 0, moved.stderr
            last = re.findall(r"(\d+) pages sent, (\d+) again, (\d+) zero", moved.stdout)[-1]
            sent, again, zero = map(int, last)
            print(json.dumps({"sent": sent, "again": again, "zero": zero}))
            assert sent + zero - again == 512 << 8
            assert sent <= 1.05 * (sent - again)
            there.type("hello\n")
            there.wait_for(r"^typed hello$", LIMIT)
            assert there.finish() == 0


@pytest.mark.parametrize("kind", some(MOVES))
def test_moves_under_load(kind, local_disk):
    disk, sock, where = local_disk("8M", "moved"), socket(), address(kind)
    with bridge() as (before, after), vm.Guest(
            "--api-sock", sock, *(("--allow", "tcp") if kind == "tcp" else ()), "--disk",
            f"path={rootfs.rootfs()},readonly=on", "--disk", f"path={disk}", "--net", f"tap,ifname={before}", "--cpus", "2", "--cmdline",
            "duet.root=/dev/vda duet.rootflags=ro", memory="256M",
            script=LOAD.replace("@DISK@", "/dev/vdb").replace("192.168.77", NET)) as source, vm.running(
                "listening", *vm.lab_command("iperf3", "-s", "-p", "5301", "--forceflush", "--rcv-timeout",
                                             "600000")):
        source.wait_for(r"^mac ", LIMIT)
        source.type("5301\n")
        source.wait_for(r"^ready$", LIMIT)
        source.wait_for(r"^fio verified$", LIMIT)
        with target(where, "--net", f"tap,ifname={after}") as there:
            moved = migrate(sock, where, "--downtime", "5000", *MOVES[kind][1])
            print(moved.stdout, moved.stderr)
            assert moved.returncode == 0, moved.stderr
            assert re.search(r"^moved: it stood still for [\d.]+ ms$", moved.stdout, re.MULTILINE)
            assert source.finish() == 0
            start = len(there.output)
            there.type("moved\n")
            there.wait_for(r"^iperf goes on", LIMIT, start)
            there.wait_for(r"^fio verified$", LIMIT, start)
            # The disk is the target's, now that the source's process is gone.
            refused = vm.run(str(vm.DUET), "run", "--kernel", str(images.kernel("6.1-cloud")), "--disk",
                             f"path={disk}", check=False)
            assert refused.returncode == 1 and "busy: another process has it open" in refused.stderr
            there.type("stop\n")
            there.wait_for(r"^end of story$", LIMIT)
            status = there.finish()
    # Without duet's own lines, which may stand in the middle of one of the guest's.
    story = source.output[source.output.index("mac "):] + re.sub(
        r"duet: (info|warning): [^\n]*\n", "", there.output)
    assert status == 0 and "duet-guest: exit 0" in there.output, there.tail()
    assert "failed" not in story, story[-3000:]
    assert "the log has errors" not in story, story[-3000:]
    assert "iperf lives" in story and "same mac" in story
    assert not lost_ticks(story)


# Memory that is written to without a pause, and a pulse.
WRITER = """
mount -t tmpfs none /mnt
( while :; do dd if=/dev/urandom of=/mnt/x bs=1M count=24 conv=notrunc 2>/dev/null; done ) &
n=0; while :; do n=$((n + 1)); echo "tick $n."; sleep 0.2; done
"""


def goes_on(guest: vm.Guest):
    """Its pulse beats after now."""
    vm.run("true")
    guest.wait_for(r"tick \d+\.\n(?s:.*)tick \d+\.", LIMIT, len(guest.output))


def wait_until(api: Api, condition) -> dict:
    until = time.monotonic() + LIMIT
    while True:
        now = api.do("GET", "/duet/migration")
        if condition(now):
            return now
        assert time.monotonic() < until, now


@contextlib.contextmanager
def slow_line(where: str, rate: int = 1000000):
    """Another address of the same: memory takes minutes over it, or at RATE bytes a second."""
    here = f"/tmp/line-{uuid.uuid4().hex[:8]}"
    with vm.running("a line", *vm.lab_command("python3", str(SLOW_LINE), here, where.removeprefix("unix:"),
                                                  str(rate))):
        yield f"unix:{here}"
    vm.run("rm", "-f", here)


def begin(api: Api, where: str) -> dict:
    """A migration that is in the middle of memory."""
    api.do("PUT", "/duet/migration", {"to": where})
    return wait_until(api, lambda now: now["state"] != "running" or now["pages_sent"])


def test_what_is_left_when_it_fails():
    sock, where = socket(), address()
    with vm.Guest("--api-sock", sock, "--allow", "tcp", "--cpus", "2", memory="256M", script=WRITER) as source:
        api = Api(sock)
        source.wait_for(r"tick 3\.", LIMIT)
        # Nobody there; another host in the clear; no address.
        assert "nobody waits there; start duet run --incoming" in migrate(sock, where).stderr
        goes_on(source)
        assert "--plain" in migrate(sock, "tcp:192.0.2.1:4000").stderr
        assert "no address" in migrate(sock, "somewhere").stderr
        assert migrate(sock, where, "--streams", "0").returncode == 2
        # Cancelled while it copies.
        with target(where) as there, slow_line(where) as line:
            assert begin(api, line)["phase"] == "copying"
            assert "already" in api.refused("PUT", "/duet/migration", {"to": line})
            api.do("DELETE", "/duet/migration")
            assert wait_until(api, lambda now: now["state"] != "running")["state"] == "cancelled"
            # "cancelled", unless that came in the middle of a message.
            assert there.finish() == 1 and "no machine came" in there.output
        goes_on(source)
        assert "too late" in api.refused("DELETE", "/duet/migration")
        # The target is killed.
        with target(where) as there, slow_line(where) as line:
            begin(api, line)
            there.kill_monitor()
            end = wait_until(api, lambda now: now["state"] != "running")
            assert end["state"] == "failed" and "gone" in end["error"], end
        goes_on(source)
        # It is paused by somebody else: it stays paused, and here.
        vm.run("rm", "-f", where.removeprefix("unix:"))
        with target(where) as there, slow_line(where) as line:
            begin(api, line)
            api.do("PATCH", "/vm", {"state": "Paused"})
            assert there.finish() == 1
        assert "paused" in wait_until(api, lambda now: now["state"] != "running")["error"]
        assert api.do("GET", "/")["state"] == "Paused"
        api.do("PATCH", "/vm", {"state": "Resumed"})
        goes_on(source)
        # The source is killed: there is no machine, rather than half of one.
        with target(where, "--api-sock", early := socket()) as there, slow_line(where) as line:
            begin(api, line)
            assert "on its way here" in vm.run(str(vm.DUET), "ctl", early, "status", check=False, limit=LIMIT).stderr
            source.kill_monitor()
            assert there.finish() == 1
            assert "no machine came" in there.output, there.tail()


def test_a_target_that_cannot_have_it(local_disk):
    """Its disk is not there, its network neither, or it is another duet's."""
    disk, sock, where = local_disk("4M", "stays"), socket(), address()
    with vm.Guest("--api-sock", sock, "--disk", f"path={disk}", memory="128M", script=WRITER) as source:
        source.wait_for(r"tick 3\.", LIMIT)
        with target(where, "--disk", "path=/nowhere/disk") as there:
            refused = migrate(sock, where)
            assert refused.returncode == 1 and "/nowhere/disk: no such file" in refused.stderr
            assert there.finish() == 1
        with target(where, "--net", "tap,ifname=none") as there:
            assert "no such device" in migrate(sock, where).stderr
            assert there.finish() == 1
        goes_on(source)
        # A peer that talks of something else is turned away, and the wait goes on.
        with target(where) as there:
            vm.run("python3", "-c", "import socket, sys\n"
                   "s = socket.socket(socket.AF_UNIX)\n"
                   "s.connect(sys.argv[1])\n"
                   "s.sendall(b'GET / HTTP/1.1' + bytes(100))\n"
                   "s.recv(1000)\n", where.removeprefix("unix:"))
            there.wait_for("turned away: the other side does not speak", LIMIT)
            moved = migrate(sock, where, "--downtime", "60000")
            assert moved.returncode == 0, moved.stderr
            assert source.finish() == 0
            there.wait_for(r"tick \d+\.", LIMIT)
            there.kill_monitor()


needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here to make certificates with")
CERTIFICATES = """cd $0
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
for name in ca other; do
	openssl req -x509 $key -subj /CN=$name -days 365 -keyout $name.key -out $name.pem
done
openssl req $key -subj /CN=host -keyout host.key -out host.csr
openssl x509 -req -in host.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -out host.pem
"""


@contextlib.contextmanager
def two_networks():
    """Two network namespaces with a cable between them, at NET.1 and NET.2."""
    token = uuid.uuid4().hex[:8]
    one, other = f"a{token}", f"b{token}"
    vm.run("sh", "-ec", f"ip netns add {one}; ip netns add {other}; ip link add {one} type veth peer name {other}")
    for nth, name in enumerate((one, other), 1):
        vm.run("sh", "-ec", f"ip link set {name} netns {name}; ip -n {name} addr add {NET}.{nth}/24 dev {name}; "
               f"ip -n {name} link set {name} up")
    try:
        yield one, other
    finally:
        vm.run("sh", "-c", f"ip netns del {one}; ip netns del {other}", check=False)


def certificates(workspace) -> dict[str, str]:
    """A host's and a stranger's, in files; the host's, by the options' names."""
    subprocess.run(["sh", "-ec", CERTIFICATES, workspace], check=True, capture_output=True)
    return {"cert": f"{workspace}/host.pem", "key": f"{workspace}/host.key", "ca": f"{workspace}/ca.pem"}


def options_of(files: dict[str, str]) -> list[str]:
    return [word for name, file in files.items() for word in (f"--{name}", file)]


def cut(api: Api, here: str, source: vm.Guest, waiting: vm.Guest, where: str, files: dict[str, str]):
    """The cable, while memory is copied: both sides find out, and the machine goes on."""
    begin(api, where, **files)
    vm.run("ip", "-n", here, "link", "set", here, "down")
    goes_on(source)
    end = wait_until(api, lambda now: now["state"] != "running")
    assert end["state"] == "failed" and end["error"], end
    assert waiting.finish() == 1 and "no machine came" in waiting.output, waiting.tail()
    goes_on(source)
    vm.run("ip", "-n", here, "link", "set", here, "up")


@needs_openssl
@pytest.mark.parametrize("is_cut", some([False, True]))
def test_between_two_networks(is_cut, workspace):
    """As between two hosts."""
    sock, where, files = socket(), f"tcp:{NET}.2:4000", certificates(workspace)
    options = options_of(files)
    with two_networks() as (here, there), vm.Guest(
            "--api-sock", sock, "--allow", f"tcp,{workspace}", memory="128M", script=WRITER,
            wrapper=("ip", "netns", "exec", here)) as source:
        source.wait_for(r"tick 3\.", LIMIT)
        if is_cut:
            with target(where, *options, wrapper=("ip", "netns", "exec", there)) as waiting:
                cut(Api(sock), here, source, waiting, where, files)
        with target(where, *options, wrapper=("ip", "netns", "exec", there)) as waiting:
            moved = migrate(sock, where, "--downtime", "60000", "--streams", "2", *options)
            assert moved.returncode == 0, moved.stderr
            assert source.finish() == 0
            waiting.wait_for(r"tick \d+\.", LIMIT)
            waiting.kill_monitor()


def test_a_target_short_of_threads(workspace):
    """Up to the last one, which is made when the source has let go: the program judges each."""
    for attempt in lives_of("short_of_threads.py", kernel(workspace, COUNTS)):
        print(attempt)
    assert attempt["moved"]


@needs_openssl
def test_tls(workspace):
    """Both sides show a certificate of the authority, or nothing is sent."""
    good = options_of(certificates(workspace))
    stranger = ["--cert", f"{workspace}/other.pem", "--key", f"{workspace}/other.key", "--ca", f"{workspace}/ca.pem"]
    sock, where = socket(), address("tcp")
    with vm.Guest("--api-sock", sock, "--allow", f"tcp,{workspace}", memory="128M", script=WRITER) as source:
        source.wait_for(r"tick 3\.", LIMIT)
        with target(where, *good) as there:
            assert migrate(sock, where, *stranger).returncode == 1
            there.wait_for("turned away: TLS", LIMIT)
            assert migrate(sock, where).returncode == 1
            moved = migrate(sock, where, "--downtime", "60000", "--streams", "2", *good)
            assert moved.returncode == 0, moved.stderr
            assert source.finish() == 0
            there.wait_for(r"tick \d+\.", LIMIT)
            there.kill_monitor()
