# SPDX-License-Identifier: Apache-2.0
"""Machines that are held for longer than a guest's watchdog, and signals at any moment."""

import json
import os
import signal
import struct
from pathlib import Path

from duetlab.guest import images, vm

LIFE = vm.REPOSITORY / "build" / "tests" / "life" / "life"
# Longer than each limit of the guest's: 4 s for a soft lockup, 5 for RCU.
HELD = 8
# What an overloaded lab did to the guest's start is not judged.
WATCHED = """
cd /proc/sys/kernel
stall=/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout
echo 2 >watchdog_thresh; echo 5 >$stall
echo limits $(cat soft_watchdog watchdog_thresh $stall)
# There is a grace period whenever it is held: these give RCU something to free.
for cpu in 0 1; do ( while :; do taskset -c $cpu true; sleep 0.02; done ) & done
dmesg -c >/dev/null
echo ready
while read -r line; do
	[ "$line" = end ] && break
	sleep 3
	dmesg | grep -E "lockup|stall|hung|unstable" && echo "the guest noticed"
	echo "awake: $line"
done
exit 0
"""


def watched(**more) -> vm.Guest:
    return vm.Guest("--cpus", "2", "--cmdline", "quiet", kernel="6.1-amd64", script=WATCHED, memory="256M", **more)


def never_noticed(guest: vm.Guest):
    guest.type("end\n")
    console = guest.succeed()
    assert "\nlimits 1 2 5\n" in console, "the guest has no watchdog"
    assert "the guest noticed" not in console


def test_stopped_and_continued():
    with watched() as guest:
        guest.wait_for(r"^ready$")
        for number in range(2):
            vm.run("sh", "-c", f"kill -STOP {guest.pid}; sleep {HELD}; kill -CONT {guest.pid}")
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


# Kernels of one page. This does nothing but reset: mov dx,0xcf9; mov al,6; out dx,al; jmp $.
RESETS = "66baf90c b006 ee ebfe"
# This counts, without an end, and writes 64 pages of 16 MiB meanwhile:
#       xor ebx,ebx; xor edi,edi
# next: inc ebx; mov esi,ebx; shl esi,8; mov ecx,6
# at:   rol esi,4; mov eax,esi; and eax,15; add eax,'a'; mov edx,0x3f8; out dx,al; loop at
#       mov al,10; out dx,al; mov ecx,64
# page: add edi,4096; and edi,0xffffff; mov [rdi+0x1100000],ebx; loop page; jmp next
COUNTS = """
31db 31ff
ffc3 89de c1e608 b906000000
c1c604 89f0 83e00f 83c061 baf8030000 ee e2ed
b00a ee b940000000
81c700100000 81e7ffffff00 899f00001001 e2ec ebc3
"""


def kernel(directory: Path, code: str) -> str:
    data = bytes.fromhex(code)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 1, 64,
                         0, 0)
    header += struct.pack("<IIQQQQQQ", 1, 5, 120, 0x1000000, 0x1000000, len(data), 4096, 4096)
    (directory / "vmlinux").write_bytes(header + data)
    return str(directory / "vmlinux")


def lives_of(program: str, *words: str) -> list[dict]:
    """What the program of this directory tells of what it did to machines."""
    where = vm.REPOSITORY / "tests" / "vm" / program
    limit = 3600 if os.environ.get("DUET_SOAK") == "1" else 300
    return json.loads(vm.run("python3", "-B", str(where), str(vm.DUET), *words, limit=limit).stdout)


def test_signals_while_it_resets_and_while_it_is_paused(workspace):
    """Two that ask for the end come with others between them: it ends within a second, in whatever state."""
    lives = lives_of("signals.py", kernel(workspace, RESETS))
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


RESETS_UNDER_LOAD = """
( while :; do dd if=/dev/urandom of=/dev/vda bs=64k count=16 conv=notrunc,fsync 2>/dev/null; done ) &
( while :; do dd if=/dev/vda of=/dev/null bs=4k count=64 iflag=direct 2>/dev/null; done ) &
cat /dev/hwrng >/dev/null &
until [ "$(awk '{print $5}' /sys/block/vda/stat)" -ge 5 ]; do sleep 0.1; done
echo resets; echo b >/proc/sysrq-trigger
"""


def test_signals_while_it_is_saved_restored_moved_and_resets(workspace, local_disk):
    """The program judges each round, and fails with what the machines said."""
    for life in lives_of("signals_between.py", kernel(workspace, COUNTS), str(images.kernel("6.1-cloud")),
                         str(images.initrd("6.1-cloud", "base", RESETS_UNDER_LOAD)), local_disk("1M")):
        print(life)
