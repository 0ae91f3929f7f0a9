# SPDX-License-Identifier: Apache-2.0
"""fork() of the kit's heap: odd cases, torn copies, a memory limit, and redis-server's background save."""

import re

import pytest
from matrix import SOAK, soak, some

from duetlab.guest import kit, programs, vm

KERNELS = ("6.12-amd64", "6.1-amd64", "6.1-cloud")
LIMIT = 1800
FORKS, CONTROLS, MIB = (1000 if SOAK else 200), 30, 4
FAULTS = r"lockup|LOCKUP|detected stalls|BUG:|WARNING: CPU|Call Trace|Bad page"

START = kit.PREPARE + """
modprobe duet selftest=1 || exit 1
P=/sys/module/duet/parameters
HEAP=/sys/class/misc/duet-heap
end() {
	rmmod duet || exit 1
	! dmesg | grep -E "@FAULTS@" || echo "the log has errors"
}
""".replace("@FAULTS@", FAULTS)

CASES = START + """
test_fork cases
test_heap
mkdir /tmp/group
mount -t cgroup2 none /tmp/group
echo +memory >/tmp/group/cgroup.subtree_control
mkdir /tmp/group/small
echo 36M >/tmp/group/small/memory.max
(echo 0 >/tmp/group/small/cgroup.procs; exec test_fork limit)
rmdir /tmp/group/small
mkdir /tmp/group/edge
(echo 0 >/tmp/group/edge/cgroup.procs; exec test_fork edge /tmp/group/edge)
rmdir /tmp/group/edge
end
"""

STORM = START + f"""
memory() {{
	echo 3 >/proc/sys/vm/drop_caches
	sleep 1
	awk '/^MemFree:/ {{ print $2 }}' /proc/meminfo
}}
test_fork storm 10 {MIB}
before=$(memory)
test_fork storm {FORKS} {MIB}
echo "leaked $((before - $(memory))) KiB, by host $(cat $HEAP/pages_by_host), by guest $(cat $HEAP/pages_by_guest)"
echo 0 >$P/heap_by_host
test_fork storm {CONTROLS} {MIB}
echo 0 >$P/heap_protect
test_fork storm {CONTROLS} {MIB}
end
"""

# All of its objects are on the heap. The same data by SAVE, which does not fork, and by BGSAVE.
REDIS = START + """
ip link set lo up
mkdir /tmp/redis
DUET_HEAP_MIN=1 DUET_HEAP_VERBOSE=2 LD_PRELOAD=/usr/lib/libduet-preload.so redis-server --port 0 \\
	--unixsocket /tmp/redis.sock --dir /tmp/redis --save "" --rdbcompression no --enable-debug-command local >/tmp/redis.log 2>&1 &
ask() { redis-cli -s /tmp/redis.sock "$@"; }
until ask ping 2>/dev/null | grep -q PONG; do sleep 0.2; done
ask debug populate 20000 key 100 >/dev/null
ask debug populate 40 large 200000 >/dev/null
before=$(cat $HEAP/forks)
digest=$(ask debug digest)
ask bgsave
until ask info persistence | grep -q "rdb_bgsave_in_progress:0"; do ask set key:1 changed >/dev/null; sleep 0.1; done
ask info persistence | grep rdb_last_bgsave_status
echo "forks $(($(cat $HEAP/forks) - before)), without a copy $(cat $HEAP/failed), pages $(cat $HEAP/pages_by_host)"
mv /tmp/redis/dump.rdb /tmp/redis/saved.rdb
ask shutdown nosave
wait
cp /tmp/redis/saved.rdb /tmp/redis/dump.rdb
redis-server --port 0 --unixsocket /tmp/redis.sock --dir /tmp/redis --save "" --enable-debug-command local >>/tmp/redis.log 2>&1 &
until ask ping 2>/dev/null | grep -q PONG; do sleep 0.2; done
[ "$(ask debug digest)" = "$digest" ] && echo "same data" || echo "OTHER data"
ask shutdown nosave
wait
head -3 /tmp/redis.log
end
"""


def story(kernel: str, script: str, files: dict[str, bytes], memory: str = "512M", *options: str) -> str:
    with vm.Guest("--cpus", "2", *(options or ("--coop",)), kernel=kernel, script=script, memory=memory,
                  files=kit.files(kernel) | files) as guest:
        output = guest.succeed(LIMIT)
    assert "the log has errors" not in output, output[-3000:]
    return output


def storms(output: str) -> list[dict]:
    return [dict((name, int(value)) for name, value in re.findall(r"(\w+) (\d+)", line))
            for line in re.findall(r"^test_fork: storm: (.*)$", output, re.MULTILINE)]


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_odd_cases(kernel):
    """Grandchildren, split mappings, exec, kill -9 and others; the allocator; no room for a copy."""
    output = story(kernel, CASES, programs.heap_tests())
    assert re.search(r"^test_fork: \d+ forks without a copy; 11 passed$", output, re.MULTILINE), output[-3000:]
    assert "test_heap: on the device" in output and "test_heap: 9 passed" in output, output[-3000:]
    assert "test_fork: limit passed" in output, output[-3000:]
    assert "test_fork: edge passed" in output, output[-3000:]


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_no_copy_is_torn(kernel):
    """Writers on all vCPUs: by the host, by the guest, and the control that is not write-protected."""
    output = story(kernel, STORM, programs.heap_tests())
    _, by_host, by_guest, control = storms(output)
    for found, forks in ((by_host, FORKS), (by_guest, CONTROLS)):
        assert found["forks"] == forks and found["writers"] == 2
        assert found["torn"] == found["changed"] == found["wrong"] == 0, found
    assert control["torn"] > 0, control
    leaked, hosts, guests = map(int, re.search(r"^leaked (-?\d+) KiB, by host (\d+), by guest (\d+)$", output, re.MULTILINE).groups())
    assert leaked < MIB * 1024 / 2, "as much as half a heap is gone"
    assert hosts >= FORKS * MIB * 256 and guests == 0


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_redis_saves_in_the_background(kernel):
    output = story(kernel, REDIS, programs.redis(), "768M")
    assert "rdb_last_bgsave_status:ok" in output and "same data" in output, output[-3000:]
    forks, failed, pages = map(int, re.search(r"^forks (\d+), without a copy (\d+), pages (\d+)$", output, re.MULTILINE).groups())
    assert forks == 1 and failed == 0 and pages > 2000, (forks, failed, pages)
    assert "large allocations are on /dev/duet-heap" in output


@soak
def test_without_the_hosts_copy_there_is_no_device():
    """Switched off at the host: the preload says so, and the program runs as ever."""
    script = kit.PREPARE + ("modprobe duet; ls /dev/duet-heap; "
                            "LD_PRELOAD=/usr/lib/libduet-preload.so redis-cli --version; true")
    output = story("6.12-amd64", script, programs.redis(), "512M", "--coop", "copy=off")
    assert "libduet-preload: /dev/duet-heap: No such file or directory: fork() copies as ever" in output
    assert re.search(r"^redis-cli \d", output, re.MULTILINE), output[-2000:]
