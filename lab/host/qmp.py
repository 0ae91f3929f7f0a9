#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Moves a machine of QEMU's, or lets it log the pages that change:

    qmp.py SOCKET move URI DOWNTIME-MS SECONDS
    qmp.py SOCKET log SECONDS

The first prints what QEMU says of the migration when it is over, or when so many seconds are."""

import json
import socket
import sys
import time


class Monitor:
    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._lines = self._socket.makefile("r")
        self._lines.readline()  # its greeting
        self.do("qmp_capabilities")

    def do(self, command: str, **arguments) -> dict:
        """What it answers; events in between are nobody's."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            told = json.loads(self._lines.readline())
            if "error" in told:
                sys.exit(f"qmp: {command}: {told['error']['desc']}")
            if "return" in told:
                return told["return"]


def log(monitor: Monitor, seconds: str) -> None:
    monitor.do("calc-dirty-rate", mode="dirty-bitmap", **{"calc-time": int(seconds)})


def move(monitor: Monitor, uri: str, downtime: str, seconds: str) -> None:
    monitor.do("migrate-set-parameters", **{"downtime-limit": int(downtime), "max-bandwidth": 0})
    monitor.do("migrate-set-capabilities", capabilities=[{"capability": "auto-converge", "state": True}])
    monitor.do("migrate", uri=uri)
    end = time.monotonic() + float(seconds)
    told = monitor.do("query-migrate")
    while told["status"] not in ("completed", "failed", "cancelled") and time.monotonic() < end:
        time.sleep(0.2)
        told = monitor.do("query-migrate")
    print(json.dumps(told))


path, do, *arguments = sys.argv[1:]
{"move": move, "log": log}[do](Monitor(path), *arguments)
