# SPDX-License-Identifier: Apache-2.0
"""A guest of four vCPUs, one of which writes faster than the line is: by rings that one is held while it moves, by
KVM's log all are."""

import re

from api import socket
from matrix import soak
from test_life import LIMIT
from test_migrate import address, migrate, slow_line, target

from duetlab.guest import vm

CPUS = 4
WRITER = 2
RATE = 6000000  # bytes a second, of the line
# A file becomes one or the other of two, over and over: a page that was lost on the way is seen by the next look at it.
SCRIPT = f"""
mount -t tmpfs none /mnt
for name in a b; do head -c 12000000 /dev/urandom >/mnt/$name; done
cat /mnt/a >/mnt/x
sum=$(cat /mnt/a /mnt/b | md5sum)
cat >/write <<'END'
n=0
while :; do
	for name in a b; do
		dd if=/mnt/$name of=/mnt/x bs=64k conv=notrunc 2>/dev/null
		cmp /mnt/$name /mnt/x || echo "damaged $n"
		n=$((n + 1)); echo "written $n."
	done
done
END
taskset -c {WRITER} sh /write &
while read -r line; do
	[ "$sum" = "$(cat /mnt/a /mnt/b | md5sum)" ] && echo "memory is right"
done
"""


def shares(printed: str) -> list[list[int]]:
    """By rounds, how long each vCPU was held, in per cent."""
    rounds = [list(map(int, held.split())) for held in re.findall(r"vCPUs held ((?:\d+ )+)%", printed)]
    return [held if len(held) == CPUS else held * CPUS for held in rounds]


def move(dirty: str) -> list[list[int]]:
    """How long each vCPU was held, by rounds."""
    sock, where = socket(), address()
    with vm.Guest("--api-sock", sock, "--cpus", str(CPUS), "--dirty", dirty, memory="192M", script=SCRIPT) as source:
        source.wait_for(r"^written 2\.", LIMIT)
        with target(where) as there, slow_line(where, RATE) as line:
            moved = migrate(sock, line, "--downtime", "1000")
            print(moved.stdout, moved.stderr)
            assert moved.returncode == 0, moved.stderr
            assert source.finish() == 0
            # What was half written is whole in the next round but one.
            there.wait_for(r"written (\d+)\.(?s:.*)written \d+\.(?s:.*)written \d+\.", LIMIT)
            there.type("\n")
            there.wait_for(r"memory is right", LIMIT)
            assert "damaged" not in source.output + there.output
            there.kill_monitor()
    return shares(moved.stdout)


def test_by_rings_the_one_that_writes_is_held():
    found = move("ring")
    most = [max(held[cpu] for held in found) for cpu in range(CPUS)]
    assert most[WRITER] >= 50, found
    assert all(share <= 10 for cpu, share in enumerate(most) if cpu != WRITER), found


@soak
def test_by_the_log_all_are_held_alike():
    found = move("log")
    assert max(held[0] for held in found) >= 30, found
    assert all(len(set(held)) == 1 for held in found), found
