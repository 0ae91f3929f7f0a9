# SPDX-License-Identifier: Apache-2.0
"""How many identical guests answer in time in the same memory: duet with and without its manager, beside other monitors.

VMs are added until the slowest hundredth of the requests takes ten times what one VM alone takes in the middle; starts; idle guests."""

import contextlib
import json
import os
import sys
import time

from duetlab.base.paths import REPOSITORY
from duetlab.experiment.arrivals import LOST, percentile, window
from duetlab.experiment.fleet import Fleet, Kind, Tenancy
from duetlab.experiment.knobs import turned
from duetlab.experiment.lab import ExperimentLab
from duetlab.experiment.model import si
from duetlab.experiment.record import Skipped, attempt, frequency_confounder
from duetlab.experiment.rivals import RIVALS
from duetlab.experiment.swap import HostSwap
from duetlab.guest import vm

ORDER = 17
MECHANISMS = {}
TITLE = "Density: how many guests answer in time"
WHAT = ("Each guest is a service with a working set: a request touches pages of it and reads on in files. Requests come at fixed times, "
        "whether those before were answered or not. All guests together have one budget of the host's memory, which is less than they "
        "were given, and what is beyond it is swapped. Guests are added until answers are late.")

MIB = 1 << 20
BUDGET, SWAP = 768, 4096  # MiB, of all guests of a kind
TENANCY = Tenancy(memory=192, working_set=32, cached=96, touched=512, read=65536)
EACH, PERIOD_US = 20, 400_000  # requests of a window to each guest
TIMES = 10  # the median of one VM alone; its p99 is whatever else the host did meanwhile, another one in each run
ALONE, TRIES = 3, 5  # windows: for one VM alone, and at most for each VM more
MOST = 16
IDLE, IDLE_IN_LAB, REST_SECONDS = 50, 4, 5
RATIO = 1.5
PARTS = REPOSITORY / "build" / "experiments" / "density.parts"

KINDS = {"hints": Kind(managed=True, hints=True), "blind": Kind(managed=True), "alone": Kind(), "lies": Kind(managed=True, hints=True, lies=True),
         "qemu": Kind("QEMU"), "firecracker": Kind("Firecracker"), "cloud-hypervisor": Kind("Cloud Hypervisor")}
WORDS = {"hints": "duet with duetd", "blind": "duetd without hints", "alone": "duet alone", "lies": "duetd and hints that lie"} | {
    name: kind.rival for name, kind in KINDS.items() if kind.rival}
SOAK = ("lies",)
PROGRAMS = ("alone", "qemu", "firecracker", "cloud-hypervisor")  # of which idle guests are counted
SAME = {"/sys/kernel/mm/transparent_hugepage/enabled": "never", "/sys/kernel/mm/ksm/run": "0", "/proc/sys/kernel/numa_balancing": "0"}


def ask(fleet: Fleet) -> tuple[list[float], dict]:
    """What the requests of one window took, and what the host counted meanwhile."""
    before = fleet.host.counts()
    took = window(fleet.lab, fleet.addresses, EACH, PERIOD_US)
    return took, {name: now - before.get(name, 0) for name, now in fleet.host.counts().items()}


