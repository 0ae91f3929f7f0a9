# SPDX-License-Identifier: Apache-2.0
"""Disks on the emulated IDE controller, with Debian's unmodified ata_piix: over bus-master DMA, and by
PIO alone when the guest is told libata.dma=0. test_spectrum.py has fio verify them."""

import contextlib
import json
import signal
import time

import pytest

from duetlab.guest import vm

DMA = ""
PIO = "libata.dma=0"

# modprobe returns before the disk was found.
PROBE = """
modprobe ata_piix || exit 1
modprobe sd_mod || exit 1
tries=0
while [ ! -b /dev/sda ]; do
	tries=$((tries + 1))
	[ $tries -lt 300 ] || exit 1
	sleep 0.1
done
"""


def ide(disk, *options, script, cmdline="", kernel="6.1-amd64", **more):
    """A guest in the initramfs whose only disk is DISK, at /dev/sda."""
    return vm.Guest("--disk", f"path={disk},model=ide", *options, "--cmdline", cmdline,
                    script=PROBE + script, kernel=kernel, **more)


def drive(stats, name):
    return next(d for d in stats["devices"] if d["name"] == "ide0")[name]


@contextlib.contextmanager
def too_small():
    """A disk file of 16 MiB on a file system of 4."""
    mount = "/tmp/duet-small-ide"
    vm.run("sh", "-c", f"mkdir -p {mount} && mount -t tmpfs -o size=4M none {mount} && "
                       f"truncate -s 16M {mount}/disk.img")
    try:
        yield f"{mount}/disk.img"
    finally:
        vm.run("umount", mount)


def test_four_drives(local_disk):
    """The configuration's order is master, slave, master, slave; each drive has its own file. The last
    one's is on a file system that is too small for it: an I/O error for the guest, on that drive alone."""
    disks = [local_disk("4M"), local_disk("6M"), local_disk("8M")]
    more = [word for disk in disks[1:] for word in ("--disk", f"path={disk},model=ide")]
    # The kernel probes disks side by side, so that letters follow no order: serial numbers tell.
    script = """
name_of() { for disk in /sys/block/sd*; do grep -q "duet-disk$1" $disk/device/vpd_pg80 && basename $disk; done; }
for number in 0 1 2 3; do while [ ! -b "/dev/$(name_of $number)" ]; do sleep 0.1; done; done
small=$(name_of 3)
dd if=/dev/zero of=/dev/$small bs=1M count=2 conv=fsync && echo "first part ok"
dd if=/dev/zero of=/dev/$small bs=1M count=6 seek=2 conv=fsync || echo "write failed"
dmesg | grep -q "I/O error, dev $small" && echo "the guest saw it"
dmesg | grep 'I/O error, dev' | grep -v "dev $small" && echo "on another drive"
for number in 0 1 2; do
	name=$(name_of $number)
	printf "drive of $(cat /sys/block/$name/size) sectors" | dd of=/dev/$name conv=fsync,notrunc 2>/dev/null || exit 1
done
exit 0
"""
    with too_small() as small, ide(disks[0], *more, "--disk", f"path={small},model=ide", script=script) as guest:
        console = guest.succeed(limit=300)
    for number, disk in enumerate(disks):
        size = 8192 + 4096 * number
        assert vm.run("head", "-c", "21", disk).stdout == f"drive of {size} sectors"[:21]
    for words in ("first part ok", "write failed", "the guest saw it"):
        assert f"{words}\n" in console
    assert "on another drive" not in console


def test_flushed_data_survive_sigkill(local_disk):
    """The guest says after each flush what it flushed; duet is killed in between."""
    disk = local_disk("64M")
    script = """
n=0
while [ $n -lt 800 ]; do
	n=$((n + 1))
	yes "$(printf %07d $n)" | head -c 65536 | dd of=/dev/sda bs=64k seek=$n conv=fsync 2>/dev/null || exit 1
	echo "flushed $n"
done
"""
    with ide(disk, script=script) as guest:
        guest.wait_for(r"^flushed 25$")
        guest.kill_monitor()
        guest.finish()
        flushed = max(int(line.split()[1]) for line in guest.output.splitlines()
                      if line.startswith("flushed ") and line.split()[1].isdigit())
    check = f"""
with open({disk!r}, 'rb') as file:
    for n in range(1, {flushed} + 1):
        file.seek(n * 65536)
        assert file.read(65536) == (b'%07d\\n' % n) * 8192, n
print('all', {flushed})
"""
    assert f"all {flushed}" in vm.run("python3", "-c", check).stdout


IOS = 100


def snapshot(guest):
    """Statistics as they are while the guest waits for a line."""
    guest.stats_path.unlink(missing_ok=True)
    guest.signal(signal.SIGUSR1)
    until = time.monotonic() + vm.BOOT_LIMIT
    while not guest.stats_path.exists():
        assert time.monotonic() < until, guest.tail()
        time.sleep(0.1)
    return json.loads(guest.stats_path.read_text())


@pytest.mark.parametrize("mode,write_least,write_most", [(DMA, 10, 60), (PIO, 1000, 1100)], ids=["dma", "pio"])
def test_exits_per_request(mode, write_least, write_most, local_disk):
    """4 KiB at a time and one by one: port accesses that leave the guest. KVM reads a string of up to
    1 KiB in one exit, and writes it element by element."""
    disk = local_disk("4M")
    script = f"""
echo "ready"
read -r line
dd if=/dev/sda of=/dev/null iflag=direct bs=4k count={IOS} 2>/dev/null
echo "read"
read -r line
dd if=/dev/zero of=/dev/sda oflag=direct bs=4k count={IOS} 2>/dev/null
echo "written"
read -r line
"""
    exits = []
    with ide(disk, script=script, cmdline=mode) as guest:
        for word in ("ready", "read", "written"):
            guest.wait_for(f"^{word}$", limit=300)
            exits.append(snapshot(guest)["exits"]["by_cause"]["port"])
            guest.type("\n")
        guest.succeed()
        counts = drive(guest.stats, "disk0")
    read, write = (exits[1] - exits[0]) / IOS, (exits[2] - exits[1]) / IOS
    print(f"{mode or 'DMA'}: {read:.1f} port exits to read 4 KiB, {write:.1f} to write them")
    assert counts["errors"] == 0
    assert (counts["dma_transfers"] == 0) == (mode == PIO)
    assert 10 <= read <= 60
    assert write_least <= write <= write_most
