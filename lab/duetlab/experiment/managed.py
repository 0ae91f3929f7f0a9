# SPDX-License-Identifier: Apache-2.0
"""Guests of one host under duetd, each in a cgroup of its own as its unit would give it one."""

import json
import shlex
import time

from ..base.errors import LabError
from .lab import HOME, ExperimentLab

GROUP = "/sys/fs/cgroup/duet-managed"
DIRECTORY = f"{HOME}/managed"
SOCKET, LOG, PID = f"{DIRECTORY}/duetd", f"{DIRECTORY}/duetd.log", f"{DIRECTORY}/pid"
LIMIT = 300  # seconds that anything of it may take on a busy machine
POLL_SECONDS = 0.5
EMPTY = '"actual_mib": *0[,}]'  # a balloon's statistics

# What duet's own command line stands behind: its process begins in the cgroup, so all its memory counts there.
_JOIN = 'mkdir -p {group} && echo $$ >{group}/cgroup.procs && exec "$@"'

# Paging of the host: of these machines alone where a cgroup counts it, else of all.
_PAGING = ("for file in {group}/memory.stat /proc/vmstat; do "
           "awk '/^pswpin / {{ i = $2 }} /^pswpout / {{ o = $2 }} END {{ if (i == \"\") exit 1; print i, o }}' $file && break; done 2>/dev/null")


# What else a cgroup counts, and when that was: a name and a number each.
_COUNTS = ("awk '$1 ~ /^pg(fault|scan|steal)$/' {group}/memory.stat; "
           "sed -n 's/^some .*total=/stalled_us /p' {group}/memory.pressure 2>/dev/null; "
           "awk '{{ print \"us\", int($1 * 1000000) }}' /proc/uptime")

_LIST = f"curl -sS --unix-socket {SOCKET} http://localhost/vms"


def _pages(paging: str) -> dict[str, int]:
    return dict(zip(("in", "out"), map(int, paging.split()), strict=True))


def _well(answer: str) -> dict[str, dict]:
    return {entry["name"]: entry for entry in json.loads(answer) if entry["well"]}


class Managed:
    """Use as a context manager, around the guests: leaving it puts the host back."""

    def __init__(self, lab: ExperimentLab):
        self.lab = lab
        self._runs = False

    def __enter__(self):
        program = self.lab.path(self.lab.duet.with_name("duetd"))
        self.lab.shell(f"set -e; rm -rf {DIRECTORY}; mkdir -p {DIRECTORY} {GROUP}; cp {program} {program[:-1]}ctl {HOME}; "
                       f"echo '+cpu +memory' >{GROUP}/cgroup.subtree_control")
        return self

    def __exit__(self, *_exc):
        self.end()
        self.lab.shell(f"{HOME}/duetd --undo; for group in {GROUP}/* {GROUP}; do [ ! -d $group ] || "
                       "until rmdir $group; do sleep 0.2; done; done 2>/dev/null", LIMIT)

    def options(self, name: str) -> tuple[str, ...]:
        """duet's, by which duetd finds the machine."""
        return ("--api-sock", f"{DIRECTORY}/{name}.sock")

    def wrapper(self, name: str) -> tuple[str, ...]:
        """What duet is started by, so that it begins in its cgroup."""
        return ("sh", "-c", _JOIN.format(group=f"{GROUP}/{name}"), "sh")

    def start(self, *options: str) -> None:
        """duetd, from when its socket is there."""
        command = shlex.join([f"{HOME}/duetd", "--directory", DIRECTORY, "--socket", SOCKET, *options])
        self.lab.shell(f"rm -f {SOCKET}; nohup {command} >>{LOG} 2>&1 </dev/null & echo $! >{PID}; "
                       f"until [ -S {SOCKET} ]; do kill -0 $(cat {PID}) || {{ tail -3 {LOG} >&2; exit 1; }}; sleep 0.1; done")
        self._runs = True

    def end(self) -> None:
        if self._runs:
            self._runs = False
            self.lab.shell(f"pid=$(cat {PID}); kill $pid; while [ -e /proc/$pid ]; do sleep 0.1; done", LIMIT)

    def policy(self, mechanism: str, name: str) -> None:
        self.lab.shell(f"{HOME}/duetctl --socket {SOCKET} policy {mechanism} {name}")

    def machines(self) -> dict[str, dict]:
        """What duetd knows of each, by name."""
        return _well(self.lab.shell(_LIST))

    def until(self, holds, what: str) -> dict[str, dict]:
        """Its machines, when HOLDS of them."""
        end = time.monotonic() + LIMIT
        while not holds(found := self.machines()):
            if time.monotonic() > end:
                raise LabError(f"duetd: not {what}: {json.dumps(found)[:2000]}\n{self.lab.shell(f'tail -5 {LOG}')}")
            time.sleep(POLL_SECONDS)
        return found

    def limit(self, size: str) -> None:
        """All machines together take no more of the host, as 512M or max: what is above it is swapped out before a vCPU goes on."""
        self.lab.shell(f"echo {size} >{GROUP}/memory.high", LIMIT)

    def taken(self) -> int:
        """Bytes of the host's memory that all machines take."""
        return int(self.lab.shell(f"cat {GROUP}/memory.current"))

    def confine(self, size: str) -> None:
        """They have no more of the host's memory than SIZE at any time: who wants a page more swaps one out first."""
        self.lab.shell(f"echo {size} >{GROUP}/memory.max", LIMIT)

    def kill(self) -> None:
        """All that runs in the machines' cgroups, at once."""
        self.lab.shell(f"echo 1 >{GROUP}/cgroup.kill")

    def counts(self) -> dict[str, int]:
        """Of all machines, since they are there: faults, pages looked at and taken to be swapped, microseconds in which some of
        them waited for memory, where the kernel says so; `in` and `out`, pages that were swapped; and `us`, a clock."""
        paging, _, told = self.lab.shell(f"{_PAGING}; {_COUNTS}".format(group=GROUP)).partition("\n")
        return _pages(paging) | {name: int(number) for name, number in map(str.split, told.splitlines())}

    def let_go(self, names) -> None:
        """Waits until the machines have let go of their balloons, which they do when nobody renews what duetd has set."""
        ask = f"curl -sS --unix-socket {DIRECTORY}/$name.sock http://localhost/balloon/statistics"
        self.lab.shell(f"for name in {' '.join(names)}; do until {ask} | grep -q {shlex.quote(EMPTY)}; do sleep 0.5; done; done", LIMIT)

    def look(self) -> tuple[dict[str, int], dict[str, dict]]:
        """Pages that the host has swapped in and out, and `machines`."""
        paging, _, answer = self.lab.shell(_PAGING.format(group=GROUP) + f"; {_LIST}").partition("\n")
        return _pages(paging), _well(answer)
