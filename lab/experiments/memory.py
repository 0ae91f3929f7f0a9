# SPDX-License-Identifier: Apache-2.0
"""M8: balloons under a manager that weighs working sets, beside a static split and reclaim by pressure.

Three guests with a kit whose working sets move, on a host with two thirds of their memory: pages swapped, by guests and host."""

import contextlib
import json
import os

from duetlab.base.paths import REPOSITORY
from duetlab.experiment.lab import HOME, ExperimentLab
from duetlab.experiment.managed import Managed
from duetlab.experiment.record import attempt, usual_confounders
from duetlab.experiment.subject import Subject
from duetlab.experiment.swap import HostSwap

ORDER = 9
MECHANISMS = {"M8": "Balloon"}
TITLE = "Memory: balloons by what guests need, and by other rules"
WHAT = ("Three guests read files and have working sets of which one is large at a time: a program's memory that grows and "
        "shrinks by steps, each page checked when it is touched. The host has two thirds of what the guests were given. "
        "duetd moves memory between them by one policy after the other, over the same rounds of the same work.")

MIB = 1 << 20
NAMES = ("one", "two", "three")
MEMORY, BUDGET = 256, 512  # MiB, of each guest and of the host for all
LOW, HIGH, STEP = 16, 112, 8  # MiB, of the program
ROUNDS, PHASES = 16, 4  # rounds of each phase
SETTLE, SETTLES = 8, 5  # rounds before anything counts, so often at most
PERIOD_MS = 1500  # between rounds, later where a round takes longer: a phase of half a minute
FILES_MIB, CACHED_MIB = 512, 96  # a disk of which nothing is read twice; so much of it before the first round
SWAP_MIB, HOST_SWAP_MIB = 256, 1024
PARTS = REPOSITORY / "build" / "experiments" / "memory.parts"
LIMIT = 900  # seconds that a phase may take on a busy machine
POLICIES = ("working-set", "static", "pressure")
ALL = ("working-set", "static", "idle-tax", "ovirt", "pressure", "off")  # those that make the host swap last
HALF = 0.5  # of the static split's paging: the aim


def start_guests(lab: ExperimentLab, host: Managed) -> list[Subject]:
    disks = lab.empty_disks({f"{name}-{kind}": size for name in NAMES for kind, size in (("swap", SWAP_MIB), ("files", FILES_MIB))})
    return [Subject(lab, "--disk", f"path={disks[f'{name}-swap']},cache=direct", "--disk", f"path={disks[f'{name}-files']},cache=direct",
                    "--balloon", "stats=1,deflate-on-oom=on", *host.options(name), memory=f"{MEMORY}M", pin=False, kit=True,
                    wrapper=host.wrapper(name)) for name in NAMES]


# Swap and caches as new, then the program. What is cached of a disk goes when nobody has it open.
PREPARE = ("swapoff -a; mkswap /dev/vda >/dev/null && swapon /dev/vda && echo 0 >/proc/sys/vm/page-cluster && "
           "echo 3 >/proc/sys/vm/drop_caches && "
           f"exec 9</dev/vdb && dd if=/dev/vdb of=/dev/null bs=1M skip={FILES_MIB // 2} count={CACHED_MIB} 2>/dev/null && "
           f"workload moving /dev/vdb {PERIOD_MS}")


class Worker:
    """The program in a guest."""

    def __init__(self, subject: Subject):
        self.guest = subject.guest
        self._after = len(self.guest.output)
        self.guest.type(PREPARE + "\n")

    def ready(self) -> None:
        self.guest.wait_for("^@moving$", LIMIT, self._after)

    def order(self, mib: int, rounds: int) -> None:
        self._after = len(self.guest.output)
        self.guest.type(f"{mib} {STEP} {rounds}\n")

    def told(self) -> list[dict]:
        """Its counters after each round of the last order."""
        end = self.guest.wait_for("^@told$", LIMIT, self._after)
        lines = self.guest.output[self._after:end.start()].splitlines()
        return [json.loads(line.removeprefix("@round ")) for line in lines if line.startswith("@round ")]

    def finish(self) -> None:
        """Every page was as it should be."""
        self.guest.type("end\n")
        self.guest.wait_for("^@done 0$", LIMIT, self._after)


def goal(phase: int, nth: int) -> int:
    return HIGH if phase % len(NAMES) == nth else LOW


