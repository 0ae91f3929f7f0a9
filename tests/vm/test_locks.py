# SPDX-License-Identifier: Apache-2.0
"""The lock bench in stock guests: every kind counts right, and a directed yield is worth its exit."""

import json
import re

import pytest
from matrix import soak, some
from test_time import KERNELS, Asked

from duetlab.guest import vm

CROWD = 8  # vCPUs; the lab's host has two CPUs
RUNS = 5


def bench(guest: Asked, kind: str, *words: str) -> dict:
    guest.ask(f"echo {kind} {' '.join(words)} >/sys/kernel/debug/duet-locks")
    return json.loads(re.search(r"^\{.*\}$", guest.ask("cat /sys/kernel/debug/duet-locks"), re.MULTILINE)[0])


def median(values: list) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_kinds(kernel):
    with Asked("--cpus", "2", kernel=kernel) as guest:
        guest.ask("mount -t debugfs none /sys/kernel/debug")
        assert "selftest of locks: passed" in guest.ask("dmesg")
        for kind in ("tas", "queued", "hypercall", "call"):
            found = bench(guest, kind, "ms=100", "threads=3")
            assert found["kind"] == kind and found["threads"] == 3 and found["operations"] > 0, found
            assert found["refused"] == 0, found
        for wrong in ("none", "tas threads=0", "tas threads=65", "tas hold=x", "tas ms=60001", "tas hold"):
            after = len(guest.output)
            guest.type(f"echo {wrong} >/sys/kernel/debug/duet-locks\n")
            assert guest.wait_for(r"^status (\d+)\.$", 60, after)[1] != "0", wrong
        guest.unload()


def features(option: str, words: str = "") -> dict:
    with Asked("--cpus", "2", "--pv", option, "--cmdline", words, kernel="6.1-amd64") as guest:
        guest.ask("mount -t debugfs none /sys/kernel/debug")
        found = bench(guest, "queued", "ms=50")
        after = len(guest.output)
        guest.type("echo hypercall ms=50 >/sys/kernel/debug/duet-locks\n")
        return {"pv": found["pv"], "hypercall": guest.wait_for(r"^status (\d+)\.$", 60, after)[1] == "0"}


@soak
def test_switches():
    """KVM's part in the kernel's spinlock, and its directed yield, are there unless they are taken away."""
    assert features("-asyncpf") == {"pv": True, "hypercall": True}
    assert features("-unhalt,-yield") == {"pv": False, "hypercall": False}
    assert features("-asyncpf", "nopvspin")["pv"] is False


@soak
@pytest.mark.parametrize("kernel", some(("6.12-amd64", "6.1-amd64")))
def test_directed_yield(kernel):
    """Four vCPUs for each CPU: yielding to the holder beats spinning."""
    cpus = int(vm.run("nproc").stdout)
    with Asked("--cpus", str(CROWD // 2 * cpus), kernel=kernel) as guest:
        guest.ask("mount -t debugfs none /sys/kernel/debug")
        found = {"tas": [], "call": []}
        for _ in range(RUNS):  # in turns: what else the machine does concerns both
            for kind, results in found.items():
                results.append(bench(guest, kind, "ms=1500", "hold=5000", "outside=5000"))
        rates = {kind: median([result["operations"] for result in results]) for kind, results in found.items()}
        print(kernel, rates, found["call"][-1])
        assert sum(result["yields"] for result in found["call"]) > 0
        assert rates["call"] > rates["tas"], found
        assert sum(vcpu["loans"] for vcpu in guest.snapshot()["vcpus"]) > 0
        guest.unload()
