# SPDX-License-Identifier: Apache-2.0
"""Machines that have given up what they do not need: each thread says so, and a guest lives a whole life
under it. All other tests run so too, as far as it goes (--sandbox try)."""

import shutil
import uuid
from pathlib import Path

import pytest
from api import firecracker

from duetlab.guest import images, vm

LIFE = """
head -c 4 /dev/vda | grep -q done && again=1
printf done | dd of=/dev/vda conv=notrunc,fsync status=none
ip link set eth0 up
udhcpc -i eth0 -n -q -t 10 -T 2 -s /etc/udhcpc/default.script >/dev/null 2>&1
ip route | grep -q "^default via .* dev eth0" && echo "dhcp ok"
head -c 4000000 /dev/urandom >/tmp/data
dd if=/tmp/data of=/dev/vda bs=64k seek=1 conv=fsync status=none && echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vda bs=64k skip=1 status=none | head -c 4000000 | cmp - /tmp/data && echo "disk ok"
blkdiscard -o 8M -l 4M /dev/vda && echo "discard ok"
[ "$(head -c 64 /dev/hwrng | wc -c)" = 64 ] && echo "entropy ok"
echo "life ${again:-0}"
read -r line
[ "${again:-0}" = 1 ] || reboot -f
"""


def tasks(pid: int) -> dict[str, dict[str, str]]:
    """What each thread of a process says of itself, by its name."""
    text = vm.run("sh", "-c", f"for task in /proc/{pid}/task/*; do cat $task/status; done").stdout
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        word, _, value = line.partition(":")
        if word == "Name":
            current = found.setdefault(value.strip(), {})
        current[word] = value.strip()
    return found


def check_confined(threads: dict[str, dict[str, str]]):
    assert {"duet-io", "vcpu0", "vcpu1"} <= set(threads), threads.keys()
    for name, status in threads.items():
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", f"{name}: {status}"
    for name in ("duet-io", "vcpu0", "vcpu1"):
        assert int(threads[name]["CapEff"], 16) == int(threads[name]["CapPrm"], 16) == 0, f"{name} has capabilities"


def test_a_whole_life(local_disk):
    disk = local_disk("64M", "sandbox")
    with vm.Guest("--sandbox", "on", "--cpus", "2", "--disk", f"path={disk}", "--net", "user",
                  script=LIFE) as guest:
        for life in range(2):
            guest.wait_for(rf"^life {life}$")
            check_confined(tasks(guest.pid))
            guest.snapshot()
            guest.type("go\n")
        console = guest.succeed()
        assert guest.stats["machine"]["resets"] == 1
    for word in ("dhcp ok", "disk ok", "discard ok", "entropy ok"):
        assert console.count(f"{word}\n") == 2, console


def test_another_user(local_disk):
    """As the unit starts it: root opens disk and network, and nothing of root is left when the guest runs."""
    disk = local_disk("64M", "sandbox")
    with vm.Guest(script=LIFE, peer=lambda kernel, initrd: [
            str(vm.DUET), "run", "--kernel", kernel, "--initrd", initrd, "--memory", "256M", "--cpus", "2",
            "--cmdline", "quiet", "--disk", f"path={disk}", "--net", "user", "--user", "65533:65532"]) as guest:
        for life in range(2):
            guest.wait_for(rf"^life {life}$")
            threads = tasks(guest.pid)
            check_confined(threads)
            for name, status in threads.items():
                assert set(status["Uid"].split()) == {"65533"}, f"{name}: {status['Uid']}"
                assert set(status["Gid"].split()) == {"65532"} and not status["Groups"], name
            guest.type("go\n")
        assert guest.succeed().count("disk ok\n") == 2


def test_off():
    with vm.Guest("--sandbox", "off", "--cpus", "2", script="echo here; read -r line") as guest:
        guest.wait_for(r"^here$")
        assert {status["Seccomp"] for status in tasks(guest.pid).values()} == {"0"}
        guest.type("go\n")
        guest.succeed()


