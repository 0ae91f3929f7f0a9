# SPDX-License-Identifier: Apache-2.0
"""A host that is a folder, and machines that are processes of a test: what duetd is tried on without KVM or root.

  made_up.py SOCKET BRIEF    a machine that answers GET /duet/brief with BRIEF, and takes balloons
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build"
MADE_UP = __file__


def heed_signals():
    """Tests may run in a shell's background or under nohup, whose ignored signals stay ignored."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def listen(path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(8)
    return listening


def serve(listening: socket.socket, brief):
    """BRIEF(what a PATCH told): the answer."""
    told = {}
    while True:
        client, _ = listening.accept()
        with client, contextlib.suppress(ConnectionError):  # duetd may be killed in the middle
            head, _, body = client.recv(4096).partition(b"\r\n\r\n")
            if head.startswith(b"PATCH /duet/balloon "):
                told.update(json.loads(body))
            asked = head.startswith((b"GET /duet/brief ", b"PATCH /duet/balloon "))
            answer = json.dumps(brief(told)).encode()
            client.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" %
                           (b"200 OK" if asked else b"404 Not Found", len(answer), answer))


class Host:
    """Files below a folder, with machines each in a cgroup of its own."""

    def __init__(self, root, memory_kib=4096, available_kib=2048):
        self.root, self.socket = root, root / "run" / "duetd.sock"
        self.cgroups = root / "sys/fs/cgroup"
        self.processes = []
        for folder in (root / "run", root / "vms", self.cgroups):
            folder.mkdir(parents=True)
        (root / "proc").mkdir()
        (root / "proc/meminfo").write_text(f"MemTotal: {memory_kib} kB\nMemAvailable: {available_kib} kB\n")
        for name in ("cgroup.controllers", "cgroup.subtree_control"):
            (self.cgroups / name).write_text("cpu memory\n")

    def cpus(self, nodes, memory_kib):
        """Two of each of NODES nodes, which hold MEMORY_KIB together."""
        folder = self.root / "sys/devices/system"
        (folder / "cpu").mkdir(parents=True)
        (folder / "cpu/online").write_text(f"0-{2 * nodes - 1}\n")
        for node in range(nodes):
            (folder / f"node/node{node}").mkdir(parents=True)
            (folder / f"node/node{node}/cpulist").write_text(f"{2 * node}-{2 * node + 1}\n")
            (folder / f"node/node{node}/meminfo").write_text(f"Node {node} MemTotal: {memory_kib // nodes} kB\n")

    def pressure(self, memory, cpu):
        """Percent of time in which some wait."""
        (self.root / "proc/pressure").mkdir(exist_ok=True)
        for name, some in (("memory", memory), ("cpu", cpu)):
            (self.root / "proc/pressure" / name).write_text(
                f"some avg10={some:.2f} avg60=0.00 avg300=0.00 total=0\n"
                f"full avg10={some / 4:.2f} avg60=0.00 avg300=0.00 total=0\n")

    def ran(self, process, busy_ns, waited_ns=0):
        (self.root / f"proc/{process.pid}/task/{process.pid}/schedstat").write_text(f"{busy_ns} {waited_ns} 1\n")

    def know(self, pid, thread, unit, resident):
        """What the kernel would say of a process."""
        stat = f"{pid} (x) S " + " ".join(["1"] * 40)
        folder = self.root / f"proc/{pid}"
        (folder / f"task/{thread}").mkdir(parents=True)
        (folder / "stat").write_text(stat)
        (folder / f"task/{thread}/stat").write_text(stat)
        (folder / "cgroup").write_text(f"0::/{unit}\n")
        (self.cgroups / unit).mkdir()
        for name, text in {"cgroup.procs": pid, "cpu.weight": 100, "memory.current": resident}.items():
            (self.cgroups / unit / name).write_text(f"{text}\n")

    def add_here(self, name="web"):
        """A machine that is a thread of this process; its brief may be changed."""
        thread = threading.get_native_id()
        brief = {"id": "x", "state": "Running", "memory_mib": 512, "cpus": 1, "threads": [thread], "passthrough": False}
        self.know(os.getpid(), thread, "unit", 3 << 20)
        listening = listen(self.root / "vms" / f"{name}.sock")
        threading.Thread(target=serve, args=(listening, lambda _: brief), daemon=True).start()
        return brief

    def add(self, name, resident, **brief):
        """One that is a process of its own."""
        process = subprocess.Popen([sys.executable, __file__, self.root / "vms" / f"{name}.sock", json.dumps(brief)],
                                   stdin=subprocess.DEVNULL)
        self.processes.append(process)
        self.know(process.pid, process.pid, f"unit-{name}", resident)
        return process

    def start(self, *words, **more):
        process = subprocess.Popen([BUILD / "duetd", "--root", self.root, "--directory", self.root / "vms", "--socket",
                                    self.socket, "--period", "100", *words], stderr=subprocess.PIPE, text=True,
                                   preexec_fn=heed_signals, **more)
        self.processes.append(process)
        return process

    def ctl(self, *words):
        return subprocess.run([BUILD / "duetctl", "--socket", self.socket, *words], capture_output=True, text=True,
                              check=False, timeout=60)

    def sees(self, words):
        wait_for(lambda: words in self.ctl("ps").stdout)

    def end(self):
        for process in self.processes:
            process.kill()
            process.communicate()


def main(path, brief):
    brief = {"id": "x", "state": "Running", "threads": [os.getpid()], "passthrough": False, **json.loads(brief)}

    def answer(told):
        if "balloon" in brief:
            brief["balloon"]["target_mib"] = brief["balloon"]["actual_mib"] = told.get(
                "amount_mib", brief["balloon"]["actual_mib"])
        return brief

    serve(listen(path), answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