def phase_of(workers: list[Worker], goals: list[int], rounds: int) -> list[list[dict]]:
    for worker, mib in zip(workers, goals, strict=True):
        worker.order(mib, rounds)
    return [worker.told() for worker in workers]


def paged(now: dict, before: dict) -> int:
    return sum(now[way] - before[way] for way in ("in", "out", "refaults"))


def of_guests(rounds: list[list[dict]], before: list[dict]) -> list[int]:
    """Pages of all guests from BEFORE to each round."""
    return [sum(paged(now, then) for now, then in zip(all_now, before, strict=True)) for all_now in zip(*rounds, strict=True)]


def settle(host: Managed, workers: list[Worker]) -> list[dict]:
    """Rounds until the guests have given what they should, where the policy takes it; then the host's limit. The last counters."""
    for _ in range(SETTLES):
        last = [rounds[-1] for rounds in phase_of(workers, [LOW] * len(NAMES), SETTLE)]
        if host.taken() <= BUDGET * MIB:
            break
    host.limit(f"{BUDGET}M")
    return last


def run_phases(host: Managed, workers: list[Worker]) -> dict:
    before = settle(host, workers)
    started, _ = host.look()
    guests, hosts, allowed = [], [], []
    for phase in range(PHASES):
        rounds = phase_of(workers, [goal(phase, nth) for nth in range(len(NAMES))], ROUNDS)
        paging, machines = host.look()
        guests += of_guests(rounds, before)
        hosts.append(sum(paging.values()) - sum(started.values()))
        allowed.append([machines.get(name, {}).get("allowed", MEMORY * MIB) // MIB for name in NAMES])
    return {"guests": guests, "hosts": hosts, "allowed": allowed}


def under(host: Managed, swap: HostSwap, subjects: list[Subject], policy: str) -> dict:
    """The same work under one policy, from the same beginning."""
    workers = [Worker(subject) for subject in subjects]
    for worker in workers:
        worker.ready()
    host.start("--memory", policy, "--cpu", "off", "--numa", "off", "--budget", f"{BUDGET}M")
    found = run_phases(host, workers)
    host.end()
    for worker in workers:
        worker.finish()
    host.limit("max")
    host.let_go(NAMES)
    swap.empty()
    return found


def chosen(environment) -> tuple[str, ...]:
    """DUET_PARTS names some of them, for those who work on this file; DUET_SOAK=1 means all."""
    words = environment.get("DUET_PARTS", "").split(",")
    usual = ALL if environment.get("DUET_SOAK") == "1" else POLICIES
    return tuple(policy for policy in ALL if policy in words) or usual


def measure(lab: ExperimentLab, record, policies) -> dict:
    """What was found of each policy, kept in a file for DUET_PARTS as it comes."""
    found = json.loads(PARTS.read_text()) if PARTS.exists() and "DUET_PARTS" in os.environ else {}
    with HostSwap(lab, HOST_SWAP_MIB) as swap, Managed(lab) as host, contextlib.ExitStack() as stack:
        subjects = start_guests(lab, host)
        for subject in subjects:
            stack.enter_context(subject)
        lab.shell(f"rm -rf {HOME}/kernels")  # what duet kept of the kernel counts as the first guest's
        for policy in policies:
            found[policy] = attempt(record, policy, under, host, swap, subjects, policy)
            PARTS.parent.mkdir(parents=True, exist_ok=True)
            PARTS.write_text(json.dumps(found))
    return {policy: figures for policy, figures in found.items() if figures}


def run(lab: ExperimentLab, record) -> None:
    found = attempt(record, "paging", measure, lab, record, chosen(os.environ))
    if found:
        tell(lab, record, found)


# What it comes to


def total(figures: dict) -> int:
    return figures["guests"][-1] + figures["hosts"][-1]


def tell(lab: ExperimentLab, record, found: dict) -> None:
    record.figure("policies", found)
    record.table("Pages swapped, read in again or written out", ["policy", "by guests", "by the host", "together", "of static"],
                 [[policy, figures["guests"][-1], figures["hosts"][-1], total(figures), share(found, policy)]
                  for policy, figures in found.items()])
    charts(record, found)
    record.symbol("working set", "what a guest cannot do without: what its kit tells, and what its kernel has in use.")
    usual_confounders(record, lab, None)
    record.confounder("The same work", "controlled", f"{PHASES * ROUNDS} rounds of each guest, in each so many touches of so many pages, "
                      "by the same random numbers; a round is later where paging holds it up, never left out")
    record.confounder("The same beginning", "controlled", "one boot for all policies; before each of them balloons are let go, swap is "
                      "emptied, caches are dropped and filled again")
    record.confounder("Read-ahead of swap", "controlled" if lab.counts else "not controlled", "off in the guests"
                      + (" and on the host" if lab.counts else "; the host's as it is"))
    record.confounder("How fast the machine is", "not controlled", "duetd decides once a second and rounds come each second and a half, whatever "
                      "a page costs here; a slow machine has fewer decisions for each page")
    verdict(record, found)


def share(found: dict, policy: str) -> str:
    base = total(found["static"]) if "static" in found else 0
    return f"{total(found[policy]) / base:.2f}" if base else "–"


def charts(record, found: dict) -> None:
    rounds = list(range(1, PHASES * ROUNDS + 1))
    record.chart("Paging of the guests, summed up", "; ".join(f"{policy}: {figures['guests'][-1]} pages" for policy, figures in found.items()),
                 "A level line is a phase in which every guest has what it needs.",
                 [{"name": policy, "style": "line", "x": rounds, "y": figures["guests"]} for policy, figures in found.items()],
                 x_label="rounds", y_label="pages")
    ends = [ROUNDS * (phase + 1) for phase in range(PHASES)]
    record.chart("Swapping of the host, summed up", "; ".join(f"{policy}: {figures['hosts'][-1]} pages" for policy, figures in found.items()),
                 "What the host swaps it does not know: of a guest's cache it reads in again what the guest throws away.",
                 [{"name": policy, "style": "line", "x": ends, "y": figures["hosts"]} for policy, figures in found.items()],
                 x_label="rounds", y_label="pages")
    if "working-set" in found:
        allowed = found["working-set"]["allowed"]
        record.chart("What each guest may hold, by working sets", "At the end of each phase; the guest whose working set is large has most.",
                     "The memory follows the working set from guest to guest.",
                     [{"name": f"guest {name}", "style": "line", "x": ends, "y": [held[nth] for held in allowed]} for nth, name in enumerate(NAMES)],
                     x_label="rounds", y_label="MiB")


def verdict(record, found: dict) -> None:
    figures = {policy: total(figures) for policy, figures in found.items()}
    ours, others = figures.get("working-set"), {policy: pages for policy, pages in figures.items() if policy != "working-set"}
    claim = "A policy that knows the guests' working sets balances their memory with the least paging of guests and host."
    model = "paging ≤ half of a static split's, and below each other policy's"
    measured = "pages swapped: " + ", ".join(f"{policy} {pages}" for policy, pages in figures.items())
    if ours is None or not others.get("static"):
        record.claim("M8", claim, model, measured, "not measured", "There is nothing to compare with: the static split paged nothing.")
        return
    best, least = all(ours < pages for pages in others.values()), ours / others["static"]
    record.aim("pages paged by working sets, of the static split's", least, HALF)
    for policy, pages in others.items():
        if policy != "static":
            record.aim(f"pages paged by working sets, of those by {policy}", ours / pages, 1, below=True)
    record.claim("M8", claim, model, f"{measured}; {least:.2f} of the static split's",
                 "yes" if best and least <= HALF else "partly" if best or least < 1 else "no",
                 f"By working sets the machines page {least:.2f} times what a static split makes them"
                 + (", and less than under every other policy tried." if best else ", but another policy pages less."))


def made_up(pages: int, swapped: int) -> dict:
    steps = PHASES * ROUNDS
    return {"guests": [pages * n // steps for n in range(1, steps + 1)], "hosts": [swapped * n // PHASES for n in range(1, PHASES + 1)],
            "allowed": [[goal(phase, nth) + 90 for nth in range(len(NAMES))] for phase in range(PHASES)]}


def selftest(lab: ExperimentLab, record) -> None:
    """By working sets 0.3 of the static split's; the host alone swaps most."""
    tell(lab, record, {"working-set": made_up(2000, 1000), "static": made_up(10000, 0), "pressure": made_up(0, 12000)})
    claim, = record.data["claims"]
    assert claim["agrees"] == "yes" and "0.30 of the static split's" in claim["measured"], claim
    rounds = [[{"in": 3, "out": 2, "refaults": 0}, {"in": 9, "out": 2, "refaults": 1}], [{"in": 1, "out": 0, "refaults": 0}] * 2]
    assert of_guests(rounds, [{"in": 1, "out": 1, "refaults": 0}, {"in": 1, "out": 0, "refaults": 0}]) == [3, 10]
