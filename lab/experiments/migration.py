# SPDX-License-Identifier: Apache-2.0
"""M7: a guest that works goes to another duet, and what that costs by how fast it writes to its memory.

Source and target share one host: what goes from one to the other is real, a network between them is not in it."""

import contextlib
import json
import re

from duetlab.experiment import functions
from duetlab.experiment.lab import HOME, KERNEL, PORT, ExperimentLab, initrd_of_guest
from duetlab.experiment.record import Skipped, attempt, usual_confounders
from duetlab.experiment.subject import Subject
from duetlab.guest import vm

ORDER = 7
MECHANISMS = {"M7": "Live migration"}
TITLE = "Migration: a guest moves while it works"
WHAT = ("A program in the guest writes to its memory at a given rate, to a disk, and to a TCP connection. Meanwhile the guest "
        "goes to another duet: its memory is copied while it runs, what it writes to is copied again, and it stands still for "
        "the rest only. At the end all that the program wrote is compared, to the byte. Then a guest with a virtual function "
        "of a disk is to go, as it is and after it has let go of it.")

MEMORY_MIB, WORKING_MIB, DISK_MIB = 256, 64, 2
GUEST_PAGES = MEMORY_MIB << 8
PERCENTS = (0, 1, 5, 20)  # of the guest's memory, written to in a second
STREAMS = (1, 2, 4)
STREAMED_PERCENT = 5
DOWNTIME_MS = 300
BRIDGE, BEFORE, AFTER = "expbr", "exp7a", "exp7b"
HOST, GUEST = "10.77.7.1", "10.77.7.2"
SOCK, WAY = f"{HOME}/move.sock", f"{HOME}/move"
PATIENCE = 400  # seconds
MOVE_LIMIT = 900


@contextlib.contextmanager
def bridge(lab: ExperimentLab):
    """Two taps at one network of the host: the guest's before, and the one after."""
    links = " ".join((BEFORE, AFTER, BRIDGE))
    remove = f"for link in {links}; do ip link del $link 2>/dev/null; done; true"
    lab.shell(f"{remove}; set -e; ip link add {BRIDGE} type bridge; ip addr add {HOST}/24 dev {BRIDGE}; ip link set {BRIDGE} up; "
              f"for link in {BEFORE} {AFTER}; do ip tuntap add $link mode tap vnet_hdr; "
              f"ip link set $link master {BRIDGE}; ip link set $link up; done")
    try:
        yield
    finally:
        lab.shell(remove)


class Arrived(Subject):
    """A duet that waits for a machine, and then the machine; OPTIONS say where its networks are here."""

    def __init__(self, lab: ExperimentLab, *options: str):
        self.lab, self.pinned, self._pin = lab, "", False
        lab.shell(f"rm -f {WAY}")
        self.guest = vm.Guest(kernel=KERNEL, initrd=initrd_of_guest(), direct=not lab.counts,
                              peer=lambda _kernel, _initrd: [f"{HOME}/duet", "run", "--incoming", f"unix:{WAY}", "--log", "info",
                                                             *options])

    def _start(self) -> None:
        self.guest.wait_for("waiting for a machine at", limit=PATIENCE)


def begin(subject: Subject, rate: int) -> None:
    subject.command(f"ip addr add {GUEST}/24 dev eth0 && ip link set eth0 up")
    subject.command("rm -f /tmp/stop; "
                    f"(workload travel /tmp/stop {WORKING_MIB} {rate} /dev/vda {HOST} {PORT} >/tmp/travel 2>&1 &) ; "
                    "until grep -q travelling /tmp/travel; do sleep 0.1; done")


def move(lab: ExperimentLab, streams: int) -> dict:
    """What the source says of it, when the guest is there."""
    told = lab.shell(f"set -e; {HOME}/duet ctl {SOCK} migrate unix:{WAY} --downtime {DOWNTIME_MS} --streams {streams} >{HOME}/moved; "
                     f"{HOME}/duet ctl {SOCK} get /duet/migration", limit=MOVE_LIMIT)
    return json.loads(told)


