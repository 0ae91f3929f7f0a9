# SPDX-License-Identifier: Apache-2.0
"""The experiments' workload on this machine: nothing here runs a guest."""

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

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

from duetlab.experiment.lab import workload  # noqa: E402

LONGER_THAN_A_ROUND_TRIP = 6  # seconds; the workload waits five for a datagram
BYTES = 1 << 16


def slow_peer(listener: socket.socket) -> None:
    """Takes a transfer as one does whose sender has a part of a CPU: late."""
    with listener.accept()[0] as connection:
        time.sleep(LONGER_THAN_A_ROUND_TRIP)
        while connection.recv(BYTES):
            pass
        connection.sendall(b"\0")


def test_a_stream_waits_for_a_slow_peer():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=slow_peer, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        done = subprocess.run([workload(), "stream", "127.0.0.1", str(port), str(BYTES)], capture_output=True, text=True,
                              check=False, timeout=60)
        thread.join()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == BYTES


def orders(file: Path, text: str) -> subprocess.CompletedProcess:
    return subprocess.run([workload(), "moving", str(file), "10"], input=text, capture_output=True, text=True, check=False, timeout=60)


def test_a_window_grows_and_shrinks_as_it_is_told(tmp_path):
    file = tmp_path / "files"
    file.write_bytes(bytes(8 << 20))
    done = orders(file, "8 4 3\n2 3 3\nend\n")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("@round")] == ["@moving", "@told", "@told"]
    rounds = [json.loads(line.removeprefix("@round ")) for line in lines if line.startswith("@round")]
    assert [found["mib"] for found in rounds] == [4, 8, 8, 5, 2, 2]
    touched = [found["mib"] * 256 // 32 for found in rounds]
    assert [found["touches"] for found in rounds] == [sum(touched[:nth + 1]) for nth in range(6)]
    assert all(found["wrong"] == 0 and found.keys() >= {"in", "out", "refaults"} for found in rounds)


def test_a_window_reads_nothing_twice(tmp_path):
    file = tmp_path / "files"
    file.write_bytes(bytes(2 << 20))
    done = orders(file, "1 1 3\n")
    assert done.returncode == 1 and "the file: No data" in done.stderr
    assert done.stdout.count("@round") == 2


def test_requests_come_at_their_times():
    done = subprocess.run([workload(), "respond", "20", "5000", "1000"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["requests"] == 20 and 0 < answer["mean_ns"] and 0 < answer["p99_ns"]


def test_hogs_are_ended_by_their_ids():
    done = subprocess.run([workload(), "hogs", "2"], stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    hogs = [int(pid) for pid in done.stdout.split()]
    try:
        assert done.returncode == 0 and len(hogs) == 2
        assert all(Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"hogs\x002\0") for pid in hogs)
    finally:
        for pid in hogs:
            os.kill(pid, signal.SIGKILL)


def test_packets_at_their_pace_are_counted_as_they_come():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(60)
        port = listener.getsockname()[1]
        done = subprocess.run([workload(), "paced", "127.0.0.1", str(port), "20", "1000"], capture_output=True, text=True,
                              check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert [len(listener.recv(BYTES)) for _ in range(20)] == [1400] * 20
    assert json.loads(done.stdout) == {"packets": 20}


def test_nobody_there_is_no_reason_to_end():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    done = subprocess.run([workload(), "paced", "127.0.0.1", str(port), "20", "1000"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"packets": 20}


@contextlib.contextmanager
def tenant(address: str, port: int, file: Path):
    process = subprocess.Popen([workload(), "tenant", address, str(port), str(file), "1", "16", "4096"], stdout=subprocess.PIPE, text=True)
    try:
        assert json.loads(process.stdout.readline()) == {"serving": True}
        yield
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def arrivals(addresses: str, port: int, each: int, period_us: int) -> dict:
    done = subprocess.run([workload(), "arrivals", addresses, str(port), str(each), str(period_us)], capture_output=True, text=True,
                          check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_tenants_are_asked_in_turn_and_each_answer_is_a_mark(tmp_path):
    file, port = tmp_path / "file", free_port()
    file.write_bytes(bytes(3 * 4096))  # read from its beginning again and again
    with tenant("127.0.0.1", port, file), tenant("127.0.0.2", port, file):
        begun = time.monotonic()
        told = arrivals("127.0.0.1,127.0.0.2", port, 8, 20000)
    assert time.monotonic() - begun >= 8 * 0.02
    assert [request[0] for request in told["requests"]] == [0, 1] * 8
    assert told["wrong"] == 0 and told["marks"] == 32
    assert sorted(mark for request in told["requests"] for mark in request[1:3]) == list(range(32))
    assert all(sent < answered and took > 0 for _, sent, answered, took in told["requests"])


def test_what_is_never_answered_is_said_to_be_so():
    told = arrivals("127.0.0.1", free_port(), 2, 1000)
    assert told["marks"] == 2 and [request[2:] for request in told["requests"]] == [[-1, -1]] * 2
