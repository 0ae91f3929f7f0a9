# SPDX-License-Identifier: Apache-2.0
"""Machines that are held for longer than a guest's watchdog, and signals at any moment."""

import time

from duetlab.guest import images, vm

LIFE = vm.REPOSITORY / "build" / "tests" / "life" / "life"
# Twice its threshold of a second is a soft lockup.
HELD = 6
WATCHED = """
cat /proc/sys/kernel/watchdog_thresh /proc/sys/kernel/soft_watchdog
echo ready
while read -r line; do
	[ "$line" = end ] && break
	sleep 3; echo "awake: $line"
done
dmesg | grep -E "lockup|stall|hung|unstable|blocked for" && echo "the guest noticed"
exit 0
"""


def watched(**more) -> vm.Guest:
    return vm.Guest("--cpus", "2", "--cmdline", "watchdog_thresh=1", kernel="6.1-amd64", script=WATCHED,
                    memory="256M", **more)


def never_noticed(guest: vm.Guest):
    guest.type("end\n")
    console = guest.succeed()
    assert "\n1\n1\nready" in console, "the guest has no watchdog"
    assert "the guest noticed" not in console


def test_stopped_and_continued():
    with watched() as guest:
        guest.wait_for(r"^ready$")
        for number in range(2):
            vm.run("kill", "-STOP", str(guest.pid))
            time.sleep(HELD)
            vm.run("kill", "-CONT", str(guest.pid))
            guest.type(f"{number}\n")
            guest.wait_for(rf"^awake: {number}$")
        never_noticed(guest)


def test_paused():
    with watched(program=LIFE) as guest:
        guest.wait_for(r"^ready$")
        guest.type(f"\x01hold {HELD * 1000}\n")
        guest.wait_for(r"^life: hold \d+ done$")
        guest.type("paused\n")
        guest.wait_for(r"^awake: paused$")
        never_noticed(guest)


SIGNALS = """
for at in 0 0.01 0.02 0.05 0.1 0.2 0.4 0.8 1.6 3.2; do
	"$@" </dev/null >/dev/null 2>&1 &
	sleep $at
	kill -INT $!; kill -STOP $!; kill -CONT $!
	tries=0
	while kill -TERM $! 2>/dev/null; do
		sleep 0.1; tries=$((tries + 1))
		[ $tries -lt 100 ] || { echo "at $at: does not end"; kill -KILL $!; }
	done
	wait $!
	echo "status $?"
done
pgrep -P $$ passt
exit 0
"""


def test_signals_at_any_moment():
    """Of building, booting and running; 2 by then, 4 by a second signal, 143 before they are watched."""
    console = vm.run("sh", "-c", SIGNALS, "sh", str(vm.DUET), "run", "--kernel", str(images.kernel("6.1-cloud")),
                     "--initrd", str(images.initrd("6.1-cloud", "base")), "--memory", "256M", "--net", "user").stdout
    assert "does not end" not in console
    seen = [line.split()[1] for line in console.splitlines() if line.startswith("status")]
    assert len(seen) == 10 and set(seen) <= {"0", "4", "130", "143"}, console
