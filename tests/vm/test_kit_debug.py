# SPDX-License-Identifier: Apache-2.0
"""The guest kit's module in a kernel that looks for faults: lockdep, sleeps where none may be, KASAN and kmemleak see all that
the module does, also before a device that lies. And they do see faults: those of a module that is given some.

The kernel is built once, of Debian's source (duetlab/guest/checked.py)."""

import pytest
from api import Api, socket
from matrix import soak
from test_kit import KitGuest, until
from test_liar import LIES, Lied

from duetlab.base import debian
from duetlab.experiment.lab import workload
from duetlab.guest import checked, kit, programs

pytestmark = soak

# A guest that gets little of the lab's CPU, and checks each access to memory, takes itself for hung.
WORDS = "nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
REPORTS = r"BUG:|WARNING:|KASAN|INFO: |ODEBUG|Call Trace|Bad page|kernel memory leak|general protection|Oops"
OUT_OF_TREE = 1 << 12  # the one taint that the module makes

SHELL = """
D=/sys/kernel/debug
intact() { [ "$(cat /proc/sys/kernel/tainted)" = @TAINT@ ] && grep -q "debug_locks: *1$" /proc/lockdep_stats; }
# The first scan notes what an object holds, the next ones report it when that is the same and nobody points there. What is
# younger than five seconds is not looked at.
leaks() {
	sleep 6
	for scan in 1 2 3; do echo scan >$D/kmemleak; done
	cat $D/kmemleak
}
benches() {
	for kind in tas queued hypercall call; do echo "$kind ms=200 threads=3" >$D/duet-locks || return 1; done
	for what in "port 3" "call 20" "request 3 8" "batch 3 8" "page 20"; do echo "$what" >$D/duet-channel || return 1; done
}
counting() {
	for scope in thread 0; do
		workload counters duet task-clock+context-switches+page-faults $scope 100000 5 || return 1
	done
}
limited() {
	mkdir /tmp/group && mount -t cgroup2 none /tmp/group && echo +memory >/tmp/group/cgroup.subtree_control
	mkdir /tmp/group/small && echo 36M >/tmp/group/small/memory.max
	(echo 0 >/tmp/group/small/cgroup.procs; exec test_fork limit)
}
tcp() {
	echo duet >/proc/sys/net/ipv4/tcp_congestion_control
	workload serve 127.0.0.1 7777 >/tmp/served &
	until grep -q serving /tmp/served; do sleep 0.2; done
	workload window 127.0.0.1 7777 100 2 || return 1
	kill %1; wait
	echo reno >/proc/sys/net/ipv4/tcp_congestion_control
	until [ "$(cat /sys/module/duet/refcnt)" = 0 ]; do sleep 0.2; done
}
# Its device goes while somebody uses it, and comes back.
pulled() {
	device=$(readlink -f /sys/bus/virtio/drivers/duet/virtio*/..)
	exec 5</dev/duet
	(exec 5<&-; echo 1 >$device/remove) &
	until log "duet virtio.*removed while in use" >/dev/null; do sleep 0.2; done
	exec 5<&-
	wait
	[ ! -e /dev/duet ] && echo 1 >/sys/bus/pci/rescan && [ -e /dev/duet ]
}
""".replace("@TAINT@", str(OUT_OF_TREE))

# Two locks by turns, a sleep with one held, memory that is lost, a byte behind its end: in this order, for what KASAN reports
# switches lockdep off.
FAULTY = (("main.c", "static int __init duet_init(void)\n{\n", """
static DEFINE_SPINLOCK(one);
static DEFINE_SPINLOCK(other);

static noinline void make_faults(void)
{
	char *volatile memory;
	int i;

	spin_lock(&one);
	spin_lock(&other);
	spin_unlock(&other);
	spin_unlock(&one);
	spin_lock(&other);
	spin_lock(&one);
	spin_unlock(&one);
	might_sleep();
	spin_unlock(&other);
	for (i = 0; i < 20; i++)
		memory = kmalloc(1000, GFP_KERNEL);
	memory[1000] = 1;
	memory = NULL;
}

static int __init duet_init(void)
{
	make_faults();
"""),)
FOUND = ("WARNING: possible circular locking dependency detected", "BUG: sleeping function called from invalid context",
         "BUG: KASAN: slab-out-of-bounds in make_faults")


