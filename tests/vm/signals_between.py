# SPDX-License-Identifier: Apache-2.0
"""Signals while a machine is saved, restored, moved, or resets itself under load: at moments that a seed draws, in many
rounds. Run where duet runs; judges each, and tells as JSON what they were:
signals_between.py DUET KERNEL STOCK INITRD DISK [SEED]

STOCK with INITRD loads DISK, says "resets", and does; without an end. KERNEL is of a machine that counts (counting.py)."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from counting import AT_ONCE, BEFORE, Machine, check_order, numbers, start
from signals import DUET, ctl
from storage import wait_for

STOCK, INITRD, DISK = sys.argv[3:6]
TIMES = 12 if os.environ.get("DUET_SOAK") == "1" else 1
RESETS = TIMES

BURSTS = {
    "stops": (signal.SIGSTOP, signal.SIGCONT),
    "once": (signal.SIGSTOP, signal.SIGINT, signal.SIGCONT),
    "twice": (signal.SIGINT, signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM),
}


def check_clone(clone: Machine, beyond: int = 0):
    """It may begin in the middle of a number."""
    _, _, console = clone.console().partition("\n")
    check_order(console)
    assert not console or numbers(console)[0] > beyond


# Who is struck. Each case begins with a round that is left alone, and tells how long it takes.
ONE = [(burst, "source") for burst in BURSTS]
TWO = [("stops", "source"), ("once", "target"), ("twice", "source"), ("twice", "target")]


class Round:
    """One of them; its moment is drawn."""

    def __init__(self, draw: random.Random, took: float, burst: str, victim: str):
        self.burst, self.victim = burst, victim
        self.delay = draw.uniform(0, 1.2 * took)
        self.begun = self.took = 0.0
        self.outcome = ""

    def strike(self, machine: Machine):
        self.begun = time.monotonic()
        time.sleep(self.delay)
        if machine.duet.poll() is None:
            machine.send(*BURSTS.get(self.burst, ()))

    def over(self):
        self.took = time.monotonic() - self.begun


def is_whole(directory: Path) -> bool:
    return subprocess.run([DUET, "snapshot", "check", "saved"], cwd=directory, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, check=False).returncode == 0


def save(directory: Path, this: Round) -> str:
    """What has the name is whole: the one from before, or the new one."""
    with start(directory, "source") as source:
        reached = numbers(source.console())[-1]
        with ctl(directory, "snapshot", "saved", name="source") as asked:
            this.strike(source)
            asked.wait(60)
            this.over()
        status = source.ended() if this.burst == "twice" else source.settled()
        assert status == (AT_ONCE if this.burst == "twice" else None), status
        assert this.burst == "twice" or asked.returncode == 0
        check_order(source.console())
    assert is_whole(directory) and not (directory / "saved.new").exists()
    with Machine(directory, "clone", "--restore", "saved") as clone:
        assert clone.counts()
        check_clone(clone, reached if asked.returncode == 0 else 0)
    return "saved" if asked.returncode == 0 else "not saved"


def restore(directory: Path, this: Round) -> str:
    with Machine(directory, "clone", "--restore", "saved") as clone:
        this.strike(clone)
        status = clone.ended() if this.burst == "twice" else clone.settled()
        if this.burst in ("none", "stops"):
            assert status is None
        elif this.burst == "once":
            assert status is None or status in BEFORE
        else:
            assert status in (AT_ONCE, *BEFORE)
        this.over()
        check_clone(clone)
    assert is_whole(directory)
    return f"status {status}"


def judge_move(this: Round, source: Machine, target: Machine, moved: bool) -> str:
    victim = {"source": source, "target": target}[this.victim]
    if this.burst == "twice":
        victim.ended()
    ends = source.settled(), target.settled()
    said = source.console() + target.console()
    check_order(said)
    assert numbers(said)[0] == 1
    never_ran = ends[1] in BEFORE or ends[1] == 1 and "no machine came" in target.said()
    if this.burst in ("none", "stops") or this.burst == "once" and victim is source:
        right = moved and ends == (0, None)
    elif this.burst == "once":
        right = ends == (0, None) or ends[0] is None and never_ran
    elif victim is source:
        # Told to end before, or when it had given its machine away.
        right = ends[0] in (AT_ONCE, 0) and (ends[1] is None or never_ran)
    elif ends[0] is None:
        right = never_ran
    else:
        right = ends[1] == AT_ONCE and ends[0] == 0 or ends[0] == 1 and "look there" in source.said()
    assert right, ends
    return f"status {ends[0]}, {ends[1]}"


def move(directory: Path, this: Round) -> str:
    (directory / "way").unlink(missing_ok=True)
    with Machine(directory, "target", "--incoming", "unix:way") as target, start(directory, "source") as source:
        wait_for(lambda: "waiting for a machine at" in target.said())
        with ctl(directory, "migrate", "unix:way", "--downtime", "60000", name="source") as asked:
            this.strike({"source": source, "target": target}[this.victim])
            asked.wait(60)
            this.over()
        return judge_move(this, source, target, asked.returncode == 0)


def reset(directory: Path, draw: random.Random) -> list[dict]:
    """It is stopped some times between a reset's beginning and the next start; in the end it is ended there."""
    rounds = []
    with Machine(directory, "stock", "--kernel", STOCK, "--initrd", INITRD, "--memory", "256M", "--cpus", "2", "--disk",
                 f"path={DISK}", "--cmdline", "quiet") as machine:
        for number in range(RESETS + 1):
            machine.says("resets", number + 1)
            delays = [draw.uniform(0, 0.3) for _ in range(8)]
            for delay in delays:
                time.sleep(delay)
                machine.send(*BURSTS["stops"])
            rounds.append({"case": "reset", "delays": delays})
        machine.send(*BURSTS["twice"])
        assert machine.ended() == AT_ONCE
    return rounds


def main(seed: int) -> list[dict]:
    draw = random.Random(seed)
    rounds = [{"seed": seed}]
    with tempfile.TemporaryDirectory() as name:
        for case, each in ((save, ONE), (restore, ONE), (move, TWO)):
            took = 0.0
            for burst, victim in [("none", "source"), *each * TIMES]:
                this = Round(draw, took, burst, victim)
                try:
                    this.outcome = case(Path(name), this)
                except BaseException:
                    print(f"seed {seed}, {case.__name__}: {vars(this)}", file=sys.stderr)
                    raise
                took = took or this.took
                rounds.append({"case": case.__name__, **vars(this)})
        rounds += reset(Path(name), draw)
    return rounds


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[6]) if sys.argv[6:] else random.randrange(1 << 32))))
