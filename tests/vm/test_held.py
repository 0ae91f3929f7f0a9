# SPDX-License-Identifier: Apache-2.0
"""Machines that are held for longer than a guest's watchdog, and signals at any moment."""

import json
import signal
import struct
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


# A monitor that was asked for its end at a moment of its start, and whether a passt outlives it.
SIGNALS = """
for at in 0 0.01 0.02 0.05 0.1 0.2 0.4 0.8 1.6 3.2; do
	"$@" </dev/null >/dev/null 2>&1 &
	sleep $at
	passt=$(pgrep -P $! passt)
	kill -INT $!; kill -STOP $!; kill -CONT $!
	tries=0
	while kill -TERM $! 2>/dev/null; do
		sleep 0.1; tries=$((tries + 1))
		[ $tries -lt 100 ] || { echo "at $at: does not end"; kill -KILL $!; }
	done
	wait $!
	echo "status $?"
	tries=0
	for pid in $passt; do
		echo "passt $pid"
		while kill -0 $pid 2>/dev/null; do
			sleep 0.1; tries=$((tries + 1))
			[ $tries -lt 100 ] || { echo "left: $pid"; break; }
		done
	done
done
exit 0
"""


def test_signals_at_any_moment():
    """Of building, booting and running: 4 by a second signal, 130 or 143 by the first before the machine ran."""
    console = vm.run("sh", "-c", SIGNALS, "sh", str(vm.DUET), "run", "--kernel", str(images.kernel("6.1-cloud")),
                     "--initrd", str(images.initrd("6.1-cloud", "base")), "--memory", "256M", "--net", "user").stdout
    assert "does not end" not in console and "left: " not in console
    assert "passt " in console, "no signal came while there was one"
    seen = [line.split()[1] for line in console.splitlines() if line.startswith("status")]
    assert len(seen) == 10 and set(seen) <= {"0", "4", "130", "143"}, console


def resetting() -> bytes:
    """A kernel that does nothing but reset: mov dx,0xcf9; mov al,6; out dx,al; jmp $."""
    code = bytes.fromhex("66baf90c b006 ee ebfe")
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 1, 64,
                         0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 120, 0x1000000, 0x1000000, len(code), 4096, 4096) + code


def test_signals_while_it_resets_and_while_it_is_paused(workspace):
    """Two that ask for the end come with others between them: it ends within a second, in whatever state."""
    kernel = workspace / "vmlinux"
    kernel.write_bytes(resetting())
    lives = json.loads(vm.run("python3", "-B", str(vm.REPOSITORY / "tests" / "vm" / "signals.py"), str(vm.DUET),
                              str(kernel)).stdout)
    for life in lives:
        print(life)
        assert life["status"] in (4, -signal.SIGINT, -signal.SIGTERM) and life["left"] == []
        assert life["ms"] is None or life["ms"] < life["limit_ms"]
        # Before it ran, the first has ended it.
        assert (life["status"] == 4) == (life["ms"] is not None)
    resets = [life for life in lives if life["case"] == "resets"]
    assert len(resets) == 8 and sum(life["resets"] for life in resets) > 0
    assert [life["status"] for life in lives if life["case"] == "paused"] == [4, 4]
    # Where the pause has got to is the machine's to choose.
    assert [life["status"] for life in lives if life["case"] == "pauses"] == [4, 4, 4]
