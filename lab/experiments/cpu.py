# SPDX-License-Identifier: Apache-2.0
"""M10: weights from threads that can run and slices from bursts, beside a host that knows neither.

CPU time of a thread across guests, switches, the wait of short requests, and a guest that lies."""

import contextlib

from duetlab.experiment.lab import KERNEL, ExperimentLab
from duetlab.experiment.managed import GROUP, Managed
from duetlab.experiment.record import usual_confounders
from duetlab.experiment.subject import Subject
from duetlab.guest import kit

ORDER = 10
MECHANISMS = {"M10": "Scheduling from the guest's hints"}
TITLE = "CPU: weights and slices by what guests say"
WHAT = ("Guests with one, two and four threads that never rest, and one that answers short requests at fixed times, share two CPUs. "
        "duetd weighs them by what their kits say of threads and bursts, or by equal shares; then one of them lies.")

THREADS = {"one": 1, "two": 2, "four": 4}
VCPUS = {"one": 2, "two": 2, "four": 4, "lies": 2, "asks": 2}
ASKS, HONEST, LIAR = "asks", "one", "lies"  # the liar rests until it takes the place of one
REQUESTS, PERIOD_US, LOOPS = 150, 40000, 20000
REPEATS = 2  # of each policy, by turns
POLICIES = ("off", "share", "runnable")
WORDS = {"off": "no manager", "share": "equal shares", "runnable": "by hints", "lie": "by hints, with a liar for one"}
BLIND = ("off", "share")
# A module that says that a thousand threads can run.
LIES = (("hints.c", "vcpu->shown = clamp_t(long, READ_ONCE(vcpu->runnable), 0, U32_MAX);", "vcpu->shown = 1000;"),)
FAIR = 0.95  # Jain's index from there on
BUSY = 0.1  # CPUs that a guest takes which has something to do
NOISE = 1.1  # what two runs of the same may differ by

# Of each machine: the microseconds that it had of CPUs; and of each vCPU time on one, time waited for one, times it came to one.
# The shell alone reads them, for a program more would wait for a CPU itself.
_LOOK = """for name in {names}; do
	read -r _ usage <{group}/$name/cpu.stat; echo $name 0 $usage
	read -r pid <{group}/$name/cgroup.procs
	for task in /proc/$pid/task/*; do
		read -r comm <$task/comm
		case $comm in vcpu*) read -r ran waited turns <$task/schedstat; echo $name 1 $ran $waited $turns ;; esac
	done
done"""
_SLICE = ("cat /sys/kernel/debug/sched/base_slice_ns 2>/dev/null || cat /sys/kernel/debug/sched/min_granularity_ns 2>/dev/null || echo 0")


def jain(values: list[float]) -> float:
    """1: all have the same; 1/n: one has all."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0


def look(lab: ExperimentLab) -> dict[str, dict[str, int]]:
    found = {name: dict.fromkeys(("cpu", "ran", "waited", "turns"), 0) for name in VCPUS}
    for line in lab.shell(_LOOK.format(names=" ".join(VCPUS), group=GROUP)).splitlines():
        name, vcpu, *numbers = line.split()
        fields = ("ran", "waited", "turns") if vcpu == "1" else ("cpu",)
        for field, number in zip(fields, numbers, strict=False):
            found[name][field] += int(number)
    return found


def window(lab: ExperimentLab, asks: Subject) -> dict:
    """What all had and waited for while the requests were answered."""
    before = look(lab)
    answer = asks.counted(f"workload respond {REQUESTS} {PERIOD_US} {LOOPS}")["answer"]
    after = look(lab)
    return {"answer": answer, **{name: {field: after[name][field] - before[name][field] for field in after[name]} for name in after}}


def guest(lab: ExperimentLab, host: Managed, name: str) -> Subject:
    return Subject(lab, "--cpus", str(VCPUS[name]), *host.options(name), memory="192M", pin=False, kit=True,
                   files=kit.files(KERNEL, LIES) if name == LIAR else None, wrapper=host.wrapper(name))


def decided(policy: str):
    """What duetd's list shows once the policy has its way. Hints need some looks until all threads count."""
    def holds(machines: dict) -> bool:
        weights = {name: machines.get(name, {}).get("weight") for name in VCPUS}
        if policy == "off":
            return not any(weights.values())
        if not all(weights.values()):
            return False
        same = len(set(weights.values())) == 1
        return same if policy == "share" else weights["four"] >= 1.9 * weights["two"] and weights["two"] > weights[ASKS]
    return holds


