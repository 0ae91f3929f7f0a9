# SPDX-License-Identifier: Apache-2.0
"""Requests that come to guests at fixed times, and what each took from its arrival to its answer."""

import json
import math

from ..guest import vm
from .lab import HOME, IO_CPU, PORT, VCPU_CPU, ExperimentLab
from .subject import MARK_STEP

LOST = math.inf  # what took so long that nobody waited for its answer
KINDS = ("host_user", "host_kernel", "guest_low", "guest_high")
LIMIT = 600  # seconds


def window(lab: ExperimentLab, addresses: list[str], each: int, period_us: int) -> list[float]:
    """EACH requests to every one of the tenants at ADDRESSES, one a period: what they took. In the lab that is the instructions
    that the guests' CPU executed meanwhile, of host and guests; on hardware nanoseconds."""
    lab.marks()
    told = json.loads(lab.shell(f"taskset -c {IO_CPU} {HOME}/workload arrivals {','.join(addresses)} {PORT} {each} {period_us}", LIMIT))
    if told["wrong"]:
        raise vm.GuestFailure(f"{told['wrong']} pages of the guests' working sets did not hold what was written there")
    return by_instructions(told, lab.marks()) if lab.counts else by_time(told)


def by_time(told: dict) -> list[float]:
    return [took if took >= 0 else LOST for _, _, _, took in told["requests"]]


def by_instructions(told: dict, marks: list[dict]) -> list[float]:
    """The program's marks are those of the host with its number: nothing else makes them meanwhile."""
    at = [executed(mark) for mark in marks if mark["id"] == MARK_STEP and not mark["in_guest"]]
    if len(at) != told["marks"]:
        raise vm.GuestFailure(f"{told['marks']} marks were made, the plugin saw {len(at)}")
    return [at[answered] - at[sent] if answered >= 0 else LOST for _, sent, answered, _ in told["requests"]]


def executed(mark: dict) -> int:
    """What the CPU of the guests had executed."""
    return sum(mark["vcpus"][VCPU_CPU][kind] for kind in KINDS)


def percentile(took: list[float], share: float) -> float:
    """What that SHARE of the requests did not exceed: the smallest of the figures of which it is so."""
    return sorted(took)[max(0, math.ceil(share * len(took)) - 1)]
