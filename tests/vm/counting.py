# SPDX-License-Identifier: Apache-2.0
"""Machines that count on their console without an end, and have nothing else. What those of a move have said, one after
the other, tells whether both ever ran, or something is lost: it is each number once."""

import signal
import subprocess
import sys
from pathlib import Path

from signals import DUET, KERNEL, ended_within
from storage import LIMIT_MS, wait_for

# How a machine ends that is told to before it runs; and once it ran.
BEFORE = (-signal.SIGINT, -signal.SIGTERM)
AT_ONCE = 4


class Machine:
    """A duet, with an API of that name."""

    def __init__(self, directory: Path, name: str, *options: str, within: Path | None = None):
        """WITHIN: a cgroup for it."""
        self.directory, self.name = directory, name
        (directory / name).unlink(missing_ok=True)
        with open(self.file("console"), "wb") as console, open(self.file("said"), "wb") as said:
            into = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(within / "cgroup.procs")] if within else []
            self.duet = subprocess.Popen([*into, DUET, "run", "--log", "info", *options, "--api-sock", name], cwd=directory,
                                         stdin=subprocess.DEVNULL, stdout=console, stderr=said)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_exc):
        if kind:
            print(f"{self.name}, status {self.duet.poll()}: {self.said()}\n{self.console()[-100:]}", file=sys.stderr)
        self.duet.kill()
        self.duet.wait()

    def file(self, what: str) -> Path:
        return self.directory / f"{self.name}.{what}"

    def said(self) -> str:
        return self.file("said").read_text()

    def console(self) -> str:
        return self.file("console").read_text()

    def settled(self) -> int | None:
        """Waits until it has counted on, or has ended: its status then."""
        enough = self.file("console").stat().st_size + 100
        wait_for(lambda: self.duet.poll() is not None or self.file("console").stat().st_size > enough)
        return self.duet.poll()

    def says(self, word: str, times: int):
        wait_for(lambda: self.duet.poll() is not None or self.console().count(word) >= times, 300)
        assert self.duet.poll() is None

    def counts(self) -> bool:
        return self.settled() is None

    def send(self, *numbers: int):
        """At once: two that ask for the end are two because they are not the same."""
        for number in numbers:
            self.duet.send_signal(number)

    def ended(self) -> int:
        status = self.duet.wait(60)
        assert not (self.directory / self.name).exists(), "the API's socket is left"
        if status == AT_ONCE:
            assert ended_within(self.said()) < LIMIT_MS
        return status


def numbers(console: str) -> list[int]:
    """Those that are whole: letters from a to p are digits."""
    lines = console.split("\n")[:-1]
    return [int(line.translate({ord("a") + n: f"{n:x}" for n in range(16)}), 16) for line in lines]


def check_order(console: str):
    seen = numbers(console)
    first = seen[0] if seen else 1
    assert seen == list(range(first, first + len(seen))), f"not each number once, from {first}: {console[-400:]}"


def start(directory: Path, name: str) -> Machine:
    machine = Machine(directory, name, "--kernel", KERNEL, "--memory", "48M", "--allow", str(directory))
    assert machine.counts()
    return machine
