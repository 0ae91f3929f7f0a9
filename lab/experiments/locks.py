# SPDX-License-Identifier: Apache-2.0
"""M15: a lock whose holder has lost its CPU, and four ways to wait for it.

Throughput and the worst wait, one to four vCPUs for each CPU, and at four of them by how much the lock is wanted; the bench is the
guest module's."""

import json

from duetlab.experiment.lab import ExperimentLab
from duetlab.experiment.record import attempt, usual_confounders
from duetlab.experiment.subject import Subject

ORDER = 15
MECHANISMS = {"M15": "PV spinlock and directed yield"}
TITLE = "Locks: when the holder has no CPU"
WHAT = ("A thread on each vCPU takes one lock, works, lets it go, and works again. With more vCPUs than CPUs the host takes "
        "the CPU from a holder at times, and those who spin then burn the time that the holder would need.")

RATIOS = (1, 2, 3, 4)
RUNS, MS, WORK_NS = 5, 1000, 5000
APART_NS = (20000, 5000, 0)  # between two locks of one thread
WANTED_NS = APART_NS[-1]     # somebody has it all the time
WON = 3  # times test and set's throughput, with most vCPUs, where somebody always wants the lock: the aim
KINDS = {"tas": "test and set", "native": "queued, native", "queued": "queued, PV wait and kick",
         "hypercall": "yield by KVM's hypercall", "call": "yield by duet's fast call"}
YIELDS = ("directed_yield_attempted", "directed_yield_successful")


def bench(subject: Subject, kind: str, threads: int, apart: int = WORK_NS) -> dict:
    subject.command(f"echo {kind} threads={threads} ms={MS} hold={WORK_NS} outside={apart} >/sys/kernel/debug/duet-locks")
    return json.loads(subject.command("cat /sys/kernel/debug/duet-locks").strip().splitlines()[-1])


def summed(statistics: dict, names) -> dict[str, int]:
    """What KVM and duet counted of yields, over all vCPUs."""
    vcpus = statistics["vcpus"]
    found = {name: sum(vcpu["kvm"].get(name, 0) for vcpu in vcpus) for name in names}
    return found | {"loans": sum(vcpu["loans"] for vcpu in vcpus)}


