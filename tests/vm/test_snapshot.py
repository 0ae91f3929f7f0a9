# SPDX-License-Identifier: Apache-2.0
"""Snapshots: a machine goes on from files in other processes, and in its own."""

import contextlib
import json
import re

import pytest
from api import Session, firecracker, socket
from matrix import SOAK, soak

from duetlab.guest import vm

PATTERN = "of a page that was free when saved"
# What it is told to do, it does and counts; the count is in the memory of its shell.
SCRIPT = f"""
head -c 6000000 /dev/urandom >/tmp/data
count=0
echo "ready"
while read -r line; do
	count=$((count + 1))
	case $line in
	go) echo "count $count sum $(md5sum </tmp/data)" ;;
	write) head -c 3000000 /dev/urandom >/tmp/more; rm /tmp/more; head -c 2000000 /dev/zero >/tmp/zero; echo "written $count" ;;
	random) echo "random $(head -c 16 /dev/urandom | md5sum)" ;;
	heard) until dmesg | grep -q "virtual machine fork"; do sleep 0.1; done; echo "heard" ;;
	told) echo "told $(dmesg | grep -c "virtual machine fork")" ;;
	free) yes {PATTERN} | head -c 32000000 >/tmp/free; rm /tmp/free; count=$((count - 1)); echo "freed" ;;
	stop) break ;;
	esac
done
"""

# Of process argv[1]: how often the pattern is in the guest's memory (with argv[2] read), then bytes of that which are the
# process's. It is where the file argv[3] is mapped, or from argv[3] to argv[4] as this has said before.
LOOK = f"""
import re, sys
pid, how, *where = sys.argv[1:]
def maps():
    for one in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", open(f"/proc/{{pid}}/smaps").read(), flags=re.M)[1:]:
        start, end = (int(end, 16) for end in one.split(None, 1)[0].split("-"))
        yield start, end, one
if len(where) == 1:
    of = [(start, end) for start, end, one in maps() if one.split("\\n")[0].endswith(where[0])]
    where = min(of)[0], max(of)[1]
begin, behind = map(int, where)
count = 0
with open(f"/proc/{{pid}}/mem", "rb", buffering=0) as memory:
    for at in range(begin, behind if how == "read" else begin, 1 << 20):
        memory.seek(at)
        count += memory.read(min(1 << 20, behind - at)).count(b"{PATTERN}")
own = sum(int(re.search(r"^Pss: +([0-9]+)", one, re.M)[1]) << 10 for start, _, one in maps() if begin <= start < behind)
print(begin, behind, own, count)
"""
CLONES = 10 if SOAK else 3


def ctl(name: str, *words: str, check: bool = True):
    return vm.run(str(vm.DUET), "ctl", name, *words, check=check, limit=vm.BOOT_LIMIT)


def take(name: str, directory: str, *more: str) -> dict:
    job = json.loads(ctl(name, "snapshot", directory, *more).stdout)
    assert (job["type"], job["state"], job["error"]) == ("snapshot", "done", None)
    return job


def restored(directory: str, *options: str) -> vm.Guest:
    return vm.Guest(peer=lambda _kernel, _initrd: [str(vm.DUET), "run", "--restore", directory, *options])


def go(guest: vm.Guest, word: str = "go", pattern: str = r"^count (\d+) sum (\w{32})") -> tuple[str, ...]:
    after = len(guest.output)
    guest.type(f"{word}\n")
    return guest.wait_for(pattern, after=after).groups()


def memory_size(directory: str) -> int:
    """Bytes of memory: the file has two pages of marks behind it."""
    return int(vm.run("stat", "-c", "%s", f"{directory}/memory").stdout) - 8192


def on_disk(directory: str) -> int:
    return int(vm.run("stat", "-c", "%b", f"{directory}/memory").stdout) * 512


def same_memory(one: str, other: str) -> bool:
    return vm.run("cmp", "-n", str(memory_size(one)), f"{one}/memory", f"{other}/memory", check=False).returncode == 0


@contextlib.contextmanager
def machine(folder: str, *options: str, memory: str = "256M", **more):
    name = socket()
    with vm.Guest("--api-sock", name, "--allow", folder, *options, script=SCRIPT, memory=memory, **more) as guest:
        guest.wait_for(r"^ready$")
        yield guest, name


def look(guest: vm.Guest, how: str, *where: str) -> tuple[list[str], int, int]:
    """The place of its memory, bytes of that that are its own, and patterns in it."""
    start, end, own, patterns = vm.run("python3", "-c", LOOK, str(guest.pid), how, *where).stdout.split()
    return [start, end], int(own), int(patterns)


