# SPDX-License-Identifier: Apache-2.0
"""Storage that hangs and a console that nobody reads: two SIGTERMs end the machine, whatever waits."""

import json
import re
import signal
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
# sleep(1) is run once before anything hangs: with its first run the program comes into memory. A scheduler would keep
# requests back.
IN_FLIGHT = """
in_flight() { read -r _ _ _ _ _ _ _ _ now _ <"/sys/block/$1/stat"; }
until_in_flight() {
	now=0
	until [ $now -ge "$2" ]; do sleep 0.1; in_flight "$1"; done
}
sleep 0.1
for scheduler in /sys/block/vd?/queue/scheduler; do echo none >"$scheduler"; done
"""
# One call, of which the kernel makes 512 requests of 2 GiB: more than the guest's queue of 256 takes. From then on
# nothing is read from the other disk, whose requests may need the same threads of the host's kernel.
ZEROES = f"""{IN_FLIGHT}
blkdiscard -z -f -l 1T /dev/vdb &
until_in_flight vdb 250
{FLOOD}
"""
# Each of the first disk's requests that waits has a thread of the host's kernel to itself, and so has each flush of the
# other's.
BESIDE = f"""{IN_FLIGHT}
echo ready
read -r line
for n in $(seq 32); do dd if=/dev/vda of=/dev/null bs=4k count=1 skip=$((n * 9)) iflag=direct 2>/dev/null & done
until_in_flight vda 32
for n in $(seq 8); do dd if=/dev/zero of=/dev/vdb bs=64k count=4 conv=fsync 2>/dev/null; done
echo "the other disk goes on"
{FLOOD}
"""


def end(kind: str, script: str, *options: str) -> dict:
    command = [str(vm.DUET), "run", "--log", "info", "--kernel", str(images.kernel("6.1-cloud")), "--initrd",
               str(images.initrd("6.1-cloud", "base", script)), "--memory", "256M", *options]
    return json.loads(vm.run("python3", "-B", PROGRAM, kind, *command, limit=300).stdout)


BEFORE = ["disk", "passt"]


def test_what_hangs_before_a_machine_runs():
    """One signal ends who waits for it, at once; no passt is left."""
    told = json.loads(vm.run("python3", "-B", str(Path(PROGRAM).with_name("hang_before.py")), str(vm.DUET),
                             str(images.kernel("6.1-cloud")), str(images.initrd(
                                 "6.1-cloud", "base", "echo ready; read -r line")), *BEFORE, limit=300).stdout)
    for case in BEFORE:
        how = told[case]
        print(case, how)
        assert how["status"] == -signal.SIGTERM and how["ms"] < how["limit_ms"]
        assert "ended by a signal before the machine ran" in how["said"]
        assert how["survivors"] == []
        assert how["children"] == (case == "passt")


def in_time(how: dict):
    """All but what the kernel keeps."""
    told = re.search(r"the machine has ended, (\d+) ms after it was told to end at once", how["said"])
    print(told.group(), f"{how['seconds']} s with its start and end of a process", sep="; ")
    assert int(told.group(1)) < how["limit_ms"], how


def ended_at_once(how: dict):
    assert how["status"] == 4 and not how["held"]
    assert "ended by a second signal" in how["said"]
    in_time(how)
    # What is not duet's own, on an emulated machine beside others.
    assert how["seconds"] < 5, how


@pytest.mark.parametrize("model", ["virtio", "ide"])
def test_a_file_that_hangs(model):
    script = WRITES if model == "virtio" else "modprobe ata_piix; modprobe sd_mod; until [ -b /dev/sda ]; " \
        "do sleep 0.1; done\n" + WRITES.replace("vda", "sda")
    console = "serial" if model == "virtio" else "virtio"
    how = end("fuse", script, "--disk", f"path=@DISK@,model={model}", "--console", console)
    ended_at_once(how)
    assert "does not let go" in how["said"]


def test_a_file_that_hangs_beside_another(local_disk):
    ended_at_once(end("beside", BESIDE, "--disk", "path=@DISK@", "--disk", f"path={local_disk('64M')}"))


def test_statistics_that_hang():
    """They are written at the end, to where the disk hangs."""
    how = end("fuse", WRITES, "--disk", "path=@DISK@", "--stats", "@DISK@.json")
    assert not how["held"]
    in_time(how)
    assert how["seconds"] < 5, how


def test_an_initrd_that_hangs():
    """The guest resets, and what it is to start with does not come: who waits for it is ended all the same."""
    how = end("initrd", "echo ready; read -r line; reboot -f")
    assert how["status"] == 4 and not how["held"]
    assert "ended by a signal while its storage did not answer" in how["said"]
    assert how["seconds"] < 5, how


def test_metrics_that_hang(workspace):
    """They are asked for by the API, and written to where the disk hangs."""
    config = workspace / "config.json"
    config.write_text(json.dumps({"drives": [], "boot-source": {
        "kernel_image_path": str(images.kernel("6.1-cloud")), "boot_args": "console=ttyS0 quiet",
        "initrd_path": str(images.initrd("6.1-cloud", "base", FLOOD))}}))
    how = json.loads(vm.run("python3", "-B", PROGRAM, "metrics", str(vm.DUET), "--api-sock", "@API@", "--config-file",
                            str(config), "--metrics-path", "@DISK@", limit=300).stdout)
    print(how)
    # As Firecracker: the first one ends it.
    assert how["status"] == -signal.SIGTERM and not how["held"]
    assert "ended by a signal while its storage did not answer" in how["said"]
    assert how["seconds"] < 5, how


@pytest.mark.parametrize("cache", some(["direct", "writeback"]))
def test_a_block_device_that_hangs(cache):
    """The kernel itself may wait for it: then a message says so, and the process goes when it can."""
    how = end("nbd", WRITES, "--disk", f"path=@DISK@,cache={cache}")
    assert how["status"] == 4
    assert "does not let go" in how["said"] or not how["held"]
    in_time(how)


def test_a_limit_of_one_request_a_second(local_disk):
    disk = local_disk("64M")
    ended_at_once(end("none", WRITES, "--disk", f"path={disk},iops=1"))


def test_zeroes_without_end():
    root = ["--disk", f"path={rootfs.rootfs()},readonly=on", "--cmdline", "duet.root=/dev/vda duet.rootflags=ro"]
    ended_at_once(end("fuse", ZEROES, *root, "--disk", "path=@DISK@"))
