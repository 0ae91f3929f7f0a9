# SPDX-License-Identifier: Apache-2.0
"""A guest under measurement: it does what it is told, and what that cost is the answer."""

import itertools
import json

from ..guest import vm
from ..host import counter
from .lab import HOME, IO_CPU, KERNEL, VCPU_CPU, ExperimentLab, initrd_of_guest
from .record import Skipped

MARK_START, MARK_END, MARK_STEP = 20, 21, 22  # lab/experiments/workload/workload.h
STATS_LIMIT = 60  # seconds
COMMAND_LIMIT = 400
BOOT_LIMIT = 300
STEPS_TOGETHER = 4
REQUESTS_LEAST = 8  # in each of them
BYSTANDERS = ("serial",)  # typing commands is not part of what is measured


class Subject:
    """Use as a context manager. OPTIONS are duet's; pinned once it runs, if PIN. FILES are put into the guest. PEER: as for
    vm.Guest. KIT: with the cooperation device, and the guest's module loaded. WRAPPER: what runs duet. CPUS: the host's,
    of its I/O thread and of its vCPU."""

    def __init__(self, lab: ExperimentLab, *options: str, words: str = "", memory: str = "512M",
                 peer=None, files: dict[str, bytes] | None = None, pin: bool = True, kit: bool = False,
                 wrapper: tuple[str, ...] = (), cpus: tuple[int, int] = (IO_CPU, VCPU_CPU)):
        self.lab = lab
        self.pinned = ""
        self._pin = pin
        self._cpus = cpus
        options = (*options, "--coop") if kit else options
        self.guest = vm.Guest("--cache", f"{HOME}/kernels", "--entropy", "off",
                              "--cmdline", words, *options, kernel=KERNEL,
                              initrd=initrd_of_guest(files, kit), memory=memory, program=f"{HOME}/duet",
                              direct=not lab.counts, peer=peer, wrapper=wrapper)

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.guest.__exit__()
            raise
        return self

    def __exit__(self, *_exc):
        self.guest.__exit__()

    def _start(self) -> None:
        try:
            self.guest.wait_for("^@ready", limit=BOOT_LIMIT)
        except vm.GuestFailure as failure:
            refusal = refused(self.guest.output)
            if refusal:
                raise Skipped(refusal) from failure
            raise
        if self._pin:
            self.pinned = self.lab.pin(self.guest.pid_path, *self._cpus)

    def command(self, text: str, limit: float = COMMAND_LIMIT, may_fail: bool = False) -> str:
        """What the guest's shell prints for TEXT."""
        after = len(self.guest.output)
        self.guest.type(text + "\n")
        done = self.guest.wait_for(r"^@done (\d+)$", limit=limit, after=after)
        output = self.guest.output[after:done.start()]
        if done.group(1) != "0" and not may_fail:
            raise vm.GuestFailure(f"in the guest: {text}: exit status {done.group(1)}\n{output.strip()[-500:]}")
        return output

    def statistics(self) -> dict:
        """duet's own, as of now."""
        return self.guest.snapshot(STATS_LIMIT)

    def measure(self, text: str) -> dict:
        """TEXT, a workload: its answer, the devices' counters, exits to user space, instructions.

        `counts` is exact, from mark to mark; None on hardware. `steps` in it has
        the same for each round trip, batch or group of requests. The rest includes the warm-up."""
        before = self.statistics()
        found = self.counted(text)
        after = self.statistics()
        return {**found, "accesses": accesses(before, after), "user_exits": user_exits(before, after),
                "devices": devices(before, after)}

    def counted(self, text: str) -> dict:
        """`measure` without what only duet can tell."""
        if self.lab.counts:
            counter.marks(self.lab.host)
        return {"answer": self.told(text), "counts": self._counts()}

    def told(self, text: str) -> dict:
        """The line of JSON that TEXT prints."""
        output = self.command(text)
        answer = next((line for line in output.splitlines() if line.startswith("{")), None)
        if answer is None:
            raise vm.GuestFailure(f"in the guest: {text}: no answer\n{output.strip()[-500:]}")
        return json.loads(answer)

    def _counts(self) -> dict | None:
        if not self.lab.counts:
            return None
        marks = [m for m in counter.marks(self.lab.host)["marks"] if m["in_guest"]]
        start = next((m for m in marks if m["id"] == MARK_START), None)
        end = next((m for m in marks if m["id"] == MARK_END), None)
        if start is None or end is None:
            raise vm.GuestFailure("the plugin did not see the workload's marks")
        counts = _difference(start, end)
        edges = [m for m in marks if m["id"] in (MARK_STEP, MARK_END)]
        counts["steps"] = [_difference(one, other) for one, other in itertools.pairwise(edges)]
        return counts