def travelled(subject: Subject) -> dict:
    return subject.told("touch /tmp/stop; until grep -q gap_ns /tmp/travel; do sleep 0.1; done; tail -n 1 /tmp/travel")


def one(lab: ExperimentLab, percent: int, streams: int) -> dict:
    disk = lab.disk("migration", DISK_MIB)
    with bridge(lab), lab.peer(HOST), \
            Subject(lab, "--net", f"tap,ifname={BEFORE}", "--disk", f"path={disk},cache=direct", "--api-sock", SOCK,
                    memory=f"{MEMORY_MIB}M", pin=False) as source:  # fmt: skip
        begin(source, GUEST_PAGES * percent // 100)
        with Arrived(lab, "--net", f"tap,ifname={AFTER}") as there:
            found = move(lab, streams)
            return {"percent": percent, "streams": streams, "moved": found, "work": travelled(there)}


def refusal(lab: ExperimentLab) -> dict:
    """What the source says of a guest that drives a virtual function, which goes on here; and of the same after it was asked
    to let go of it, which goes on there."""
    ask = f"{HOME}/duet ctl {SOCK} migrate unix:{WAY} --downtime {DOWNTIME_MS}"
    with functions.taken("nvme", 1) as (ours,), Subject(lab, "--device", f"vfio,host={ours}", "--api-sock", SOCK, pin=False) as source, \
            Arrived(lab) as there:
        told = lab.shell(f"{ask} 2>&1 || true").strip().splitlines()[-1]
        source.command("modprobe -q nvme; until [ -b /dev/nvme0n1 ]; do sleep 0.1; done; "
                       "(while dd if=/dev/nvme0n1 of=/dev/null bs=1M count=16; do :; done) >/dev/null 2>&1 &")
        lab.shell(f"{ask} --unplug", limit=MOVE_LIMIT)
        there.command("[ -z \"$(ls /sys/class/nvme)\" ]")
    return {"refused": re.sub(r"^(duet: )?(error: )?(refused \(\d+\): )?", "", told)}


def run(lab: ExperimentLab, record) -> None:
    points = [(percent, 1) for percent in PERCENTS] + [(STREAMED_PERCENT, streams) for streams in STREAMS[1:]]
    moves = [attempt(record, f"{percent} % of memory a second, {streams} stream{'s' * (streams > 1)}", one, lab, percent, streams)
             for percent, streams in points]
    moves = [found for found in moves if found]
    if not moves:
        raise Skipped("no guest could be moved")
    tell(lab, record, moves, attempt(record, "a virtual function", refusal, lab))


# What came of it


def nonzero(moved: dict) -> int:
    return moved["pages_sent"] - moved["pages_resent"]


def again(found: dict) -> float:
    """Pages sent for each that is not zero."""
    return found["moved"]["pages_sent"] / nonzero(found["moved"])


def sound(found: dict) -> bool:
    work = found["work"]
    return found["moved"]["state"] == "done" and work["arrived"] and not work["wrong_pages"] and not work["wrong_blocks"]


def row(found: dict) -> list:
    moved, work = found["moved"], found["work"]
    return [f"{found['percent']} %", found["streams"], moved["rounds"], nonzero(moved), moved["pages_resent"], f"{again(found):.3f}",
            f"{moved['downtime_ns'] / 1e6:.1f}", f"{work['gap_ns'] / 1e6:.0f}", f"{work['writes'] / (work['ns'] / 1e9) / GUEST_PAGES:.1%}",
            "as they were written" if sound(found) else f"WRONG: {work['wrong_pages']} pages, {work['wrong_blocks']} blocks"]


def tell(lab: ExperimentLab, record, moves: list[dict], function: dict | None) -> None:
    record.figure("moves", moves)
    record.figure("function", function)
    record.table(f"A guest of {MEMORY_MIB} MiB, by how much of it is written to in a second",
                 ["memory asked to be written a second", "streams", "rounds", "pages that are not zero", "pages sent again",
                  "sent for each of them", "stood still, ms", "longest pause of the program, ms", "written in fact a second",
                  "memory, disk, connection"], [row(found) for found in moves], emulated=lab.counts)
    by_rate = [found for found in moves if found["streams"] == 1]
    record.chart("Pages sent, by how fast the guest writes",
                 "; ".join(f"{found['percent']} %: {again(found):.2f}" for found in by_rate),
                 "Copying what changed meanwhile again and again: each round leaves what was written while it went.",
                 [{"name": "pages sent for each that is not zero", "style": "line", "x": [found["percent"] for found in by_rate],
                   "y": [again(found) for found in by_rate]}],
                 x_label="of the guest's memory written to, % a second", y_label="times")
    record.chart("How long the guest stood still", "; ".join(f"{found['percent']} %: {found['moved']['downtime_ns'] / 1e6:.0f} ms"
                                                             for found in by_rate),
                 f"The aim was {DOWNTIME_MS} ms at most.",
                 [{"name": "stood still", "style": "bars", "x": [found["percent"] for found in by_rate],
                   "y": [found["moved"]["downtime_ns"] / 1e6 for found in by_rate]}],
                 x_label="of the guest's memory written to, % a second", y_label="ms", emulated=lab.counts)
    record.symbol("d, r", "how fast the guest writes to new pages, and how fast they are sent. A round leaves d/r of what it sent.")
    usual_confounders(record, lab, None)
    record.confounder("The network between", "not in it", "source and target share a host; a Unix socket is between them")
    record.confounder("Throttling", "not controlled", "duet slows down a guest that writes faster than it can be copied; what was "
                      "written in fact is beside what was asked")
    if function is not None:
        record.table("A guest with a virtual function", ["what is asked", "what comes of it"],
                     [["migrate", function["refused"]], ["migrate --unplug", "it lets go of it, and goes on there"]])
    claim(record, moves, function)


CLAIM = "A guest on virtio devices moves to another host without a break; one with a hardware function does not."
MODEL = "pages sent: those that are not zero, and d/r of each round's once more"


def claim(record, moves: list[dict], function: dict | None) -> None:
    right = [found for found in moves if sound(found)]
    measured = (f"{len(right)} of {len(moves)} moves without a wrong byte or a lost connection; stood still "
                f"{max(found['moved']['downtime_ns'] for found in moves) / 1e6:.0f} ms at most; "
                f"{min(again(found) for found in moves):.3f} to {max(again(found) for found in moves):.3f} pages sent for each "
                f"that is not zero; virtual function: "
                + (f"{function['refused']}; after --unplug it moves" if function else "not tried"))
    if len(right) < len(moves):
        record.claim("M7", CLAIM, MODEL, measured, "no", "Something was lost on the way.")
    elif function is None:
        record.claim("M7", CLAIM, MODEL, measured, "partly", "There was no virtual function to try.")
    else:
        record.claim("M7", CLAIM, MODEL, measured, "yes", "All of a virtio device's state is the monitor's to copy.")


def selftest(lab: ExperimentLab, record) -> None:
    """Three rates; all is well, then a page is wrong."""
    def point(percent: int, wrong: int = 0) -> dict:
        moved = {"state": "done", "rounds": 2 + percent, "pages_sent": 10000 + 100 * percent, "pages_resent": 100 * percent,
                 "pages_zero": 50000, "downtime_ns": 40e6, "throttle_percent": 0}
        work = {"pages": 16384, "writes": 600 * percent, "wrong_pages": wrong, "wrong_blocks": 0, "arrived": True, "ns": 1e9, "gap_ns": 50e6}
        return {"percent": percent, "streams": 1, "moved": moved, "work": work}

    refused = {"refused": "vfio0 cannot move"}
    tell(lab, record, [point(0), point(5), point(20)], refused)
    assert record.data["claims"][0]["agrees"] == "yes"
    assert "1.000 to 1.200 pages" in record.data["claims"][0]["measured"], record.data["claims"]
    claim(record, [point(0), point(5, wrong=1)], refused)
    assert record.data["claims"][1]["agrees"] == "no"
