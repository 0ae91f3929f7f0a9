# SPDX-License-Identifier: Apache-2.0
"""What hangs before a machine runs, and one SIGTERM to who waits for it. Run where duet runs; tells as
JSON how each ended:  hang_before.py DUET KERNEL INITRD CASE..."""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from storage import LIMIT_MS, Fuse, wait_for

DUET, KERNEL, INITRD = sys.argv[1:4]
MACHINE = ["--kernel", KERNEL, "--initrd", INITRD, "--memory", "128M"]
LIMIT = 120


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def started(directory: Path, *words: str, **more):
    """duet WORDS in DIRECTORY, with what it says in `said`."""
    with open(directory / "said", "w+b") as said:
        process = subprocess.Popen([DUET, *words], cwd=directory, stdin=subprocess.DEVNULL, stderr=said,
                                   **{"stdout": subprocess.DEVNULL, **more})
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def end(process: subprocess.Popen, directory: Path) -> dict:
    """By one SIGTERM."""
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(LIMIT)
    seconds = time.monotonic() - begun
    pids = [int(pid) for pid in children.stdout.split()]
    with contextlib.suppress(AssertionError):
        wait_for(lambda: not any(map(alive, pids)), 10)
    return {"status": process.returncode, "ms": round(seconds * 1000), "limit_ms": LIMIT_MS,
            "children": len(pids), "survivors": [pid for pid in pids if alive(pid)], "said": (directory / "said").read_text()}


def hung(storage: Fuse):
    """Until somebody waits for it."""
    assert storage.waits.wait(LIMIT), "nobody asked the storage"


def disk(directory: Path, storage: Fuse) -> dict:
    storage.hang()
    with started(directory, "run", *MACHINE, "--disk", f"path={storage.path}") as process:
        hung(storage)
        return end(process, directory)


def passt(directory: Path, _storage: Fuse) -> dict:
    """One that starts, and never reads what it is sent."""
    program = directory / "hangs"
    program.write_text("#!/bin/sh\n: >started\nexec sleep 3600\n")
    program.chmod(0o755)
    with started(directory, "run", *MACHINE, "--net", "user", "--passt", str(program)) as process:
        wait_for((directory / "started").exists, LIMIT)
        return end(process, directory)


def main(*cases: str) -> dict:
    storage, told = Fuse(), {}
    with tempfile.TemporaryDirectory() as directory:
        for case in cases:
            try:
                storage.waits.clear()
                told[case] = globals()[case](Path(directory), storage)
            except BaseException:
                print((Path(directory) / "said").read_text(), file=sys.stderr)
                raise
            finally:
                storage.go_on()
    storage.close()
    return told


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[4:])))