def _difference(before: dict, after: dict) -> dict:
    counts = {name: after["sum"][name] - before["sum"][name] for name in after["sum"]}
    counts["host"] = counts["host_user"] + counts["host_kernel"]
    return counts


def together(steps: list[dict], size: int) -> list[dict]:
    """SIZE steps in a row as one, so that what began in one and ended in the next counts once."""
    groups = [steps[at:at + size] for at in range(0, len(steps) - size + 1, size)]
    return [{name: sum(step[name] for step in group) for name in group[0]} for group in groups]


def undisturbed(steps: list[dict]) -> dict:
    """A step's counts as they are when nothing else happens: the mean of the cheapest tenth.

    A step cannot cost less than its own work; timer ticks and other strangers only add to it."""
    ordered = sorted(steps, key=lambda step: step["host"] + step["guest_high"])
    chosen = ordered[:max(1, len(ordered) // 10)]
    return {name: sum(step[name] for step in chosen) / len(chosen) for name in chosen[0]}


def each(found: dict) -> dict | None:
    """Undisturbed counts of one request or round trip of a workload; None on hardware.

    Requests begin and end in different steps when several are under way: some steps together."""
    if not found["counts"]:
        return None
    steps, size = found["counts"]["steps"], found["answer"].get("step", 1)
    if "step" in found["answer"]:
        chunk = max(1, min(STEPS_TOGETHER * max(1, REQUESTS_LEAST // size), len(steps) // 2))
        steps, size = together(steps, chunk), size * chunk
    return {name: count / size for name, count in undisturbed(steps).items()}


def usual(found: dict) -> dict:
    """Counts of one request. Of steps of one each: the first quartile of all, what most take that no tick falls into; some are
    cheaper still, whose end was counted in the next, so a mean of the cheapest is no request's. Of steps of many, which come in
    batches of any size: the mean."""
    steps, size = found["counts"]["steps"], found["answer"].get("step", 1)
    if size > 1:
        return {name: sum(step[name] for step in steps) / len(steps) / size for name in steps[0]}
    return {name: sorted(step[name] for step in steps)[len(steps) // 4] for name in steps[0]}


def refused(output: str) -> str | None:
    """The line by which duet declined to run at all, before a guest was there."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if lines and lines[-1].startswith("duet: ") and "duet-guest:" not in output:
        return lines[-1].removeprefix("duet: ")
    return None


def causes(before: dict, after: dict) -> dict[str, int]:
    """Accesses between two statistics by device, and exits of other causes."""
    found = {}
    for name, now in after["exits"]["by_device"].items():
        then = before["exits"]["by_device"].get(name, {})
        found[name] = sum(now[way] - then.get(way, 0) for way in ("reads", "writes"))
    for name, now in after["exits"]["by_cause"].items():
        if name not in ("port", "mmio", "total"):
            found[name] = now - before["exits"]["by_cause"][name]
    return {name: count for name, count in found.items() if count}


def accesses(before: dict, after: dict) -> dict[str, int]:
    """`causes` of the guest's own work."""
    # Each of the two signals for statistics may interrupt a vCPU.
    return {name: count for name, count in causes(before, after).items() if name not in (*BYSTANDERS, "interrupted")}


def user_exits(before: dict, after: dict) -> int:
    """Exits to user space between two statistics. One may bring many accesses: string instructions."""
    both = [statistics["exits"]["by_cause"] for statistics in (before, after)]
    total, interrupted = (both[1][name] - both[0][name] for name in ("total", "interrupted"))
    typing = sum(now[way] - before["exits"]["by_device"].get(name, {}).get(way, 0)
                 for name, now in after["exits"]["by_device"].items() if name in BYSTANDERS for way in ("reads", "writes"))
    return max(0, total - interrupted - typing)


def devices(before: dict, after: dict) -> dict[str, dict]:
    """What each device's counters grew by, `queues` among them."""
    then = {device["name"]: device for device in before["devices"]}
    return {device["name"]: _grown(then.get(device["name"], {}), device) for device in after["devices"]}


def _grown(before: dict, after: dict) -> dict:
    grown = {}
    for name, now in after.items():
        if isinstance(now, dict):
            grown[name] = _grown(before.get(name, {}), now)
        elif isinstance(now, int) and not isinstance(now, bool):
            grown[name] = now - before.get(name, 0)
        else:
            grown[name] = now
    return grown


def summed(grown: dict, counter: str) -> int:
    """COUNTER of a device over all its queues."""
    return grown.get(counter, 0) + sum(queue.get(counter, 0) for queue in grown.get("queues", {}).values())


def group(grown: dict, name: str) -> dict:
    """The counters that a device keeps under NAME."""
    return grown.get(name) or grown.get("queues", {}).get(name, {})
