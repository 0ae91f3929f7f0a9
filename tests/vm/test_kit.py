# SPDX-License-Identifier: Apache-2.0
"""The guest kit: the module in stock guests, its self-test, its hints, its daemon, and what it leaves."""

import re
import time

import pytest
from api import Api, socket
from matrix import soak, some

from duetlab.guest import kit, vm

KERNELS = ("6.1-amd64", "6.12-amd64", "6.1-cloud")
LIMIT = 600

# Obeys, and answers each line with the command's exit status.
PREPARE = kit.PREPARE + """
mem() {
	echo 3 >/proc/sys/vm/drop_caches
	sleep 1
	awk '/^(Slab|VmallocUsed|Percpu):/ { sum += $2 } END { print "memory " sum }' /proc/meminfo
}
cycle() {
	for i in $(seq $1); do
		modprobe duet && rmmod duet || return 1
	done
}
cpu1() { echo $1 >/sys/devices/system/cpu/cpu1/online; }
busy() { while :; do :; done; }
log() { dmesg | grep -E "$1"; }
"""
OBEY = """
echo "ready"
while read -r line; do
	eval "$line"
	echo "status $?."
done
"""
FAULTS = r"lockup|LOCKUP|detected stalls|BUG:|WARNING: CPU|Call Trace"


class KitGuest(vm.Guest):
    """A guest with the kit that does what it is told. SHELL: more functions for what it is told; FILES: more of them; MORE:
    as for vm.Guest."""

    limit = LIMIT

    def __init__(self, *options: str, kernel: str, shell: str = "", files: dict[str, bytes] | None = None, **more):
        super().__init__("--cpus", "2", *options, kernel=kernel, script=PREPARE + shell + OBEY,
                         files=kit.files(kernel) | (files or {}), **more)

    def __enter__(self):
        self.wait_for("^ready$", self.limit)
        return self

    def ask(self, line: str, status: int = 0) -> str:
        """What LINE prints."""
        after = len(self.output)
        self.type(line + "\n")
        found = self.wait_for(r"^status (\d+)\.$", self.limit, after)
        said = self.output[after:found.start()]
        assert int(found[1]) == status, f"{line}: {said}"
        return said

    def end(self):
        """Nothing went wrong on the way; it powers off with whatever is loaded."""
        self.ask(f'log "{FAULTS}"', 1)
        self.type("exit 0\n")
        self.succeed(self.limit)


def memory(guest: KitGuest) -> int:
    """KiB that the kernel itself has in use."""
    return int(re.search(r"memory (\d+)", guest.ask("mem"))[1])


@pytest.mark.parametrize("kernel", some(KERNELS[::-1], 2))
def test_self_test(kernel):
    with KitGuest("--coop", kernel=kernel) as guest:
        guest.ask("modprobe duet selftest=1")
        said = guest.ask('log "duet virtio"')
        assert "selftest of the channel: passed" in said
        assert "selftest of hints: passed" in said
        assert "selftest of bench: passed" in said
        assert "not cached" not in said, "writes to the shared pages are slow"
        guest.end()


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_leaves_nothing(kernel):
    with KitGuest("--coop", kernel=kernel) as guest:
        guest.ask("cycle 3")
        memory(guest)
        guest.ask("cat /proc/ioports >/tmp/ports")
        before = memory(guest)
        guest.ask("cycle 20")
        # Lost are less than 8 KiB each time: a mapping, a queue or a thread's stack is more.
        assert memory(guest) < before + 20 * 8
        guest.ask("cmp /proc/ioports /tmp/ports")
        guest.ask("grep -w duet /proc/vmallocinfo /proc/modules /proc/misc", 1)
        guest.end()


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_cpu_that_goes_and_comes(kernel):
    with KitGuest("--coop", kernel=kernel) as guest:
        guest.ask("modprobe duet selftest=1")
        for _ in range(2):
            guest.ask("cpu1 0")
            guest.ask("rmmod duet && modprobe duet selftest=1")
            guest.ask("cpu1 1")
            guest.ask("taskset 2 true")
            guest.ask("rmmod duet && modprobe duet selftest=1")
            guest.ask("cpu1 0 && cpu1 1")
        guest.end()


def until(question, good, limit: float = 120):
    """What QUESTION answers, when it is GOOD at last."""
    end = time.monotonic() + limit
    while not good(answer := question()):
        assert time.monotonic() < end, f"still {answer}"
        time.sleep(0.2)
    return answer


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_hints(kernel):
    name = socket()
    with KitGuest("--coop", "--api-sock", name, kernel=kernel) as guest:
        api = Api(name)

        def hints():
            return api.do("GET", "/duet/hints")

        assert not hints()["driver"]
        guest.ask("modprobe duet")
        first = until(hints, lambda found: found.get("machine", {}).get("heartbeat", 0) > 1)
        assert 1 << 20 < first["machine"]["working_set_bytes"] < 512 << 20
        guest.ask("for i in 1 2 3; do taskset 2 sh -c 'while :; do :; done' & done")
        loaded = until(hints, lambda found: found["vcpus"][1]["runnable"] >= 3)
        assert loaded["vcpus"][1]["switches"] > first["vcpus"][1]["switches"]
        until(hints, lambda found: found["machine"]["pressure"]["cpu_some"] > 0)
        assert "runnable" in vm.run(str(vm.DUET), "ctl", name, "hints").stdout
        guest.ask("kill $(jobs -p)")
        until(hints, lambda found: found["vcpus"][1]["runnable"] <= 1)
        guest.end()


def test_wishes():
    """The daemon answers, with pages of the guest's memory."""
    name = socket()
    with KitGuest("--coop", "--api-sock", name, kernel=KERNELS[1]) as guest:
        api = Api(name)
        guest.ask("modprobe duet")
        guest.ask("duet-guestd & taskset 2 sh -c 'while :; do n=$((n + 1)); done' & true")
        for kind in ("share", "locality"):
            api.do("PUT", "/duet/hints", {"wish": kind})
            told = until(lambda: api.do("GET", "/duet/hints")[kind],
                         lambda found: found["answered"] and found["complete"])
            assert 0 < told["pages"] < (512 << 20) // 4096 and not told["refused"]
        assert any(vcpu["index"] == 1 for vcpu in told["vcpus"])
        # Who has the device open holds the module.
        guest.ask("rmmod duet 2>/dev/null", 1)
        guest.ask("kill $(jobs -p); wait; rmmod duet")
        guest.end()


@soak
def test_suspend():
    """Drivers are frozen and thawed, as before and after a sleep."""
    with KitGuest("--coop", kernel=KERNELS[0]) as guest:
        guest.ask("modprobe duet")
        guest.ask("echo devices >/sys/power/pm_test && echo freeze >/sys/power/state")
        guest.ask("rmmod duet && modprobe duet selftest=1")
        guest.end()


def test_without_the_device():
    with KitGuest(kernel=KERNELS[0]) as guest:
        guest.ask("modprobe duet")
        guest.ask("[ ! -e /dev/duet ]")
        guest.ask("rmmod duet")
        guest.ask("modprobe duet selftest=1", 1)
        assert "no device passed its self-test" in guest.ask("log duet:")
        guest.end()
