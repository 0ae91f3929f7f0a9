# SPDX-License-Identifier: Apache-2.0
"""What a guest does a second beside what duet lets it do: whole frames of a network, requests of a disk.

A limit is judged only where the guest, without it, does ENOUGH times as much in the same run. What is judged is the median of
some windows, which are all told: a bucket makes up for 20 ms in which nobody could run (base/bucket.h), and a busy machine's
emulated host stands still for longer now and then. A window that took LATE times what it should is left out."""

import contextlib
import itertools
import statistics
from dataclasses import dataclass

from .lab import HOME, PORT, ExperimentLab
from .subject import Subject

ENOUGH = 1.5
OFF_BY = 0.05
DEPTH, BLOCK = 16, 4096  # of the disk's requests
SECONDS, WINDOWS, WINDOWS_FREE = 2, 5, 2
LATE, LEAST = 1.1, 3  # with fewer windows than that in time nothing is judged
PERIOD_US = 100  # between the host's packets to the guest: more than any of them gets
SOCKET = f"{HOME}/rates.sock"


@dataclass(frozen=True)
class Kind:
    what: str
    unit: str  # bytes, packets or requests
    device: str
    option: str  # as `duet ctl SOCK limit` has it
    way: str  # of the tap, as the host names it, or of the workload disk
    field: int = 1  # where the kernel's statistics have it
    size: int = 1  # of what is counted there


KINDS = {kind.what + ", " + kind.unit: kind for kind in (
    Kind("network, sent", "bytes", "net0", "tx-rate", "rx"),
    Kind("network, received", "bytes", "net0", "rx-rate", "tx"),
    Kind("network, sent", "packets", "net0", "tx-pps", "rx"),
    Kind("network, received", "packets", "net0", "rx-pps", "tx"),
    Kind("disk, read", "bytes", "disk0", "bw", "read", 3, 512),
    Kind("disk, written", "bytes", "disk0", "bw", "write", 7, 512),
    Kind("disk, read", "requests", "disk0", "iops", "read", 1),
    Kind("disk, written", "requests", "disk0", "iops", "write", 5),
)}  # fmt: skip

# A field of FILE and the time, at the edges of windows. No program is started between the two.
_WINDOWS = ("for n in $(seq 0 {windows}); do [ $n = 0 ] || sleep {seconds}; "
            "read f1 f2 f3 f4 f5 f6 f7 rest <{file}; read now rest </proc/uptime; echo =$f{field} $now; done")


class Limited:
    """A guest with a network card and a disk, whose limits change while it runs. Use as a context manager."""

    def __init__(self, lab: ExperimentLab, tap: str, host: str, guest: str, disk: str) -> None:
        self._lab, self._tap, self._host, self._guest = lab, tap, host, guest
        lab.tap(tap, host)
        lab.shell(f"rm -f {SOCKET}")
        self.subject = Subject(lab, "--net", f"tap,ifname={tap}", "--disk", f"path={disk},cache=direct", "--api-sock", SOCKET)

    def __enter__(self):
        self.subject.__enter__()
        self.subject.command(f"ip addr add {self._guest}/24 dev eth0; ip link set eth0 up; ping -c 1 {self._host}")
        return self

    def __exit__(self, *exc):
        self.subject.__exit__(*exc)

    def points(self, kind: Kind, limits: tuple[int | str, ...]) -> list[dict]:
        """For each limit what the guest did a second: `got`, the median, and all `windows`; no `got` where it does too little
        anyway. A limit that is no number is of so many in so many milliseconds: 10/10ms."""
        free, found = statistics.median(rate for rate, _ in self._done(kind, WINDOWS_FREE)), []
        for limit in limits:
            point = {"what": kind.what, "unit": kind.unit, "limit": a_second(limit), "text": f"{kind.option}={limit}", "free": free,
                     "got": None, "windows": []}
            if free >= ENOUGH * point["limit"]:
                self._limit(kind, limit)
                judge(point, self._done(kind, WINDOWS))
                self._limit(kind, 0)
            found.append(point)
        return found

    def _limit(self, kind: Kind, limit: int | str) -> None:
        self._lab.shell(f"{HOME}/duet ctl {SOCKET} limit {kind.device} {kind.option}={limit}")

    def _done(self, kind: Kind, windows: int) -> list[tuple[float, float]]:
        """What was done a second in each window, and how long that took. A network by the tap's counters, which are of whole frames
        that duet wrote to it or took from it; a disk by the guest's kernel."""
        on_disk = kind.device == "disk0"
        file = "/sys/block/vda/stat" if on_disk else f"/sys/class/net/{self._tap}/statistics/{kind.way}_{kind.unit}"
        script = _WINDOWS.format(windows=windows, seconds=SECONDS, file=file, field=kind.field)
        if kind.way == "tx":
            with self._receiving():
                text = self._lab.shell(script)
        else:
            work = f"disk /dev/vda {kind.way} {DEPTH} 100000000 {BLOCK}" if on_disk else f"flood {self._host} {PORT} 100000"
            with self._working(work):
                text = self.subject.command(script) if on_disk else self._lab.shell(script)
        looks = [line.removeprefix("=").split() for line in text.splitlines() if line.startswith("=")]
        return [(kind.size * (int(after) - int(before)) / (float(end) - float(start)), float(end) - float(start))
                for (before, start), (after, end) in itertools.pairwise(looks)]

    @contextlib.contextmanager
    def _working(self, work: str):
        self.subject.command(f"workload {work} >/dev/null 2>&1 & work=$!")
        try:
            yield
        finally:
            self.subject.command("kill $work; wait $work", may_fail=True)

    def _receiving(self):
        return self._lab.background("sh", "-c", f"echo sends; exec {HOME}/workload paced {self._guest} {PORT} 100000000 {PERIOD_US}",
                                    ready="sends")


def a_second(limit: int | str) -> float:
    amount, _, milliseconds = str(limit).removesuffix("ms").partition("/")
    return int(amount) * (1000 / int(milliseconds) if milliseconds else 1)


def judge(point: dict, windows: list[tuple[float, float]]) -> None:
    point["windows"] = [rate for rate, seconds in windows if seconds <= LATE * SECONDS]
    if len(point["windows"]) >= LEAST:
        point["got"] = statistics.median(point["windows"])


def too_slow(point: dict) -> str:
    """Why a limit was not judged."""
    if point["free"] >= ENOUGH * point["limit"]:
        return f"only {len(point['windows'])} of {WINDOWS} windows were in time: this machine is too busy"
    return (f"without a limit the guest does {point['free']:.0f} {point['unit']} a second here, less than {ENOUGH} times "
            f"{point['limit']:.0f}")


def judged(points: list[dict]) -> list[dict]:
    return [point for point in points if point["got"] is not None]


def off(point: dict) -> float:
    """By which share of the limit it is missed, above or below."""
    return point["got"] / point["limit"] - 1


def spread(point: dict) -> str:
    """The windows, against the limit."""
    return ", ".join(f"{100 * (one / point['limit'] - 1):+.1f} %" for one in sorted(point["windows"]))