def started_by_api(*options: str) -> dict[str, dict[str, str]]:
    with firecracker(*options, script="echo here; read -r line; reboot -f") as (guest, api, files):
        api.do("PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 256})
        api.do("PUT", "/boot-source", {**files, "boot_args": "console=ttyS0 reboot=k panic=1 quiet"})
        api.do("PUT", "/actions", {"action_type": "InstanceStart"})
        guest.wait_for(r"^here$")
        found = tasks(guest.pid)
        guest.type("go\n")
        assert guest.finish() == 0, guest.tail()
    return found


def test_firecrackers_way():
    check_confined(started_by_api())
    assert {status["Seccomp"] for status in started_by_api("--no-seccomp").values()} == {"0"}


def test_files_that_nobody_named(local_disk, workspace):
    """A disk's new file, which the socket's owner may name, is in no directory that was given."""
    disk, other = local_disk("8M", "sandbox"), local_disk("8M", "other")
    socket = f"/tmp/{workspace.name}.sock"
    with vm.Guest("--sandbox", "on", "--disk", f"path={disk},id=data", "--api-sock", socket,
                  script="echo here; read -r line") as guest:
        guest.wait_for(r"^here$")
        body = f'{{"drive_id": "data", "path_on_host": "{other}"}}'
        answer = vm.run("curl", "-sS", "--unix-socket", socket, "-X", "PATCH", "-d", body,
                        "http://localhost/drives/data").stdout
        assert "--allow" in answer, answer
        vm.run("truncate", "-s", "12M", disk)
        vm.run("curl", "-fsS", "--unix-socket", socket, "-X", "PATCH", "-d", '{"drive_id": "data"}',
               "http://localhost/drives/data")
        guest.type("go\n")
        guest.succeed()
        assert vm.run("test", "-e", socket, check=False).returncode == 1, "the socket goes with the machine"


@pytest.mark.parametrize("cache", ["writeback", "direct"])
def test_another_file_that_was_named(cache, local_disk):
    """It is opened, measured and locked in the sandbox."""
    disk, other, socket = local_disk("8M", "sandbox"), local_disk("12M", "other"), f"/tmp/{uuid.uuid4().hex[:8]}.sock"
    with vm.Guest("--sandbox", "on", "--disk", f"path={disk},id=data,cache={cache}", "--api-sock", socket, "--allow",
                  str(Path(other).parent), script="echo here; read -r line; cat /sys/block/vda/size") as guest:
        guest.wait_for(r"^here$")
        vm.run("curl", "-fsS", "--unix-socket", socket, "-X", "PATCH", "-d",
               f'{{"drive_id": "data", "path_on_host": "{other}"}}', "http://localhost/drives/data")
        guest.type("go\n")
        guest.succeed()
        guest.wait_for(r"^24576$")


def test_a_new_kernel_is_remembered_late(workspace):
    """Its name is trusted when it has not changed for two seconds: at a reset, in the sandbox."""
    fresh = workspace / "vmlinuz"
    shutil.copyfile(images.kernel("6.1-cloud"), fresh)
    with vm.Guest(script="echo here; read -r line; [ $line = end ] || reboot -f", peer=lambda kernel, initrd: [
            "sh", "-c", 'touch "$0" && exec "$@"', str(fresh), str(vm.DUET), "run", "--sandbox", "on", "--kernel",
            str(fresh), "--initrd", initrd, "--memory", "256M", "--cmdline", "quiet"]) as guest:
        guest.wait_for(r"^here$")
        vm.run("sh", "-c", f'until [ $(($(date +%s) - $(stat -c %Z {fresh}))) -gt 3 ]; do sleep 0.1; done')
        guest.type("again\n")
        guest.wait_for(r"^here$", after=len(guest.output))
        guest.type("end\n")
        guest.succeed()
