# SPDX-License-Identifier: Apache-2.0
"""One line of progress on stderr for work that takes more than a moment."""

import contextlib
import sys
import threading
import time

QUIET_SECONDS = 2


def _ticker(name: str, start: float, done: threading.Event) -> None:
    """Redraw the line on a terminal; say the name once anywhere else."""
    if done.wait(QUIET_SECONDS):
        return
    if not sys.stderr.isatty():
        print(f"{name} ...", file=sys.stderr, flush=True)
        return
    while True:
        elapsed = int(time.monotonic() - start)
        print(f"\r\033[K{name} ... {elapsed} s", end="", file=sys.stderr, flush=True)
        if done.wait(1):
            return


@contextlib.contextmanager
def step(name: str):
    """Show NAME and its elapsed seconds while the body runs.

    Steps shorter than QUIET_SECONDS stay silent."""
    start = time.monotonic()
    done = threading.Event()
    thread = threading.Thread(target=_ticker, args=(name, start, done), daemon=True)
    thread.start()
    word = "failed after"
    try:
        yield
        word = "done,"
    finally:
        done.set()
        thread.join()
        elapsed = time.monotonic() - start
        if elapsed >= QUIET_SECONDS:
            line = "\r\033[K" if sys.stderr.isatty() else ""
            print(f"{line}{name}: {word} {elapsed:.0f} s", file=sys.stderr, flush=True)


class Percent:
    """Progress in percent on stderr: redrawn on a terminal, every tenth elsewhere."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shown = -1
        self.start = time.monotonic()

    def show(self, percent: int) -> None:
        terminal = sys.stderr.isatty()
        if percent // (1 if terminal else 10) == self.shown // (1 if terminal else 10):
            return
        self.shown = percent
        line = f"{self.name}: {percent} %, {time.monotonic() - self.start:.0f} s"
        print(
            f"\r\033[K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr
        )
        sys.stderr.flush()

    def end(self) -> None:
        if sys.stderr.isatty():
            print(file=sys.stderr)
