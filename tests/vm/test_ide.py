# SPDX-License-Identifier: Apache-2.0
"""Disks on the emulated IDE controller, with Debian's unmodified ata_piix: over bus-master DMA, and by
PIO alone when the guest is told libata.dma=0."""

import json
import signal
import time

import pytest

from duetlab import rootfs, vm

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
VERIFY = "fio --name=verify --filename=/dev/sda --direct=1 --ioengine=libaio --verify=crc32c " \
         "--verify_fatal=1 --do_verify=1 --randrepeat=0"


def ide(disk, *options, script, cmdline="", kernel="6.1-amd64", **more):
    """A guest in the initramfs whose only disk is DISK, at /dev/sda."""
    return vm.Guest("--disk", f"path={disk},model=ide", *options, "--cmdline", cmdline,
                    script=PROBE + script, kernel=kernel, **more)


def debian(disk, *, script, cmdline="", kernel="6.1-amd64"):
    """A guest in the Debian root image on a virtio disk, with fio; DISK is /dev/sda."""
    return vm.Guest("--disk", f"path={rootfs.rootfs()},readonly=on", "--disk", f"path={disk},model=ide",
                    "--cmdline", f"duet.root=/dev/vda duet.rootflags=ro {cmdline}",
                    script=PROBE + script, kernel=kernel)


def drive(stats, name):
    return next(d for d in stats["devices"] if d["name"] == "ide0")[name]


@pytest.mark.parametrize("kernel,mode", [("6.1-amd64", DMA), ("6.1-amd64", PIO), ("6.12-amd64", DMA)],
                         ids=["6.1-dma", "6.1-pio", "6.12-dma"])
def test_fio_verifies(kernel, mode, local_disk):
    """Every block carries its checksum; afterwards the host's file is what the guest reads."""
    size = "1M" if mode == PIO else "16M"
    disk = local_disk(size)
    script = f"""
set -e
{VERIFY} --rw=randwrite --bs=4k --iodepth=1 --size=512K
{VERIFY} --rw=randwrite --bsrange=512-128k --iodepth=8 --size={size}
echo 3 >/proc/sys/vm/drop_caches
echo "guest $(sha256sum </dev/sda)"
"""
    with debian(disk, script=script, cmdline=mode, kernel=kernel) as guest:
        console = guest.succeed(limit=900)
        counts = drive(guest.stats, "disk1")
    of_guest = console.split("\nguest ")[1].split()[0]
    assert vm.run("sha256sum", disk).stdout.split()[0] == of_guest
    assert counts["errors"] == 0
    assert counts["bytes_written"] >= 1 << 20
    if mode == PIO:
        assert counts["dma_transfers"] == 0
        assert counts["pio_accesses"] >= counts["bytes_written"] // 4
    else:
        # IDENTIFY alone comes through the data port.
        assert counts["dma_transfers"] >= 200
        assert counts["pio_accesses"] <= 128 * 16


def test_two_drives_on_two_channels(local_disk):
    """The configuration's order is master, slave, master; each drive has its own file."""
    disks = [local_disk("4M"), local_disk("6M"), local_disk("8M")]
    more = [word for disk in disks[1:] for word in ("--disk", f"path={disk},model=ide")]
    script = """
while [ ! -b /dev/sdb ] || [ ! -b /dev/sdc ]; do sleep 0.1; done
for letter in a b c; do
	size=$(cat /sys/block/sd$letter/size)
	printf "drive of $size sectors" | dd of=/dev/sd$letter conv=fsync,notrunc 2>/dev/null || exit 1
done
cat /sys/block/sd*/device/vpd_pg80 | tr -c 'a-z0-9-' ' '
"""
    with ide(disks[0], *more, script=script) as guest:
        console = guest.succeed()
    for number, disk in enumerate(disks):
        size = 8192 + 4096 * number
        assert vm.run("head", "-c", "21", disk).stdout == f"drive of {size} sectors"[:21]
        assert f"duet-disk{number}" in console


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
    with ide(disk, script=script, cmdline="quiet") as guest:
        guest.wait_for(r"^flushed 25$")
        vm.run("pkill", "-KILL", "-x", "duet")
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


def test_full_disk_is_an_io_error(workspace):
    """The file lies on a file system that is too small for it."""
    mount = "/tmp/duet-small-ide"
    vm.run("sh", "-c", f"mkdir -p {mount} && mount -t tmpfs -o size=4M none {mount} && "
                       f"truncate -s 16M {mount}/disk.img")
    script = """
dd if=/dev/zero of=/dev/sda bs=1M count=2 conv=fsync && echo "first part ok"
dd if=/dev/zero of=/dev/sda bs=1M count=6 seek=2 conv=fsync || echo "write failed"
dmesg | grep -q 'I/O error, dev sda' && echo "the guest saw it"
"""
    try:
        with ide(f"{mount}/disk.img", script=script) as guest:
            console = guest.succeed(limit=300)
    finally:
        vm.run("umount", mount)
    for words in ("first part ok", "write failed", "the guest saw it"):
        assert words in console


IOS = 100


def port_exits(guest):
    """Statistics as they are while the guest waits for a line."""
    guest.stats_path.unlink(missing_ok=True)
    guest.signal(signal.SIGUSR1)
    until = time.monotonic() + vm.BOOT_LIMIT
    while not guest.stats_path.exists():
        assert time.monotonic() < until, guest.tail()
        time.sleep(0.1)
    return json.loads(guest.stats_path.read_text())["exits"]["by_cause"]["port"]


@pytest.mark.parametrize("mode,operation,most,least", [
    (DMA, "read", 60, 10), (DMA, "write", 60, 10), (PIO, "read", 60, 10), (PIO, "write", 1100, 1000),
], ids=["dma-read", "dma-write", "pio-read", "pio-write"])
def test_exits_per_request(mode, operation, most, least, local_disk):
    """4 KiB at a time and one by one: port accesses that leave the guest. KVM reads a string of up to
    1 KiB in one exit, and writes it element by element."""
    disk = local_disk("4M")
    move = "if=/dev/sda of=/dev/null iflag=direct" if operation == "read" else \
        "if=/dev/zero of=/dev/sda oflag=direct"
    script = f"""
echo "ready"
read -r line
dd {move} bs=4k count={IOS} 2>/dev/null
echo "moved"
read -r line
"""
    with ide(disk, script=script, cmdline=mode) as guest:
        guest.wait_for(r"^ready$")
        before = port_exits(guest)
        guest.type("\n")
        guest.wait_for(r"^moved$", limit=300)
        after = port_exits(guest)
        guest.type("\n")
        guest.succeed()
        counts = drive(guest.stats, "disk0")
    each = (after - before) / IOS
    print(f"{mode or 'DMA'} {operation}: {each:.1f} port exits for 4 KiB")
    assert counts["errors"] == 0
    assert least <= each <= most
