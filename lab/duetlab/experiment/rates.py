# SPDX-License-Identifier: Apache-2.0
"""What a guest does a second beside what duet lets it do: whole frames of a network, requests of a disk.

A limit is judged only where the guest, without it, does ENOUGH times as much in the same run."""

import contextlib
from dataclasses import dataclass

from .lab import HOME, PORT, ExperimentLab
from .subject import Subject

ENOUGH = 1.5
OFF_BY = 0.05
DEPTH = 16
SECONDS = 6
PERIOD_US = 100  # between the host's packets to the guest: more than any of them gets
FREE_REQUESTS = 600
SOCKET = f"{HOME}/rates.sock"


@dataclass(frozen=True)
class Kind:
    what: str
    unit: str  # bytes, packets or requests
    device: str
    option: str  # as `duet ctl SOCK limit` has it
    way: str  # of the workload disk, or the tap's counters as the host names them
    block: int = 0  # bytes of a request


KINDS = {kind.what + ", " + kind.unit: kind for kind in (
    Kind("network, sent", "bytes", "net0", "tx-rate", "rx"),
    Kind("network, received", "bytes", "net0", "rx-rate", "tx"),
    Kind("network, sent", "packets", "net0", "tx-pps", "rx"),
    Kind("network, received", "packets", "net0", "rx-pps", "tx"),
    Kind("disk, read", "bytes", "disk0", "bw", "read", 16384),
    Kind("disk, written", "bytes", "disk0", "bw", "write", 16384),
    Kind("disk, read", "requests", "disk0", "iops", "read", 4096),
    Kind("disk, written", "requests", "disk0", "iops", "write", 4096),
)}  # fmt: skip


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
        """For each limit what the guest did a second, under `got`; None where it does too little anyway. A limit that is no
        number is of so many in so many milliseconds: 10/10ms."""
        free, found = self._done(kind, None), []
        for limit in limits:
            rate = a_second(limit)
            found.append({"what": kind.what, "unit": kind.unit, "limit": rate, "text": f"{kind.option}={limit}", "free": free, "got": None})
            if free >= ENOUGH * rate:
                self._limit(kind, limit)
                found[-1]["got"] = self._done(kind, rate)
                self._limit(kind, 0)
        return found

    def _limit(self, kind: Kind, limit: int | str) -> None:
        self._lab.shell(f"{HOME}/duet ctl {SOCKET} limit {kind.device} {kind.option}={limit}")

    def _done(self, kind: Kind, rate: float | None) -> float:
        if kind.device == "disk0":
            return self._disk(kind, rate)
        with self._sending() if kind.way == "rx" else self._receiving():
            return self._frames(kind)

    def _disk(self, kind: Kind, rate: float | None) -> float:
        """Its warm-up takes what idleness saved up."""
        count = FREE_REQUESTS if rate is None else int(rate * SECONDS / (kind.block if kind.unit == "bytes" else 1))
        answer = self.subject.told(f"workload disk /dev/vda {kind.way} {DEPTH} {count} {kind.block}")
        return answer["bytes" if kind.unit == "bytes" else "count"] / (answer["ns"] / 1e9)

    @contextlib.contextmanager
    def _sending(self):
        self.subject.command(f"workload flood {self._host} {PORT} 100000 >/dev/null 2>&1 & noise=$!")
        try:
            yield
        finally:
            self.subject.command("kill $noise; wait $noise", may_fail=True)

    def _receiving(self):
        return self._lab.background("sh", "-c", f"echo sends; exec {HOME}/workload paced {self._guest} {PORT} 100000000 {PERIOD_US}",
                                    ready="sends")

    def _frames(self, kind: Kind) -> float:
        """By the tap's counters, which are of whole frames: those that duet wrote to it or took from it."""
        told = self._lab.shell(f"""cd /sys/class/net/{self._tap}/statistics
look() {{ read count <{kind.way}_{kind.unit}; read now _ </proc/uptime; echo $count $now; }}
look; sleep {SECONDS}; look""")
        before, after = (line.split() for line in told.splitlines())
        return (int(after[0]) - int(before[0])) / (float(after[1]) - float(before[1]))


def a_second(limit: int | str) -> float:
    amount, _, milliseconds = str(limit).removesuffix("ms").partition("/")
    return int(amount) * (1000 / int(milliseconds) if milliseconds else 1)


def too_slow(point: dict) -> str:
    """Why a limit was not judged."""
    return (f"without a limit the guest does {point['free']:.0f} {point['unit']} a second here, less than {ENOUGH} times "
            f"{point['limit']:.0f}")


def judged(points: list[dict]) -> list[dict]:
    return [point for point in points if point["got"] is not None]


def off(point: dict) -> float:
    """By which share of the limit it is missed, above or below."""
    return point["got"] / point["limit"] - 1
