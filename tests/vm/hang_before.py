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

from storage import LIMIT_MS, Fuse, read_until, wait_for

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


def end(process: subprocess.Popen, directory: Path, *sockets: str) -> dict:
    """By one SIGTERM; SOCKETS were there before, and what is left of them is told."""
    missing = [name for name in sockets if not (directory / name).exists()]
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(LIMIT)
    seconds = time.monotonic() - begun
    pids = [int(pid) for pid in children.stdout.split()]
    with contextlib.suppress(AssertionError):
        wait_for(lambda: not any(map(alive, pids)), 10)
    return {"status": process.returncode, "ms": round(seconds * 1000), "limit_ms": LIMIT_MS, "missing": missing,
            "left": [name for name in sockets if (directory / name).exists()], "children": len(pids),
            "survivors": [pid for pid in pids if alive(pid)], "said": (directory / "said").read_text()}


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


def ask(directory: Path, path: str, body: dict, **more):
    return subprocess.Popen(["curl", "-sS", "--unix-socket", "api", "-X", "PUT", "-d", json.dumps(body),
                             f"http://localhost{path}"], cwd=directory, **more)


def api(directory: Path, storage: Fuse) -> dict:
    with started(directory, "--api-sock", "api") as process:
        wait_for((directory / "api").exists, LIMIT)
        assert ask(directory, "/boot-source", {"kernel_image_path": KERNEL, "initrd_path": INITRD}).wait(LIMIT) == 0
        assert ask(directory, "/drives/disk", {"drive_id": "disk", "path_on_host": storage.path,
                                               "is_root_device": False}).wait(LIMIT) == 0
        storage.hang()
        with ask(directory, "/actions", {"action_type": "InstanceStart"}, stderr=subprocess.DEVNULL):
            hung(storage)
            return end(process, directory, "api")


def incoming(directory: Path, storage: Fuse) -> dict:
    """A machine that moves there; it goes on where it was."""
    target = directory / "target"
    target.mkdir()
    control = [DUET, "ctl", str(directory / "api")]
    with started(directory, "run", *MACHINE, "--disk", f"path={storage.path}", "--api-sock", "api", "--allow", ".",
                 stdout=subprocess.PIPE) as source:
        read_until(source.stdout.fileno(), b"ready\r\n")
        subprocess.run([*control, "snapshot", str(directory / "kept")], check=True, stdout=subprocess.DEVNULL)
        with started(target, "run", "--incoming", "unix:here") as process:
            wait_for((target / "here").exists, LIMIT)
            storage.hang()
            with subprocess.Popen([*control, "migrate", f"unix:{target}/here"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as move:
                hung(storage)
                how = end(process, target, "here")
                how["move"] = move.wait(LIMIT)
        storage.go_on()
        how["source"] = json.loads(subprocess.run([*control, "status"], check=True, capture_output=True,
                                                  text=True).stdout)["state"]
        return how


def restore(directory: Path, storage: Fuse) -> dict:
    """What incoming() has left."""
    storage.hang()
    with started(directory, "run", "--restore", "kept", "--api-sock", "again") as process:
        hung(storage)
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