def add(sums: dict | None, found: dict) -> dict:
    """Of several runs the counts together, of their times each."""
    answers = (sums["answers"] if sums else []) + [found["answer"]]
    return {"answers": answers, **{name: {field: (sums[name][field] if sums else 0) + found[name][field] for field in found[name]}
                                   for name in VCPUS}}


def by_turns(lab: ExperimentLab, host: Managed, asks: Subject) -> dict:
    sums: dict = dict.fromkeys(POLICIES)
    for _ in range(REPEATS):
        for policy in POLICIES:
            host.policy("cpu", policy)
            host.until(decided(policy), f"weighed by {policy}")
            sums[policy] = add(sums[policy], window(lab, asks))
    return sums


def load(subject: Subject, count: int) -> str:
    """COUNT threads that never rest; their ids."""
    return subject.command(f"workload hogs {count}").strip().splitlines()[-1]


def in_place(subjects: dict[str, Subject], honest: str) -> None:
    """The liar has the one thread now."""
    subjects[HONEST].command(f"kill {honest}")
    subjects[LIAR].command(f"workload hogs {THREADS[HONEST]}")


def measure(lab: ExperimentLab) -> dict:
    with Managed(lab) as host, contextlib.ExitStack() as stack:
        subjects = {name: guest(lab, host, name) for name in VCPUS}
        for subject in subjects.values():
            stack.enter_context(subject)
        ids = {name: load(subjects[name], count) for name, count in THREADS.items()}
        host.start("--memory", "off", "--cpu", "off", "--numa", "off")
        found = by_turns(lab, host, subjects[ASKS])
        in_place(subjects, ids[HONEST])
        host.until(lies_alone, "seen that one rests and the liar works")
        for _ in range(REPEATS):
            found["lie"] = add(found.get("lie"), window(lab, subjects[ASKS]))
        return found | {"base_slice": int(lab.shell(_SLICE).split()[0])}


def lies_alone(machines: dict) -> bool:
    return decided("runnable")(machines) and machines[HONEST]["busy"] < BUSY < machines[LIAR]["busy"]


def run(lab: ExperimentLab, record) -> None:
    tell(lab, record, measure(lab))


# What it comes to


def working(way: str) -> dict[str, int]:
    """Threads that never rest, by guest."""
    return {LIAR if name == HONEST and way == "lie" else name: count for name, count in THREADS.items()}


def of_thread(figures: dict, way: str) -> list[float]:
    """CPU time of each thread that never rests, as a share of a guest's."""
    return [figures[name]["cpu"] / count for name, count in working(way).items() for _ in range(count)]


def part(figures: dict, name: str) -> float:
    """Its share of the CPU time of all machines."""
    return figures[name]["cpu"] / sum(figures[other]["cpu"] for other in VCPUS)


def switches(figures: dict, way: str) -> float:
    """Turns of vCPUs of the guests that never rest, for each second that they ran."""
    names = working(way)
    return 1e9 * sum(figures[name]["turns"] for name in names) / sum(figures[name]["ran"] for name in names)


def waits(figures: dict) -> float:
    """How long the vCPUs that answer waited for a CPU, as a part of the time in which they wanted one."""
    asks = figures[ASKS]
    return asks["waited"] / (asks["waited"] + asks["ran"])


def wait_in_slices(figures: dict, base_slice: int) -> float | None:
    """The mean wait before a turn, in slices of the host."""
    return figures[ASKS]["waited"] / figures[ASKS]["turns"] / base_slice if base_slice else None


def summary(found: dict, way: str) -> dict:
    figures = found[way]
    return {"jain": jain(of_thread(figures, way)), "switches": switches(figures, way), "waits": waits(figures),
            "slices": wait_in_slices(figures, found["base_slice"]), "parts": {name: part(figures, name) for name in VCPUS},
            "mean_ns": sum(answer["mean_ns"] for answer in figures["answers"]) / len(figures["answers"]),
            "p99_ns": max(answer["p99_ns"] for answer in figures["answers"])}


