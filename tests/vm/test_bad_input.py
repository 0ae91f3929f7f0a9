# SPDX-License-Identifier: Apache-2.0
"""Wrong input: one line that names the option, the file and the remedy; status 1 (2 for a bad
command line); nothing left behind."""

import json
import lzma
import re
import subprocess

import pytest

from duetlab.guest import images, vm


def refuse(*options, status=1, says):
    result = vm.run(str(vm.DUET), "run", *map(str, options), check=False)
    lines = [line for line in (result.stdout + result.stderr).splitlines() if line]
    assert result.returncode == status, lines
    assert len(lines) == 1, lines
    for words in says:
        assert words in lines[0], lines[0]
    return lines[0]


@pytest.fixture(scope="module")
def kernel():
    return images.kernel("6.1-cloud")


@pytest.mark.parametrize("options,says", [
    (("--kernel", "k", "--frobnicate", "1"), ("--frobnicate", "--help")),
    (("--kernel", "k", "--memory", "99999999999999999999G"), ("--memory", "too large")),
    (("--kernel", "k", "--memory", "17179869184G"), ("--memory", "too large")),
    (("--kernel", "k", "--cpus", "0"), ("--cpus", "1 to 64")),
    ((), ("--kernel", "missing")),
])
def test_command_line(options, says):
    refuse(*options, status=2, says=says)


def test_missing_kernel():
    refuse("--kernel", "/nonexistent", says=("--kernel", "/nonexistent"))