def inflates(guest: vm.Guest, name: str, snapshot: str):
    """What the balloon takes goes back to the host and reads as zeroes afterwards, not as the file that it came from."""
    mib = 140
    # A look that reads brings all of it in.
    where, full, before = look(guest, "read", f"{snapshot}/memory")
    assert before * len(PATTERN) > 20 << 20
    with Session(name) as api:
        api.do("PATCH", "/balloon", {"amount_mib": mib})
        while api.do("GET", "/duet/brief")["balloon"]["actual_mib"] < mib:
            continue
        # The last pages wait for neighbours for a moment.
        while api.do("GET", "/duet/devices/balloon0")["statistics"]["discarded_pages"] < mib * 256:
            continue
        _, less, _ = look(guest, "own", *where)
        api.do("PATCH", "/balloon", {"amount_mib": 0})
        while api.do("GET", "/duet/brief")["balloon"]["actual_mib"]:
            continue
    _, _, after = look(guest, "read", *where)
    print(f"{full >> 20} MiB, then {less >> 20}; {before} patterns, then {after}")
    assert full - less > (mib - 20) << 20
    assert after < before / 2


def test_goes_on_here_and_elsewhere(folder):
    snapshot = f"{folder}/one"
    with machine(folder, "--balloon", "reporting=off") as (guest, name):
        go(guest, "free", r"^freed$")
        first, data = go(guest)
        job = take(name, snapshot)
        assert (first, go(guest)) == ("1", ("2", data))
        # Another of the same name takes its place.
        take(name, snapshot)
        assert go(guest) == ("3", data)
        guest.type("stop\n")
        guest.succeed()
    assert 0 < job["bytes"] < memory_size(snapshot) == 256 << 20
    assert on_disk(snapshot) < job["bytes"] + (16 << 20)
    assert vm.run(str(vm.DUET), "snapshot", "check", snapshot).stdout == f"{snapshot}: ok\n"
    for balloon in (False, True):
        with restored(snapshot, "--api-sock", again := socket()) as guest:
            assert go(guest) == ("3", data)
            if balloon:
                inflates(guest, again, snapshot)
            assert go(guest) == ("4", data)
            guest.type("stop\n")
            guest.succeed()


def test_clones_are_told(folder):
    # Debian's 6.1 for clouds has no driver for it; the others do.
    with machine(folder, kernel="6.12-cloud") as (guest, name):
        assert go(guest, "told", r"^told (\d+)$") == ("0",)
        take(name, f"{folder}/one")
        assert go(guest, "told", r"^told (\d+)$") == ("0",)
    with contextlib.ExitStack() as stack:
        clones = [stack.enter_context(restored(f"{folder}/one")) for _ in range(CLONES)]
        for clone in clones:
            go(clone, "heard", r"^heard$")
            assert go(clone, "told", r"^told (\d+)$") == ("1",)
        numbers = {go(clone, "random", r"^random (\w{32})")[0] for clone in clones}
        assert len(numbers) == CLONES


def changes_over_base(folder: str, memory: str, *options: str):
    """Both at one moment: all of memory, and a snapshot with the changes put over one from before."""
    base, changes, whole, merged = (f"{folder}/{name}" for name in ("base", "changes", "whole", "merged"))
    with machine(folder, "--track-dirty", "on", *options, memory=memory) as (guest, name):
        take(name, base, "--diff")  # there is none before it: all of memory
        written = go(guest, "write", r"^written (\d+)$")
        ctl(name, "pause")
        few = take(name, changes, "--diff")["bytes"]
        many = take(name, whole)["bytes"]
        assert few < many
        ctl(name, "resume")
        assert int(go(guest)[0]) == int(written[0]) + 1
    assert not same_memory(base, whole)
    refused = vm.run(str(vm.DUET), "run", "--restore", changes, check=False)
    assert refused.returncode == 1 and "changes to another snapshot alone" in refused.stderr
    vm.run(str(vm.DUET), "snapshot", "merge", base, changes, merged, limit=vm.BOOT_LIMIT)
    assert same_memory(merged, whole)
    wrong = vm.run(str(vm.DUET), "snapshot", "merge", whole, changes, f"{folder}/wrong", check=False)
    assert wrong.returncode == 1 and "holds no changes to" in wrong.stderr
    with restored(merged) as guest:
        assert int(go(guest)[0]) == int(written[0]) + 1


@pytest.mark.parametrize("dirty", ["log", "ring"])
def test_changes_alone(dirty, folder):
    changes_over_base(folder, "256M", "--dirty", dirty, "--cpus", "2")