@pytest.fixture(scope="module")
def kernel() -> str:
    try:
        checked.fetch()
    except debian.DebianError as error:
        pytest.skip(f"no kernel with lockdep, KASAN and kmemleak: {error}")
    return checked.NAME


class Watched(KitGuest):
    """A guest whose kernel reports what it finds."""

    limit = 3000  # seconds: each access to memory is several, and the lab's CPU none of the fastest

    def __init__(self, *options: str, kernel: str, **more):
        super().__init__("--coop", "--pmu", "pv", "--cmdline", WORDS, *options, kernel=kernel, shell=SHELL, memory="1G", **more)

    def __enter__(self):
        super().__enter__()
        self.ask("mount -t debugfs none $D")
        return self

    def unloaded(self):
        """Nothing is left of it, and nothing was reported on the way."""
        self.ask("rmmod duet")
        assert "unreferenced object" not in (left := self.ask("leaks")), left
        self.whole()

    def whole(self):
        self.ask(f'log "{REPORTS}"', 1)
        self.ask("intact")


def hear_wishes(guest: Watched, api: Api):
    guest.ask("duet-guestd & true")
    for kind in ("share", "locality"):
        api.do("PUT", "/duet/hints", {"wish": kind})
        until(lambda: api.do("GET", "/duet/hints")[kind], lambda told: told["answered"] and told["complete"], guest.limit)
    guest.ask("kill %1; wait")


def come_and_go(guest: Watched):
    """CPUs while it is loaded and while it is not, the whole machine, the module itself and its device."""
    guest.ask("cpu1 0 && cpu1 1")
    guest.ask("cpu1 0 && rmmod duet && modprobe duet selftest=1 && cpu1 1")
    guest.ask("echo devices >/sys/power/pm_test && echo freeze >/sys/power/state")
    guest.ask("rmmod duet && cycle 3 && modprobe duet selftest=1")
    guest.ask("pulled")


def test_nothing_is_reported(kernel):
    name = socket()
    files = programs.heap_tests() | {"bin/workload": workload().read_bytes()}
    with Watched("--api-sock", name, kernel=kernel, files=files) as guest:
        guest.ask("modprobe duet selftest=1")
        assert "selftest of counters: passed" in guest.ask("log duet")
        guest.ask("benches && counting")
        guest.ask("workload await 3 20000 15 effective")
        guest.ask("test_fork cases && test_heap && test_fork storm 10 1 && limited")
        guest.ask("tcp")
        api = Api(name)
        until(lambda: api.do("GET", "/duet/hints"), lambda told: told.get("machine", {}).get("heartbeat", 0) > 1, guest.limit)
        hear_wishes(guest, api)
        assert "unreferenced object" not in (left := guest.ask("leaks")), left
        come_and_go(guest)
        guest.unloaded()
        guest.end()


class WatchedLied(Lied):
    """The same before a device that lies; its faults may be logged, the kernel's own reports may not."""

    limit, words, whole, unloaded = Watched.limit, WORDS, Watched.whole, Watched.unloaded

    def __init__(self, lies: tuple[str, ...], kernel: str):
        super().__init__(lies, kernel, shell=SHELL, memory="1G")

    def __enter__(self):
        KitGuest.__enter__(self)
        self.ask("mount -t debugfs none $D")
        return self


@pytest.mark.parametrize("lies, story", [
    (LIES, "rounds 20"),
    (("silence",), 'modprobe duet; while echo "request 1 8" >$D/duet-channel; do :; done 2>/dev/null'),
    (("flood",), 'modprobe duet; until log "is not a head"; do sleep 0.2; done'),
], ids=["all", "silence", "flood"])
def test_nothing_is_reported_when_lied_to(kernel, lies, story):
    with WatchedLied(lies, kernel) as guest:
        guest.ask(story)
        guest.ask("[ -d /sys/module/duet ] || modprobe duet")
        guest.unloaded()
        guest.end()


def test_faults_are_seen(kernel):
    """Of a module that has some."""
    faulty = {path: data for path, data in kit.files(kernel, FAULTY).items() if path.endswith("duet.ko")}
    with Watched(kernel=kernel, files=faulty) as guest:
        guest.ask("modprobe duet")
        said = guest.ask(f'log "{REPORTS}"')
        for report in FOUND:
            assert report in said, said
        assert "make_faults" in guest.ask("leaks")
        guest.ask("intact", 1)
