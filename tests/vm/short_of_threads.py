# SPDX-License-Identifier: Apache-2.0
"""A machine moves to a process that may have too few threads: one more each time, until it has got there. It runs at one
of both, always. Run where duet runs, as root; tells as JSON what became of each:  short_of_threads.py DUET KERNEL"""

import json
import tempfile
from pathlib import Path

from counting import BEFORE, Machine, check_order, numbers, start
from signals import ctl
from storage import wait_for

GROUPS = Path("/sys/fs/cgroup")
MOST = 24  # far more than there are


def attempt(directory: Path, source: Machine, group: Path, threads: int) -> dict:
    (directory / "way").unlink(missing_ok=True)
    (group / "pids.max").write_text(str(threads))
    with Machine(directory, "target", "--incoming", "unix:way", within=group) as target:
        wait_for(lambda: target.duet.poll() is not None or "waiting for a machine at" in target.said())
        if target.duet.poll() is None:
            with ctl(directory, "migrate", "unix:way", name="source") as asked:
                asked.wait(60)
        source_ended, target_ended = source.settled(), target.settled()
        said = source.console() + target.console()
        check_order(said)
        assert numbers(said)[0] == 1
        gone = source_ended == 0 and target_ended is None
        if not gone:
            assert source_ended is None and target_ended in (1, *BEFORE), (source_ended, target_ended)
            # Of any number of threads there is a word, and nothing of a machine was here.
            assert "emporarily unavailable" in target.said() and not target.console()
        return {"threads": threads, "moved": gone, "said": target.said()}


def main() -> list[dict]:
    if "pids" not in (GROUPS / "cgroup.controllers").read_text().split():
        raise SystemExit("this host has no controller of pids")
    (GROUPS / "cgroup.subtree_control").write_text("+pids")
    group = GROUPS / "duet-short-of-threads"
    group.mkdir(exist_ok=True)
    attempts: list[dict] = []
    try:
        with tempfile.TemporaryDirectory() as name, start(Path(name), "source") as source:
            while not attempts or not attempts[-1]["moved"]:
                assert len(attempts) < MOST, attempts[-1]
                attempts.append(attempt(Path(name), source, group, len(attempts) + 1))
    finally:
        group.rmdir()
    return attempts


if __name__ == "__main__":
    print(json.dumps(main()))
