# SPDX-License-Identifier: Apache-2.0
"""The experiments' workload on this machine: nothing here runs a guest."""

import json
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