def point(fleet: Fleet, windows: list[tuple[list[float], dict]]) -> dict:
    """All WINDOWS together; p99 is None when as many were never answered."""
    took = [one for answers, _ in windows for one in answers]
    counted = {name: sum(counts[name] for _, counts in windows) for name in windows[0][1]}
    machines = fleet.host.machines() if fleet.kind.managed else {}
    return {"vms": len(fleet.addresses), **figures(took, counted), "taken": fleet.host.taken() // MIB,
            "allowed": sum(machine["allowed"] for machine in machines.values()) // MIB if machines else None}


def figures(took: list[float], counted: dict) -> dict:
    """Of one request; of pressure the share of the time."""
    p50, p99 = (known(percentile(took, share)) for share in (0.5, 0.99))
    each = {name: count / len(took) for name, count in counted.items()}
    return {"p50": p50, "p99": p99, "requests": len(took), "lost": took.count(LOST), "faults": each["pgfault"], "in": each["in"],
            "out": each["out"], "looked": each["pgscan"], "stalled": counted["stalled_us"] / counted["us"] if "stalled_us" in counted else None}


def known(took: float) -> float | None:
    return None if took == LOST else took


def within(found: dict, bound: float) -> bool:
    return found["p99"] is not None and found["p99"] <= bound


def alone(fleet: Fleet) -> dict:
    ask(fleet)  # what it needs at first
    return point(fleet, [ask(fleet) for _ in range(ALONE)])


def among(fleet: Fleet, bound: float) -> dict:
    """The first window within the BOUND, else the last one that was tried: who needs time after a newcomer has it."""
    for nth in range(TRIES):
        found = point(fleet, [ask(fleet)]) | {"tried": nth + 1}
        if within(found, bound):
            break
    return found


def say(found: dict) -> None:
    """How far it is: a climb takes minutes."""
    print(f"  {found['vms']} VMs: p99 {found['p99']}, {found['in']:.1f} pages swapped in a request, {found['taken']} MiB", file=sys.stderr, flush=True)


def climb(lab: ExperimentLab, kind: Kind) -> dict:
    """A point for each number of VMs, to the first that is not in time, and why that was the last."""
    with Fleet(lab, kind, TENANCY, BUDGET) as fleet:
        fleet.add()
        points = [alone(fleet)]
        bound = bound_of(points)
        say(points[0])
        while within(points[-1], bound) and len(points) < MOST:
            try:
                fleet.add()
            except vm.LabFailure:
                raise
            except vm.GuestFailure as failure:
                return {"points": points, "ended": f"VM {len(points) + 1} did not come up: {str(failure).splitlines()[0]}"}
            points.append(among(fleet, bound))
            say(points[-1])
    return {"points": points, "ended": "" if not within(points[-1], bound) else f"no more than {MOST} were tried"}


def crowd(lab: ExperimentLab, kind: Kind) -> dict:
    """Guests that start together and have nothing to do."""
    count = IDLE if not lab.counts or os.environ.get("DUET_SOAK") == "1" else IDLE_IN_LAB
    with Fleet(lab, kind, TENANCY, pin=False) as fleet:
        fleet.start(1)  # fills caches, which are no guest's
    with Fleet(lab, kind, TENANCY, pin=False) as fleet:
        fleet.wire(count)
        begun, before = time.monotonic(), lab.executed()
        fleet.start(count)
        seconds, executed = time.monotonic() - begun, lab.executed()
        lab.shell(f"sleep {REST_SECONDS}")
        return {"guests": count, "seconds": seconds, "executed": (executed - before) / count if before else None,
                "memory": fleet.host.taken() / count / MIB}


def here(kind: Kind) -> None:
    if kind.rival and not RIVALS[kind.rival].here():
        raise Skipped(f"no {RIVALS[kind.rival].program} on PATH")


def tried(lab: ExperimentLab, kind: Kind, what) -> dict:
    """WHAT a kind of guests does; one that is no part of duet may fail."""
    here(kind)
    try:
        return what(lab, kind)
    except vm.LabFailure:
        raise
    except vm.GuestFailure as failure:
        if not kind.rival:
            raise
        raise Skipped(str(failure)) from failure


def chosen(environment) -> list[str]:
    """DUET_PARTS names some of them, for those who work on this file; DUET_SOAK=1 means all."""
    words = environment.get("DUET_PARTS", "").split(",")
    usual = [name for name in KINDS if name not in SOAK or environment.get("DUET_SOAK") == "1"]
    return [name for name in KINDS if name in words] or usual


def kept(environment) -> dict:
    """What was found of each kind before, for DUET_PARTS."""
    return json.loads(PARTS.read_text()) if PARTS.exists() and "DUET_PARTS" in environment else {"crowds": {}, "climbs": {}}


def keep(found: dict, what: str, name: str, figures: dict | None) -> None:
    found[what].pop(name, None)
    if figures:
        found[what][name] = figures
    PARTS.parent.mkdir(parents=True, exist_ok=True)
    PARTS.write_text(json.dumps(found))


def climbs(lab: ExperimentLab, record, names: list[str], found: dict) -> None:
    with HostSwap(lab, SWAP, compressed=True):
        for name in names:
            keep(found, "climbs", name, attempt(record, WORDS[name], tried, lab, KINDS[name], climb))


def measure(lab: ExperimentLab, record, names: list[str], found: dict) -> dict:
    """What was found, kept in a file for DUET_PARTS as it comes."""
    attempt(record, "density", climbs, lab, record, names, found)
    for name in PROGRAMS:
        if name in names:
            keep(found, "crowds", name, attempt(record, f"idle guests, {WORDS[name]}", tried, lab, KINDS[name], crowd))
    return found


def run(lab: ExperimentLab, record) -> None:
    with lab.steady() if lab.counts else contextlib.nullcontext(), turned(lab, SAME):
        tell(lab, record, measure(lab, record, chosen(os.environ), kept(os.environ)))


# What it comes to


def bound_of(points: list[dict]) -> float:
    return TIMES * (points[0]["p50"] or 0)


def held(points: list[dict], bound: float) -> int:
    """VMs of the last point of those, from the first on, that are within the BOUND."""
    count = 0
    for found in points:
        if not within(found, bound):
            break
        count = found["vms"]
    return count


def densities(found: dict) -> dict[str, dict]:
    """Of each kind, by its own bound and by the strictest of all."""
    strictest = min((bound_of(one["points"]) for one in found.values()), default=0)
    return {name: {"own": held(one["points"], bound_of(one["points"])), "equal": held(one["points"], strictest)} for name, one in found.items()}


def tell(lab: ExperimentLab, record, found: dict) -> None:
    record.figure("density", found)
    reached = densities(found["climbs"])
    if reached:
        tell_climbs(lab, record, found["climbs"], reached)
    if found["crowds"]:
        tell_crowds(lab, record, found["crowds"])
    confounders(lab, record)
    verdict(record, reached)


def shown(lab: ExperimentLab, took: float | None) -> str:
    if took is None:
        return "no answer"
    return si(took) if lab.counts else f"{took / 1e6:.2f}"


def rounded(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def tell_climbs(lab: ExperimentLab, record, found: dict, reached: dict) -> None:
    unit = "instructions" if lab.counts else "ms"
    record.table(f"Guests in {BUDGET} MiB", ["the guests", "VMs in time", "at equal p99", f"p99 of one alone, {unit}", "and of the first too many", "why no more"],
                 [[WORDS[name], reached[name]["own"], reached[name]["equal"], shown(lab, one["points"][0]["p99"]), shown(lab, one["points"][-1]["p99"]),
                   one["ended"] or f"more than {TIMES} times the median of one VM alone"] for name, one in found.items()])
    record.table("Each number of VMs", ["the guests", "VMs", f"median, {unit}", f"p99, {unit}", "faults a request", "pages swapped in", "and out",
                                        "looked at for that", "time in which some waited for memory", "MiB taken", "MiB allowed"],
                 [[WORDS[name], one["vms"], shown(lab, one["p50"]), shown(lab, one["p99"]), rounded(one["faults"]), rounded(one["in"]), rounded(one["out"]),
                   rounded(one["looked"]), "–" if one["stalled"] is None else f"{100 * one['stalled']:.1f} %", one["taken"], one["allowed"] or "–"]
                  for name, steps in found.items() for one in steps["points"]])
    scale = 1e6
    record.chart("The slowest hundredth of the requests against VMs", "; ".join(f"{WORDS[name]}: {one['own']} VMs in time" for name, one in reached.items()),
                 "A line ends at the first number of VMs that is too many.",
                 [{"name": WORDS[name], "style": "line", "x": [at["vms"] for at in known_points(one)], "y": [at["p99"] / scale for at in known_points(one)]}
                  for name, one in found.items()], x_label="VMs", y_label="M instructions" if lab.counts else "ms", log_y=True)
    record.chart("VMs in the same memory", "; ".join(f"{WORDS[name]}: {one['equal']}" for name, one in reached.items()),
                 "At equal p99: the strictest bound of all, which is ten times the median of one VM alone.",
                 [{"name": "VMs", "style": "bars", "x": [WORDS[name] for name in reached], "y": [one["equal"] for one in reached.values()]}], y_label="VMs")
    record.symbol("p99", "what 99 of 100 requests of a window did not exceed, from arrival to answer: "
                  + ("instructions of the guests' CPU, of host and guests." if lab.counts else "time."))


def known_points(found: dict) -> list[dict]:
    return [one for one in found["points"] if one["p99"] is not None]


def tell_crowds(lab: ExperimentLab, record, found: dict) -> None:
    record.table("Guests that start together, and rest", ["the guests", "how many", "started a second", "instructions a start, M", "MiB each, resting"],
                 [[WORDS[name], one["guests"], f"{one['guests'] / one['seconds']:.2f}", rounded(one["executed"] and one["executed"] / 1e6, 0),
                   rounded(one["memory"])] for name, one in found.items()], emulated=lab.counts)


def confounders(lab: ExperimentLab, record) -> None:
    frequency_confounder(record, lab)
    record.confounder("CPU pinning", "controlled", "all guests on one CPU of the host; who asks and duetd on another. What waits there does not wait for "
                      "the guests' work")
    record.confounder("Swap", "controlled" if lab.counts else "the host's",
                      "compressed memory (zram), which is not in the budget and the same for all: a page costs instructions, and no disk's time is in it"
                      if lab.counts else "as it is, and the same for all")
    record.confounder("Huge pages, KSM, NUMA balancing", "controlled", "off for all: its faults are taken by the guests")
    record.confounder("Guests' memory", "controlled", f"{TENANCY.memory} MiB each, of which {TENANCY.working_set} are a working set and what the kernel leaves is cache "
                      f"of a disk, filled once; each request reads {TENANCY.read >> 10} KiB more of it. How much more guests are given than they need decides "
                      "how much a manager can win")
    record.confounder("Free page reporting", "controlled", "on for all that have it; caches fill what is free, so it brings little here")
    record.confounder("After a newcomer", "controlled", f"at most {TRIES} windows of {EACH * PERIOD_US / 1e6:.0f} s until answers are in time, for all alike; duetd takes 5 % of a "
                      "guest's memory a second")
    record.confounder("Load of the guests' CPU", "controlled", f"a request each {PERIOD_US / 1000:.0f} ms to each guest, evenly spread: they seldom meet")
    record.confounder("One run", "not controlled", f"of each kind; a window has {EACH} requests to each guest")


CLAIM = ("M8", "A manager that knows what guests need lets more of them answer in time in the same memory.",
         f"at equal p99 at least {RATIO} times QEMU's VMs, and more than Firecracker's")


def verdict(record, reached: dict) -> None:
    equal = {name: one["equal"] for name, one in reached.items()}
    measured = "VMs at equal p99: " + ", ".join(f"{WORDS[name]} {count}" for name, count in equal.items()) if equal else "–"
    if not equal.get("hints") or not equal.get("qemu"):
        record.claim(*CLAIM, measured, "not measured", "There is nothing to compare.")
        return
    aims(record, equal)
    ratio, own = (reached["hints"][by] / reached["qemu"][by] for by in ("equal", "own"))
    above = equal["hints"] > equal.get("firecracker", 0)
    record.claim(*CLAIM, f"{measured}; {ratio:.2f} times QEMU's, {own:.2f} times when each is held to {TIMES} times its own median alone"
                 + (f"; hints against none {equal['hints']} to {equal['blind']}" if "blind" in equal else ""),
                 "yes" if min(ratio, own) >= RATIO and above else "partly" if min(ratio, own) > 1 else "no",
                 f"duet with its manager holds {ratio:.2f} times as many guests as QEMU"
                 + ("" if "firecracker" in equal else "; Firecracker is not here") + ".")


def aims(record, equal: dict[str, int]) -> None:
    for name, count in equal.items():
        record.aim(WORDS[name], count, unit="VMs")
    record.aim("QEMU's, of those of duet with duetd", equal["qemu"] / equal["hints"], 1 / RATIO)
    if "firecracker" in equal:
        record.aim("Firecracker's, of those of duet with duetd", equal["firecracker"] / equal["hints"], 1, below=True)
    if "blind" in equal:
        record.aim("without hints, of those with them", equal["blind"] / equal["hints"])


def made_up(vms: int, late: int | None) -> dict:
    """In time up to VMS, then LATE."""
    took = [100_000 + 1000 * n for n in range(1, vms + 1)] + [late]
    return {"points": [{"vms": nth, "p50": 30_000, "p99": one, "requests": 60 * nth, "lost": 0, "faults": 3.5, "in": 0.5, "out": 0.25, "looked": 4,
                        "stalled": 0.01, "taken": 900, "allowed": None} for nth, one in enumerate(took, 1)], "ended": ""}


def selftest(lab: ExperimentLab, record) -> None:
    """Nine VMs against five; without hints seven."""
    crowds = {name: {"guests": 8, "seconds": 16.0, "executed": 9e8 if lab.counts else None, "memory": 61.5} for name in ("alone", "qemu")}
    found = {"climbs": {"hints": made_up(9, 400_000), "blind": made_up(7, 500_000), "alone": made_up(6, None), "qemu": made_up(5, 4_000_000)}, "crowds": crowds}
    tell(lab, record, found)
    claim, = record.data["claims"]
    assert claim["agrees"] == "yes" and "hints 9, " not in claim["measured"] and "1.80 times QEMU's" in claim["measured"], claim
    assert "hints against none 9 to 7" in claim["measured"], claim
    assert held(made_up(3, 200_000)["points"], 150_000) == 3 and held(made_up(3, 200_000)["points"], 50_000) == 0
    both = figures([1.0] * 98 + [5.0, LOST], {"pgfault": 200, "in": 50, "out": 0, "pgscan": 100, "stalled_us": 10, "us": 1000})
    assert both["p99"] == 5.0 and both["lost"] == 1 and both["in"] == 0.5 and both["stalled"] == 0.01, both
    assert figures([1.0, LOST], {"pgfault": 0, "in": 0, "out": 0, "pgscan": 0, "us": 1})["p99"] is None
