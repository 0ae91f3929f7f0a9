#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Machines that are played: players.py DIRECTORY COUNT BRIEF

COUNT processes, each with a socket in DIRECTORY where it answers what duetd asks of a machine: what stands in
the file BRIEF, under its own number and with a working set that changes each time. They end with this one."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading

PAGE = 4096


def answer(client: socket.socket, brief: dict) -> None:
    asked = client.recv(4096)
    status = b"200 OK" if asked.startswith(b"GET /duet/brief ") else b"404 Not Found"
    body = json.dumps(brief).encode()
    client.sendall(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


def idle_thread() -> int:
    """The number of one more, which does nothing."""
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    return thread.native_id


def play(path: str, brief: dict) -> None:
    brief["threads"] = [idle_thread() for _ in brief["threads"]]
    machine = brief.get("hints", {}).get("machine") or {}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(8)
        while True:
            client, _ = listening.accept()
            if "working_set_bytes" in machine:
                machine["working_set_bytes"] ^= PAGE
            with client, contextlib.suppress(ConnectionError):
                answer(client, brief)


def main(directory: str, count: str, file: str) -> None:
    with open(file, encoding="utf-8") as stream:
        brief = json.load(stream)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    players = []
    for number in range(int(count)):
        players.append(os.fork())
        if players[-1] == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            play(f"{directory}/played{number}.sock", brief)
    print("playing", flush=True)
    try:
        signal.pause()
    finally:
        for pid in players:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


main(*sys.argv[1:])
