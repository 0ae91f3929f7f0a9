# SPDX-License-Identifier: Apache-2.0
"""Storage that hangs and a console that nobody reads: two SIGTERMs end the machine, whatever waits."""

import json
from pathlib import Path

import pytest

from duetlab.guest import images, rootfs, vm
from matrix import some

PROGRAM = str(Path(__file__).resolve().with_name("storage.py"))
FLOOD = "echo ready; while :; do echo 0123456789012345678901234567890123456789; done"
WRITES = f"""
( while :; do dd if=/dev/zero of=/dev/vda bs=64k count=64 conv=fsync 2>/dev/null; done ) &
( while :; do dd if=/dev/vda of=/dev/null bs=4k count=64 iflag=direct 2>/dev/null; done ) &
{FLOOD}
"""
ZEROES = f"""
n=0
while [ $n -lt 16 ]; do
	blkdiscard -z -f -o $((n * 2147483648)) -l 2147483648 /dev/vdb &
	n=$((n + 1))
done
until [ "$(awk '{{print $9}}' /sys/block/vdb/stat)" -ge 1 ]; do sleep 0.1; done
{FLOOD}
"""


def end(kind: str, script: str, *options: str) -> dict:
    command = [str(vm.DUET), "run", "--kernel", str(images.kernel("6.1-cloud")), "--initrd",
               str(images.initrd("6.1-cloud", "base", script)), "--memory", "256M", *options]
    return json.loads(vm.run("python3", "-B", PROGRAM, kind, *command, limit=300).stdout)


def ended_at_once(how: dict):
    assert how["status"] == 4 and not how["held"]
    assert "ended by a second signal" in how["said"]
    # A second on a machine that is not emulated.
    assert how["seconds"] < 5, how


@pytest.mark.parametrize("model", ["virtio", "ide"])
def test_a_file_that_hangs(model):
    script = WRITES if model == "virtio" else "modprobe ata_piix; modprobe sd_mod; until [ -b /dev/sda ]; " \
        "do sleep 0.1; done\n" + WRITES.replace("vda", "sda")
    how = end("fuse", script, "--disk", f"path=@DISK@,model={model}")
    ended_at_once(how)
    assert "does not let go" in how["said"]


@pytest.mark.parametrize("cache", some(["direct", "writeback"]))
def test_a_block_device_that_hangs(cache):
    """The kernel itself may wait for it: then a message says so, and the process goes when it can."""
    how = end("nbd", WRITES, "--disk", f"path=@DISK@,cache={cache}")
    assert how["status"] == 4
    assert "does not let go" in how["said"] or not how["held"]


def test_a_limit_of_one_request_a_second(local_disk):
    disk = local_disk("64M")
    ended_at_once(end("none", WRITES, "--disk", f"path={disk},iops=1"))


def test_zeroes_without_end():
    root = ["--disk", f"path={rootfs.rootfs()},readonly=on", "--cmdline", "duet.root=/dev/vda duet.rootflags=ro"]
    ended_at_once(end("fuse", ZEROES, *root, "--disk", "path=@DISK@"))
