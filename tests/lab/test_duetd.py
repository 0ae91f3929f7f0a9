# SPDX-License-Identifier: Apache-2.0
"""The manager and duetctl as programs: a machine's API that a test plays, a made-up /proc and /sys."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build"


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


class Machine:
    """Answers GET /duet/brief, and nothing else."""

    def __init__(self, path):
        self.brief = {"id": "x", "state": "Running", "memory_mib": 512, "cpus": 1, "threads": [threading.get_native_id()],
                      "passthrough": False}
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen(8)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listening.accept()
            with client, contextlib.suppress(ConnectionError):  # duetd may be killed in the middle
                asked = client.recv(4096)
                body = json.dumps(self.brief).encode()
                status = b"200 OK" if asked.startswith(b"GET /duet/brief ") else b"404 Not Found"
                client.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


class Host:
    """A host of files below a folder, with one machine in a cgroup of its own."""

    def __init__(self, root):
        self.root, self.socket = root, root / "run" / "duetd.sock"
        pid, thread = os.getpid(), threading.get_native_id()
        unit = root / "sys/fs/cgroup/unit"
        for folder in (root / "run", root / f"proc/{pid}/task/{thread}", unit, root / "vms"):
            folder.mkdir(parents=True)
        (root / "proc/meminfo").write_text("MemTotal: 4096 kB\nMemAvailable: 2048 kB\n")
        stat = f"{pid} (x) S " + " ".join(["1"] * 40)
        (root / f"proc/{pid}/stat").write_text(stat)
        (root / f"proc/{pid}/task/{thread}/stat").write_text(stat)
        (root / f"proc/{pid}/cgroup").write_text("0::/unit\n")
        for name in ("cgroup.controllers", "cgroup.subtree_control"):
            (unit.parent / name).write_text("cpu memory\n")
        for name, text in {"cgroup.procs": pid, "cpu.weight": 100, "memory.current": 3 << 20}.items():
            (unit / name).write_text(f"{text}\n")
        self.machine = Machine(root / "vms" / "web.sock")

    def start(self, *words):
        return subprocess.Popen([BUILD / "duetd", "--root", self.root, "--directory", self.root / "vms", "--socket",
                                 self.socket, "--period", "100", *words], stderr=subprocess.PIPE, text=True)

    def ctl(self, *words):
        return subprocess.run([BUILD / "duetctl", "--socket", self.socket, *words], capture_output=True, text=True,
                              check=False, timeout=60)


@pytest.fixture(name="host")
def made_up_host(tmp_path):
    return Host(tmp_path)


def sees(host, words):
    wait_for(lambda: words in host.ctl("ps").stdout)


def test_tells_what_it_knows(host):
    duetd = host.start("--cpu", "off")
    sees(host, "web ")
    sees(host, "3M")
    assert "host: 2M of 4M available" in host.ctl("top").stdout
    explained = host.ctl("explain", "web")
    assert explained.returncode == 0
    assert [line.split()[0] for line in explained.stdout.splitlines()[3:6]] == ["memory", "cpu", "numa"]
    assert "  * off " in host.ctl("policy").stdout
    assert host.ctl("policy", "memory", "off").returncode == 0
    for words, status in ((["explain", "nobody"], 1), (["policy", "memory", "brew"], 1), (["policy", "memory"], 2),
                          (["explain"], 2), (["explain", "a/b"], 2), (["brew"], 2), ([], 2)):
        refused = host.ctl(*words)
        assert refused.returncode == status and refused.stderr and not refused.stdout, words
    duetd.terminate()
    assert duetd.wait(timeout=20) == 0
    assert not host.socket.exists()
    gone = host.ctl("ps")
    assert gone.returncode == 1 and "start it" in gone.stderr


def test_one_is_enough_and_the_next_takes_over(host):
    first = host.start()
    sees(host, "web ")
    second = host.start()
    assert second.wait(timeout=20) == 1
    assert "another duetd" in second.stderr.read()
    sees(host, "web ")
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=20)
    undo = subprocess.run([BUILD / "duetd", "--undo", "--root", host.root], capture_output=True, text=True, check=False,
                          timeout=20)
    assert (undo.returncode, undo.stderr) == (0, "")
    assert (host.root / "sys/fs/cgroup/unit/cpu.weight").read_text().strip() == "100"
    third = host.start()
    sees(host, "web ")
    third.terminate()
    assert third.wait(timeout=20) == 0
    assert (host.root / "sys/fs/cgroup/unit/cpu.weight").read_text().strip() == "100"


def test_files_that_are_no_sockets_stay(host, tmp_path):
    """Nor are they a directory."""
    file = tmp_path / "precious"
    file.write_text("kept")
    for words in (["--socket", file], ["--directory", file]):
        result = subprocess.run([BUILD / "duetd", "--root", host.root, "--directory", host.root / "vms", *words],
                                capture_output=True, text=True, check=False, timeout=20)
        assert result.returncode == 1 and f"{words[0]} {file}: is " in result.stderr
        assert file.read_text() == "kept"


@pytest.mark.parametrize("words", [["--period", "99"], ["--memory", "brew"], ["--socket"], ["--log", "loud"], ["-x"]])
def test_wrong_command_lines(words):
    result = subprocess.run([BUILD / "duetd", *words], capture_output=True, text=True, check=False, timeout=20)
    assert result.returncode == 2 and words[0] in result.stderr


def played(path) -> dict:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /duet/brief HTTP/1.1\r\nHost: x\r\n\r\n")
        with client.makefile("rb") as stream:
            return json.loads(stream.read().partition(b"\r\n\r\n")[2])


def test_machines_can_be_played(tmp_path):
    """For lab/bench: each has a thread of its own, and says something new each time."""
    brief = tmp_path / "brief"
    brief.write_text(json.dumps({"id": "x", "threads": [1, 2], "hints": {"machine": {"working_set_bytes": 1 << 20}}}))
    command = ["python3", REPOSITORY / "lab/host/players.py", tmp_path, "2", brief]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as players:
        assert players.stdout.readline() == "playing\n"
        sockets = [tmp_path / f"played{number}.sock" for number in range(2)]
        wait_for(lambda: all(path.exists() for path in sockets))
        one, other, again = played(sockets[0]), played(sockets[1]), played(sockets[0])
        assert len({*one["threads"], *other["threads"]}) == 4
        assert one["hints"] != again["hints"] and one["threads"] == again["threads"]
        players.terminate()
    assert not any(Path(f"/proc/{answer['threads'][0]}").exists() for answer in (one, other))
