# SPDX-License-Identifier: Apache-2.0
"""Disks: what is written is read back, flushed data survive, errors reach the guest."""

import shlex

import pytest

from duetlab.guest import rootfs, vm
from matrix import SOAK, some

VERIFY = "fio --name=verify --filename=/dev/vdb --direct=1 --ioengine=libaio --verify=crc32c " \
         "--verify_fatal=1 --do_verify=1 --randrepeat=0"


def debian(*options, script, **more):
    """A guest in the Debian root image (read-only: several tests share it), with fio and iperf3."""
    return vm.Guest("--disk", f"path={rootfs.rootfs()},readonly=on", *options, "--cmdline",
                    "duet.root=/dev/vda duet.rootflags=ro", script=script, **more)


@pytest.mark.parametrize("ring", some(["packed", "split"]))
def test_fio_verifies(ring, local_disk):
    disk = local_disk("64M")
    size = 64 if SOAK else 24
    script = f"""
set -e
{VERIFY} --rw=randwrite --bs=4k --iodepth=1 --size={size // 8}M
{VERIFY} --rw=randwrite --bs=64k --iodepth=32 --size={size}M
{VERIFY} --rw=randwrite --bs=512-128k --iodepth=32 --size={size}M --bsrange=4k-128k
"""
    with debian("--disk", f"path={disk},queues=2", "--ring", ring, "--cpus", "2", script=script) as guest:
        guest.succeed(limit=900)
        disk1 = next(d for d in guest.stats["devices"] if d["name"] == "disk1")
    assert disk1["queues"]["queue0"]["chains"] > 0


def test_flushed_data_survive_sigkill(local_disk):
    """The guest says after each flush what it flushed; duet is killed in between; all that was said
    must be on the disk."""
    disk = local_disk("64M")
    # Block N holds N + 1 in every 4-byte word of its 64 KiB.
    script = """
n=0
while [ $n -lt 800 ]; do
	n=$((n + 1))
	yes "$(printf %07d $n)" | head -c 65536 | dd of=/dev/vda bs=64k seek=$n conv=fsync 2>/dev/null || exit 1
	echo "flushed $n"
done
"""
    with vm.Guest("--disk", f"path={disk}", script=script) as guest:
        guest.wait_for(r"^flushed 25$")
        guest.kill_monitor()
        guest.finish()
        flushed = max(int(line.split()[1]) for line in guest.output.splitlines()
                      if line.startswith("flushed ") and line.split()[1].isdigit())
    check = f"""
import sys
with open({disk!r}, 'rb') as file:
    for n in range(1, {flushed} + 1):
        file.seek(n * 65536)
        assert file.read(65536) == (b'%07d\\n' % n) * 8192, n
print('all', {flushed})
"""
    assert f"all {flushed}" in vm.run("python3", "-c", check).stdout


def test_full_disk_is_an_io_error(workspace):
    """The disk file lies on a file system that is too small for it."""
    mount = "/tmp/duet-small"
    vm.run("sh", "-c", f"mkdir -p {mount} && mount -t tmpfs -o size=4M none {mount} && "
                       f"truncate -s 16M {mount}/disk.img")
    script = """
dd if=/dev/zero of=/dev/vda bs=1M count=2 conv=fsync && echo "first part ok"
dd if=/dev/zero of=/dev/vda bs=1M count=14 seek=2 conv=fsync || echo "write failed"
dmesg | grep -q 'I/O error, dev vda' && echo "the guest saw it"
"""
    try:
        with vm.Guest("--disk", f"path={mount}/disk.img", script=script) as guest:
            console = guest.succeed()
    finally:
        vm.run("umount", mount)
    for words in ("first part ok", "write failed", "the guest saw it"):
        assert words in console


def test_readonly_disk_refuses_writes(workspace):
    disk = workspace / "disk.img"
    disk.write_bytes(b"untouched".ljust(1 << 20))
    script = "cat /sys/block/vda/ro; printf x >/dev/vda || echo refused; head -c 9 /dev/vda; echo"
    with vm.Guest("--disk", f"path={disk},readonly=on", script=script) as guest:
        console = guest.succeed()
    assert "\n1\n" in console and "refused" in console and "untouched" in console
    assert disk.read_bytes() == b"untouched".ljust(1 << 20)