def tell(lab: ExperimentLab, record, found: dict) -> None:
    sums = {way: summary(found, way) for way in WORDS}
    record.figure("cpu", found)
    record.table("Threads, switches and requests", ["the host", "Jain's index over seven threads", "turns a second of vCPU time",
                                                    "wait of the requests' vCPUs", "mean wait, in slices of the host"],
                 [[WORDS[way], f"{one['jain']:.3f}", f"{one['switches']:.0f}", f"{100 * one['waits']:.0f} %",
                   "–" if one["slices"] is None else f"{one['slices']:.2f}"] for way, one in sums.items()])
    record.table("CPU time by guest, of all", ["the host", *VCPUS],
                 [[WORDS[way], *(f"{100 * one['parts'][name]:.1f} %" for name in VCPUS)] for way, one in sums.items()])
    record.table("Requests, from when they were due until they were answered", ["the host", "mean, ms", "p99, ms"],
                 [[WORDS[way], f"{one['mean_ns'] / 1e6:.2f}", f"{one['p99_ns'] / 1e6:.2f}"] for way, one in sums.items()],
                 emulated=lab.counts)
    record.chart("CPU time of a thread", "; ".join(f"{WORDS[way]}: Jain's index {one['jain']:.2f}" for way, one in sums.items()),
                 "As many threads as there are, so much time has each: level bars are fair.",
                 [{"name": WORDS[way], "style": "bars", "x": [f"{count} threads" if count > 1 else "1 thread" for count in THREADS.values()],
                   "y": [100 * sums[way]["parts"][name] / count for name, count in working(way).items()]} for way in ("share", "runnable", "lie")],
                 x_label="guest with", y_label="% of the CPU time, each thread")
    symbols(record)
    usual_confounders(record, lab, None)
    record.confounder("Other load", "controlled" if lab.counts else "not controlled",
                      f"policies are run in turns, {REPEATS} times each, and their counts added up")
    record.confounder("Cgroups", "controlled", "each guest in one of its own under each policy, as its unit gives it: "
                      "without a manager too")
    verdict(record, sums)


def symbols(record) -> None:
    record.symbol("r", "threads that can run in a guest: its weight is proportional to that.")
    record.symbol("b", "the mean time that a thread runs until it blocks: its vCPU's slice is an eighth more.")
    record.symbol("Jain's index", "(Σx)² / (n Σx²) over the CPU times x of n threads; 1 when all have the same.")
    record.symbol("wait", "by the host's schedstat: time for which a vCPU could run and had no CPU, as a part of that and the time it ran; and "
                  "for each turn, in base slices of the host's scheduler. Both are ratios within one run.")


def verdict(record, sums: dict) -> None:
    hints, blind = sums["runnable"], [sums[way] for way in BLIND]
    fairer = hints["jain"] > max(one["jain"] for one in blind)
    fewer, sooner = (hints[name] <= NOISE * min(one[name] for one in blind) for name in ("switches", "waits"))
    bounded = sums["lie"]["parts"][LIAR] <= NOISE * sums["share"]["parts"][HONEST]
    good = {"threads are treated alike": fairer and hints["jain"] >= FAIR, "vCPUs switch no more": fewer, "requests wait no longer": sooner,
            "who lies gets no more than its share": bounded}
    record.claim("M10", "Weights by threads that can run and slices by bursts are fair to threads, switch less and answer sooner.",
                 "w_i ∝ r_i, q_i from b_i",
                 f"Jain's index {hints['jain']:.2f} against {blind[1]['jain']:.2f} with equal shares; turns a second "
                 f"{hints['switches']:.0f} against {blind[1]['switches']:.0f}; requests wait {100 * hints['waits']:.0f} % against "
                 f"{100 * blind[1]['waits']:.0f} %; who lies has {100 * sums['lie']['parts'][LIAR]:.0f} % of the CPU time, "
                 f"{100 * sums['share']['parts'][HONEST]:.0f} % is its share",
                 "yes" if all(good.values()) else "partly" if fairer else "no",
                 "; ".join(f"{words}: {'yes' if holds else 'no'}" for words, holds in good.items()) + ".")


def made_up(parts: tuple, turns: int, waited: int, way: str = "") -> dict:
    machines = {name: {"cpu": 0, "ran": 0, "waited": 0, "turns": 0} for name in VCPUS}
    machines |= {name: {"cpu": part, "ran": part, "waited": part, "turns": turns} for name, part in zip(working(way), parts, strict=True)}
    return machines | {ASKS: {"cpu": 10, "ran": 10, "waited": waited, "turns": 5}, "answers": [{"mean_ns": 9 * waited, "p99_ns": 99 * waited}]}


def selftest(lab: ExperimentLab, record) -> None:
    """With hints each thread has the same and requests wait a third; the liar counts for two."""
    blind, fair, lie = made_up((800, 800, 800), 90, 30), made_up((350, 700, 1400), 60, 10), made_up((600, 600, 1200), 60, 10, "lie")
    tell(lab, record, {"off": blind, "share": blind, "runnable": fair, "lie": lie, "base_slice": 2})
    claim, = record.data["claims"]
    assert claim["agrees"] == "yes" and "Jain's index 1.00 against 0.73" in claim["measured"], claim
    assert "25 % of the CPU time, 33 % is its share" in claim["measured"], claim
    assert wait_in_slices(fair, 2) == 1
