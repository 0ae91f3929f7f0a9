# SPDX-License-Identifier: Apache-2.0
"""The guest's module before a device that lies (tests/liar): it may fail, it may not do harm."""

import os

import pytest
from matrix import SOAK, soak, some
from test_kit import KERNELS, KitGuest, memory

from duetlab.experiment.lab import workload
from duetlab.guest import vm

LIAR = vm.REPOSITORY / "build" / "tests" / "liar" / "liar"
LIES = ("config", "calls", "requests", "wishes", "pages")
ROUNDS = 60 if SOAK else 8
SEED = int(os.environ.get("DUET_LIAR_SEED", "1"))

# Debian's kernels have no KASAN, but SLUB's own checks: what is freed or beyond an object's end is marked, and looked at again.
CHECKED = "slub_debug=FZPU page_poison=1"

# Everything that stands on the device; none of it need succeed. What hangs is found by the module
# that cannot be unloaded.
USE = """
use() {
	timeout 1 cat /dev/duet
	echo "request 3 8" >/sys/kernel/debug/duet-channel
	echo "call 20" >/sys/kernel/debug/duet-channel
	echo "call threads=2 ms=20 hold=1000 outside=1000" >/sys/kernel/debug/duet-locks
	timeout 20 workload fork heap 4 50
	timeout 20 workload await 2 100000 15 effective
	timeout 20 workload counters duet task-clock thread 20 0
}
rounds() {
	for i in $(seq $1); do
		modprobe duet selftest=$((i % 2))
		[ -d /sys/module/duet ] && use
		[ ! -d /sys/module/duet ] || rmmod duet || return 1
	done >/dev/null 2>&1
}
"""


class Lied(KitGuest):
    """A guest whose device lies by SEED."""

    words = CHECKED

    def __init__(self, lies: tuple[str, ...], kernel: str, shell: str = "", **more):
        os.environ["DUET_LIAR"] = f"{SEED}:{','.join(lies)}"
        try:
            super().__init__("--coop", "--cmdline", self.words, kernel=kernel, program=LIAR, shell=USE + shell,
                             files={"bin/workload": workload().read_bytes()}, **more)
        finally:
            del os.environ["DUET_LIAR"]

    def __enter__(self):
        super().__enter__()
        self.ask("[ $(cat /sys/kernel/slab/task_struct/poison) = 1 ]")
        self.ask("mount -t debugfs none /sys/kernel/debug")
        return self


@soak
@pytest.mark.parametrize("kernel", some(KERNELS[:2]))
def test_lies(kernel):
    with Lied(LIES, kernel) as guest:
        guest.ask("rounds 3")
        before = memory(guest)
        guest.ask(f"rounds {ROUNDS}")
        assert memory(guest) < before + ROUNDS * 8
        # It was lied to, and saw some of it.
        assert "duet virtio" in guest.ask('log "duet virtio.*(selftest|not a configuration|speaks versions|no shared)"')
        guest.end()


@soak
def test_silence():
    """Requests that are never answered are given up, and their memory is the ring's until then."""
    with Lied(("silence",), KERNELS[0]) as guest:
        guest.ask("modprobe duet")
        for _ in range(4):
            guest.ask('echo "request 1 8" >/sys/kernel/debug/duet-channel 2>/dev/null || true')
        guest.ask("rmmod duet")
        guest.end()


@soak
@pytest.mark.parametrize("kernel", some(KERNELS[:2]))
def test_flood(kernel):
    """A device that fills buffers for wishes faster than they are offered keeps no CPU: the queue counts as broken."""
    with Lied(("flood",), kernel) as guest:
        guest.ask("modprobe duet")
        guest.ask('until log "is not a head"; do sleep 0.2; done')
        guest.ask("rmmod duet")
        guest.end()