def test_discard_and_write_zeroes(local_disk):
    disk = local_disk("64M")
    script = """
dd if=/dev/urandom of=/dev/vdb bs=1M count=32 conv=fsync
blkdiscard -o 0 -l 16M /dev/vdb && echo discarded
blkdiscard -z -o 16M -l 8M /dev/vdb && echo zeroed
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vdb bs=1M skip=16 count=8 status=none | cmp -n 8388608 - /dev/zero && echo "reads as zero"
"""
    with debian("--disk", f"path={disk}", script=script) as guest:
        console = guest.succeed()
    for words in ("discarded", "zeroed", "reads as zero"):
        assert words in console
    blocks = int(vm.run("stat", "-c", "%b", shlex.quote(disk)).stdout)
    assert blocks * 512 < 20 << 20, "discard freed nothing"


def test_discard_where_zeroes_cannot_be_written():
    """A null_blk device discards and knows no "write zeroes", as thin LVM does."""
    vm.run("modprobe", "-r", "null_blk", check=False)
    vm.run("modprobe", "null_blk", "nr_devices=1", "memory_backed=1", "discard=1", "gb=1", "bs=512")
    script = """
dd if=/dev/urandom of=/dev/vdb bs=1M count=32 conv=fsync
blkdiscard -o 0 -l 16M /dev/vdb && echo discarded
mkfs.ext4 -q -E nodiscard /dev/vdb && mount /dev/vdb /mnt && fstrim -v /mnt && echo trimmed
"""
    try:
        limit = vm.run("cat", "/sys/block/nullb0/queue/write_zeroes_max_bytes").stdout.strip()
        assert limit == "0", "null_blk writes zeroes here: the test shows nothing"
        with debian("--disk", "path=/dev/nullb0", script=script) as guest:
            console = guest.succeed()
    finally:
        vm.run("modprobe", "-r", "null_blk", check=False)
    assert "discarded" in console and "trimmed" in console


@pytest.mark.parametrize("cache", some(["direct", "writeback"]))
def test_sectors_do_not_depend_on_the_cache(cache, local_disk):
    """A file on a file system of 4096-byte sectors: the guest counts in 512 all the same."""
    image = local_disk("256M")
    there = vm.run("mktemp", "-d", "/var/tmp/duet-mount-XXXXXX").stdout.strip()
    device = vm.run("losetup", "-b", "4096", "--direct-io=on", "-f", "--show", image).stdout.strip()
    script = f"""
cd /sys/block/vdb/queue && echo "sectors $(cat logical_block_size physical_block_size | tr '\\n' ' ')"
{VERIFY} --rw=randwrite --bs=512 --iodepth=16 --size=1M && {VERIFY} --rw=randwrite --bs=1536 --iodepth=16 \\
	--offset=16M --size=1536k && {VERIFY} --rw=randwrite --bs=64k --iodepth=16 --size=16M && echo verified
"""
    try:
        vm.run("sh", "-c", f"mkfs.ext4 -q {device} && mount {device} {there} && "
                           f"truncate -s 128M {there}/disk")
        with debian("--disk", f"path={there}/disk,cache={cache}", script=script) as guest:
            console = guest.succeed()
    finally:
        vm.run("sh", "-c", f"umount {there}; losetup -d {device}; rmdir {there}", check=False)
    assert "sectors 512 4096" in console and "verified" in console


def test_random_reads_cost_one_kick_and_one_interrupt(local_disk):
    """4 KiB random reads at depth 1: a doorbell and an interrupt each, no exit to user space."""
    disk = local_disk("64M")
    script = "fio --name=r --filename=/dev/vdb --direct=1 --rw=randread --bs=4k --iodepth=1 " \
             "--ioengine=libaio --number_ios=2000 --size=64M"
    with debian("--disk", f"path={disk}", script=script) as guest:
        guest.succeed()
        queue = next(d for d in guest.stats["devices"] if d["name"] == "disk1")["queues"]["queue0"]
    assert queue["chains"] >= 2000
    assert queue["kicks"] <= queue["chains"] * 1.05
    assert queue["interrupts"] <= queue["chains"] * 1.05
