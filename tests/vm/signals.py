# SPDX-License-Identifier: Apache-2.0
"""Lives of a machine that resets without end, and signals in the midst of them. Run where duet runs; tells
as JSON how each ended:  signals.py DUET KERNEL"""

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from storage import LIMIT_MS, pending, wait_for

DUET, KERNEL = sys.argv[1:3]


def begin(directory: Path) -> subprocess.Popen:
    for name in ("api", "stats"):
        (directory / name).unlink(missing_ok=True)
    with open(directory / "said", "wb") as said:
        return subprocess.Popen([DUET, "run", "--log", "info", "--kernel", KERNEL, "--memory", "64M", "--api-sock",
                                 "api", "--stats", "stats"], cwd=directory, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=said)


def send(duet: subprocess.Popen):
    """Two that ask for the end, and what may come between them."""
    for number in (signal.SIGINT, signal.SIGSTOP, signal.SIGCONT):
        duet.send_signal(number)
    wait_for(lambda: duet.poll() is not None or not pending(duet.pid, signal.SIGINT))
    duet.send_signal(signal.SIGTERM)


def ended_within(said: str) -> int | None:
    """Milliseconds from its being told to end at once; null: it was not. In the middle of a reset it is as when its
    storage hangs."""
    told = re.search(r"has ended, (\d+) ms after it was told to end at once|"
                     r"while its storage did not answer, (\d+) ms after it;", said)
    return int(told.group(1) or told.group(2)) if told else None


def end(duet: subprocess.Popen, directory: Path, case: str) -> dict:
    duet.wait(60)
    said = (directory / "said").read_text()
    stats = directory / "stats"
    resets = json.loads(stats.read_text())["machine"]["resets"] if stats.exists() else 0
    return {"case": case, "status": duet.returncode, "ms": ended_within(said), "limit_ms": LIMIT_MS,
            "resets": resets, "left": [name for name in ("api",) if (directory / name).exists()], "said": said}


def ctl(directory: Path, *words: str, name: str = "api") -> subprocess.Popen:
    return subprocess.Popen([DUET, "ctl", str(directory / name), *words], cwd=directory, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


def listens(directory: Path) -> bool:
    """Its API answers: the loop stands."""
    return ctl(directory, "status").wait(60) == 0


def resets(duet: subprocess.Popen, directory: Path, delay: float):
    wait_for(lambda: listens(directory))
    time.sleep(delay)
    send(duet)


def paused(duet: subprocess.Popen, directory: Path, _delay: float):
    wait_for(lambda: listens(directory))
    assert ctl(directory, "pause").wait(60) == 0
    send(duet)


def pauses(duet: subprocess.Popen, directory: Path, delay: float):
    wait_for(lambda: listens(directory))
    with ctl(directory, "pause"):
        time.sleep(delay)
        send(duet)


def life(directory: Path, case: str, delay: float) -> dict:
    duet = begin(directory)
    try:
        globals()[case](duet, directory, delay)
        return end(duet, directory, case)
    except BaseException:
        print((directory / "said").read_text(), file=sys.stderr)
        raise
    finally:
        duet.kill()
        duet.wait()


def main() -> list[dict]:
    moments = [("resets", at / 1000) for at in (0, 5, 10, 20, 50, 100, 200, 400)]
    moments += [("paused", 0)] * 2 + [("pauses", at / 1000) for at in (0, 5, 20)]
    with tempfile.TemporaryDirectory() as directory:
        return [life(Path(directory), case, delay) for case, delay in moments]


if __name__ == "__main__":
    print(json.dumps(main()))