def median_run(runs: list[dict]) -> dict:
    return sorted(runs, key=lambda run: run["operations"])[len(runs) // 2]


def in_turns(subject: Subject, kinds: dict[str, str], threads: int, apart: int = WORK_NS) -> dict[str, dict]:
    """The median run of each: what else the machine does concerns all."""
    runs = {name: [] for name in kinds}
    for _ in range(RUNS):
        for name, kind in kinds.items():
            runs[name].append(bench(subject, kind, threads, apart))
    return {name: median_run(results) for name, results in runs.items()}


def of_guest(lab: ExperimentLab, kinds: dict[str, str], words: str = "") -> dict:
    """By the name in KINDS: the median run of the bench's kind for each ratio, and for each time apart; and the yields."""
    cpus = int(lab.shell("nproc"))
    found, apart = {name: {} for name in kinds}, {name: {} for name in kinds}
    with Subject(lab, "--cpus", str(RATIOS[-1] * cpus), words=words, pin=False, kit=True) as subject:
        before = summed(subject.statistics(), YIELDS)
        for ratio in RATIOS:
            for name, result in in_turns(subject, kinds, ratio * cpus).items():
                found[name][ratio] = result
        for ns in APART_NS:
            most = {name: found[name][RATIOS[-1]] for name in kinds}  # measured already, of the usual time apart
            for name, result in (most if ns == WORK_NS else in_turns(subject, kinds, RATIOS[-1] * cpus, ns)).items():
                apart[name][ns] = result
        after = summed(subject.statistics(), YIELDS)
    return {"kinds": found, "apart": apart, "yields": {name: after[name] - before[name] for name in after}, "cpus": cpus}


def run(lab: ExperimentLab, record) -> None:
    found = attempt(record, "PV", of_guest, lab, {kind: kind for kind in ("tas", "queued", "hypercall", "call")})
    native = attempt(record, "native queue", of_guest, lab, {"native": "queued"}, "nopvspin")
    if found:
        both = {part: found[part] | (native[part] if native else {}) for part in ("kinds", "apart")}
        tell(lab, record, found | both)


def tell(lab: ExperimentLab, record, found: dict) -> None:
    kinds = {name: found["kinds"][name] for name in KINDS if name in found["kinds"]}
    record.figure("locks", found)
    record.table("Operations in a second", ["lock", *(f"{ratio} vCPUs for each CPU" for ratio in RATIOS)],
                 [[KINDS[name], *(f"{runs[ratio]['operations'] * 1000 / MS:.0f}" for ratio in RATIOS)]
                  for name, runs in kinds.items()], emulated=lab.counts)
    record.table("Worst wait, ms", ["lock", *(f"{ratio} vCPUs for each CPU" for ratio in RATIOS)],
                 [[KINDS[name], *(f"{runs[ratio]['worst_wait_ns'] / 1e6:.1f}" for ratio in RATIOS)]
                  for name, runs in kinds.items()], emulated=lab.counts)
    apart = {name: {ns: run["operations"] * 1000 / MS for ns, run in found["apart"][name].items()} for name in kinds}
    record.table(f"Operations in a second at {RATIOS[-1]} vCPUs for each CPU, {WORK_NS / 1000:.0f} µs with the lock",
                 ["lock", *(f"{ns / 1000:.0f} µs without it" for ns in APART_NS)],
                 [[KINDS[name], *(f"{rates[ns]:.0f}" for ns in APART_NS)] for name, rates in apart.items()], emulated=lab.counts)
    record.table("Directed yields, all runs", ["counted by", "number"],
                 [["KVM: attempted", found["yields"][YIELDS[0]]], ["KVM: successful", found["yields"][YIELDS[1]]],
                  ["duet: vCPUs that lent their weight and slept", found["yields"]["loans"]]])
    rates = {name: [runs[ratio]["operations"] * 1000 / MS for ratio in RATIOS] for name, runs in kinds.items()}
    record.chart("Throughput of a lock against overcommit",
                 "; ".join(f"{KINDS[name]}: {values[0]:.0f} a second at one vCPU for each CPU, {values[-1]:.0f} at four"
                           for name, values in rates.items()),
                 "A lock that lets its holder run keeps its throughput; one that spins loses it with each vCPU more.",
                 [{"name": KINDS[name], "style": "line", "x": list(RATIOS), "y": values} for name, values in rates.items()],
                 x_label="vCPUs for each CPU", y_label="operations in a second", emulated=lab.counts)
    record.symbol("overcommit", "how many vCPUs there are for each CPU of the host.")
    usual_confounders(record, lab, None)
    record.confounder("Other load", "not controlled" if lab.counts else "not applicable",
                      f"kinds are run in turns, {RUNS} times each, and the median is shown")
    claim(record, apart, found["yields"])


def claim(record, apart: dict, yields: dict) -> None:
    """By the time between two locks. The less there is, the likelier is whoever loses his CPU to have the lock, and the more
    there is to win: at 20 us in two CPUs hold it two fifths of the time, and waiting well wins 2.4 times at most."""
    gains, by_kvm = ({ns: max(apart[kind][ns], 1) / max(apart["tas"][ns], 1) for ns in APART_NS} for kind in ("call", "hypercall"))
    gain = gains[WANTED_NS]
    for ns in APART_NS:
        record.aim(f"test and set's throughput, of directed yield's, {ns / 1000:.0f} us apart", 1 / gains[ns], 1 / WON if ns == WANTED_NS else None)
    rest = ", ".join(f"{gains[ns]:.1f} and {by_kvm[ns]:.1f} times with {ns / 1000:.0f} µs between two locks" for ns in APART_NS if ns != WANTED_NS)
    record.claim("M15", "A waiter that names the holder's vCPU gives its time to the one who can end the wait.",
                 "time lost to a preempted holder ≈ what the waiters spin before they yield, in place of whole slices",
                 f"at four vCPUs for each CPU and a lock that is always wanted, {WORK_NS / 1000:.0f} µs each time, {gain:.1f} times "
                 f"test-and-set's throughput by duet's fast call, {by_kvm[WANTED_NS]:.1f} times by KVM's hypercall; {rest} "
                 f"({yields[YIELDS[1]]} of {yields[YIELDS[0]]} yields successful)",
                 "yes" if gain >= WON else "partly" if gain > 1.2 else "no",
                 "Waiters sleep and lend their weight; the holder's CPU is its own for as long."
                 if gain > 1.2 else "Yielding costs as much as it saves here.")


def selftest(lab: ExperimentLab, record) -> None:
    """Test and set loses with each vCPU, the yield does not."""
    def runs(rate) -> dict:
        return {ratio: {"operations": rate(ratio), "worst_wait_ns": 1e7 * ratio} for ratio in RATIOS}

    kinds = {name: runs(lambda ratio: 1e5 // ratio ** 2) for name in KINDS} | {"call": runs(lambda ratio: 90000)}
    apart = {name: {ns: {"operations": 6000} for ns in APART_NS} for name in KINDS} | {"call": dict(zip(APART_NS, ({"operations": rate} for rate in (9000, 60000, 86400)), strict=True))}
    tell(lab, record, {"kinds": kinds, "apart": apart, "cpus": 2, "yields": {YIELDS[0]: 50, YIELDS[1]: 20, "loans": 700}})
    assert record.data["claims"][0]["agrees"] == "yes"
    assert "14.4 times test-and-set" in record.data["claims"][0]["measured"]