@soak
def test_changes_above_and_below_the_hole(folder):
    changes_over_base(folder, "4G")
    changes_over_base(folder, "4G", "--dirty", "ring")


def test_full_disk_leaves_the_old_one(folder):
    vm.run("mount", "-t", "tmpfs", "-o", "size=512M", "snapshots", folder)
    try:
        with machine(folder) as (guest, name):
            take(name, f"{folder}/one")
            used = int(vm.run("df", "--output=used", "-B1", folder).stdout.split()[-1])
            vm.run("mount", "-o", f"remount,size={used + (4 << 20)}", folder)
            refused = ctl(name, "snapshot", f"{folder}/one", check=False)
            assert refused.returncode == 1 and "No space left on device" in refused.stderr
            assert vm.run("ls", folder).stdout == "one\n"
            _, data = go(guest)
        vm.run(str(vm.DUET), "snapshot", "check", f"{folder}/one")
        with restored(f"{folder}/one") as guest:
            assert go(guest) == ("1", data)
    finally:
        vm.run("umount", folder)


def test_memory_cut_short_is_told(folder):
    with machine(folder) as (guest, name):
        take(name, f"{folder}/one")
    with restored(f"{folder}/one") as guest:
        go(guest)
        vm.run("truncate", "-s", "1M", f"{folder}/one/memory")
        with contextlib.suppress(BrokenPipeError):  # it may have met the end by itself
            guest.type("go\n")
        assert guest.finish() != 0
        assert re.search(r"memory file was cut short|memory it cannot reach", guest.output)


def test_as_firecrackers_clients_do(folder):
    files = {"snapshot_path": f"{folder}/state", "mem_file_path": f"{folder}/memory"}
    with firecracker(script=SCRIPT) as (guest, api, boot):
        said = "The requested operation is not supported before starting the microVM."
        assert api.refused("PUT", "/snapshot/create", files) == said
        api.do("PUT", "/boot-source", {**boot, "boot_args": "quiet console=ttyS0"})
        said = api.refused("PUT", "/snapshot/load", files)
        assert said.endswith("Loading a microVM snapshot not allowed after configuring boot-specific resources.")
        api.do("PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 256, "track_dirty_pages": True})
        api.do("PUT", "/actions", {"action_type": "InstanceStart"})
        guest.wait_for(r"^ready$")
        first, data = go(guest)
        assert "unavailable while running" in api.refused("PUT", "/snapshot/create", files)
        api.do("PATCH", "/vm", {"state": "Paused"})
        api.do("PUT", "/snapshot/create", files)
        assert api.do("GET", "/")["state"] == "Paused"
        api.do("PATCH", "/vm", {"state": "Resumed"})
        assert (first, go(guest)) == ("1", ("2", data))
        api.do("PATCH", "/vm", {"state": "Paused"})
        changes = {"snapshot_type": "Diff", "snapshot_path": f"{folder}/state2", "mem_file_path": f"{folder}/memory2"}
        api.do("PUT", "/snapshot/create", changes)
    # As its clients put them together: the data of one over the other.
    vm.run("python3", "-c", COPY, f"{folder}/memory2", f"{folder}/memory")
    with firecracker() as (guest, api, _boot):
        load = {"snapshot_path": f"{folder}/state2", "mem_backend": {"backend_type": "Uffd", "backend_path": f"{folder}/memory"}}
        assert "Uffd is not there" in api.refused("PUT", "/snapshot/load", load)
        load["mem_backend"]["backend_type"] = "File"
        assert "not the memory of this snapshot" in api.refused("PUT", "/snapshot/load", {**load, "snapshot_path": f"{folder}/state"})
        api.do("PUT", "/snapshot/load", load)
        assert api.do("GET", "/")["state"] == "Paused"
        api.do("PATCH", "/vm", {"state": "Resumed"})
        assert api.do("GET", "/")["state"] == "Running"
        assert go(guest) == ("3", data)
    with firecracker() as (guest, api, _boot):
        api.do("PUT", "/snapshot/load", {**load, "resume_vm": True, "track_dirty_pages": True})
        assert go(guest) == ("3", data)
        api.do("PATCH", "/vm", {"state": "Paused"})
        api.do("PUT", "/snapshot/create", changes)


COPY = """
import os, sys
source, target = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_WRONLY)
end = 0
while True:
    try:
        at = os.lseek(source, end, os.SEEK_DATA)
    except OSError:
        break
    end = os.lseek(source, at, os.SEEK_HOLE)
    while at < end:
        at += os.pwrite(target, os.pread(source, min(end - at, 1 << 20), at), at)
"""