@pytest.mark.parametrize("damage", ["empty", "short", "garbage", "truncated", "corrupt", "directory"])
def test_bad_kernel(damage, workspace, kernel):
    file = workspace / "kernel"
    good = kernel.read_bytes()
    bad = {
        "empty": b"",
        "short": good[:300],
        "garbage": bytes(range(256)) * 4096,
        "truncated": good[:len(good) // 2],
        "corrupt": good[:1 << 20] + b"\xa5" * (1 << 20) + good[2 << 20:],
    }
    if damage == "directory":
        file.mkdir()
    else:
        file.write_bytes(bad[damage])
    refuse("--kernel", file, "--cache", "off", says=("--kernel", str(file)))


def test_bad_initrd(workspace, kernel):
    refuse("--kernel", kernel, "--initrd", "/nonexistent", says=("--initrd", "/nonexistent"))
    big = workspace / "big"
    with open(big, "wb") as file:
        file.truncate(300 << 20)
    refuse("--kernel", kernel, "--initrd", big, "--memory", "256M", says=("--initrd", str(big), "--memory"))


def test_memory_too_small(kernel):
    refuse("--kernel", kernel, "--memory", "16M", says=("--memory", "16"))


def test_disks(workspace, kernel):
    odd = workspace / "odd"
    odd.write_bytes(b"x" * 1000)
    good = workspace / "good"
    good.write_bytes(b"\0" * 4096)
    refuse("--kernel", kernel, "--disk", "path=/nonexistent", says=("--disk", "/nonexistent"))
    refuse("--kernel", kernel, "--disk", f"path={odd}", says=("--disk", str(odd), "512"))
    refuse("--kernel", kernel, "--disk", f"path={workspace}", says=("--disk", str(workspace)))
    refuse("--kernel", kernel, "--disk", f"path={good}", "--disk", f"path={good}",
           says=("--disk", str(good)))


def test_busy_disk(workspace, kernel):
    disk = workspace / "disk"
    disk.write_bytes(b"\0" * (1 << 20))
    with vm.Guest("--disk", f"path={disk}", script="echo ready; read x") as guest:
        guest.wait_for("^ready")
        refuse("--kernel", kernel, "--disk", f"path={disk}", says=("--disk", str(disk), "busy"))
        guest.type("\n")
        guest.succeed()


def test_taps(kernel):
    refuse("--kernel", kernel, "--net", "tap,ifname=nosuchtap", says=("--net", "nosuchtap", "ip tuntap"))


def test_missing_passt(kernel):
    refuse("--kernel", kernel, "--net", "user", "--passt", "/nonexistent/passt",
           says=("--net", "passt"))


def test_statistics_file(kernel, workspace):
    refuse("--kernel", kernel, "--stats", "/nonexistent/stats", says=("--stats", "/nonexistent/stats"))


def test_no_room_for_statistics():
    """The file system has no room when the machine ends: one line, status 1, no half file."""
    mount = "/tmp/duet-full"
    vm.run("sh", "-c", f"mkdir -p {mount} && mount -t tmpfs -o size=64k none {mount}")
    try:
        initrd = images.initrd("6.1-cloud", script="true")
        kernel = images.kernel("6.1-cloud")
        result = vm.run("sh", "-c",
                        f"(dd if=/dev/zero of={mount}/fill bs=1k 2>/dev/null; :); truncate -s 60k {mount}/fill;"
                        f"{vm.DUET} run --kernel {kernel} --initrd {initrd} --stats {mount}/s; status=$?; "
                        f"ls {mount}; exit $status", check=False)
        assert result.returncode == 1, result.stdout
        assert "--stats" in result.stderr and f"{mount}/s" in result.stderr
        assert result.stdout.rstrip().endswith("fill")
    finally:
        vm.run("umount", mount)


def test_no_kvm(kernel, workspace):
    """A mount namespace without /dev/kvm, and one where it is closed to everyone."""
    command = f"{vm.DUET} run --kernel {kernel}"
    gone = vm.run("unshare", "-m", "sh", "-c",
                  f"mount -t tmpfs none /dev && exec {command}", check=False)
    assert gone.returncode == 1
    assert re.search(r"/dev/kvm.*(absent|modprobe)", gone.stderr), gone.stderr
    denied = vm.run("sh", "-c", "chmod 600 /dev/kvm; exec setpriv --reuid 65534 --regid 65534 "
                                f"--clear-groups {command} --cache off", check=False)
    assert denied.returncode == 1
    assert re.search(r"/dev/kvm.*(group|kvm)", denied.stderr), denied.stderr


def test_software_back_end(kernel):
    """Right here, not in the lab: a /dev/kvm that is no hardware virtualization."""
    doctor = subprocess.run([vm.DUET, "doctor", "--json"], capture_output=True, text=True, check=False)
    backend = json.loads(doctor.stdout)["kvm"]["backend"]
    if backend != "software":
        pytest.skip(f"this machine's /dev/kvm is {backend}, not a software back end")
    result = subprocess.run([vm.DUET, "run", "--kernel", kernel], capture_output=True, text=True,
                            timeout=60, check=False)
    assert result.returncode == 1
    assert re.fullmatch(r"duet: error: /dev/kvm: a software back end.*lab/lab exec.*\n", result.stderr)


def test_corrupt_cache_is_rebuilt(kernel, workspace):
    """A damaged entry of the cache never reaches a guest."""
    script = "echo booted"
    cache = workspace / "cache"
    for _ in range(2):
        with vm.Guest("--cache", str(cache), script=script) as guest:
            assert "booted" in guest.succeed()
    entries = sorted((p for p in cache.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    assert entries, "nothing was cached"
    entries[-1].write_bytes(entries[-1].read_bytes()[:4096])
    with vm.Guest("--cache", str(cache), script=script) as guest:
        assert "booted" in guest.succeed()


def test_kernel_xz_of_random_bytes(workspace, kernel):
    """A payload that unpacks well, to something that is no kernel."""
    file = workspace / "kernel"
    head = bytearray(kernel.read_bytes())
    packed = lzma.compress(b"\x5a" * (4 << 20), check=lzma.CHECK_CRC32) + (4 << 20).to_bytes(4, "little")
    setup = (head[0x1f1] or 4) + 1
    start = setup * 512 + int.from_bytes(head[0x248:0x24c], "little")
    head[start:start + len(packed)] = packed
    head[0x24c:0x250] = len(packed).to_bytes(4, "little")
    file.write_bytes(head)
    refuse("--kernel", file, "--cache", "off", says=("--kernel", str(file)))
