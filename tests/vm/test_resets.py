# SPDX-License-Identifier: Apache-2.0
"""Resets in place, however the guest asks for one and whatever is under way, and on a host that has
changed since the machine's start."""

import os
import re
import shutil

import pytest
from api import Session, socket
from test_vsock import socket_path

from duetlab.guest import images, rootfs, vm

# One reset by each; all of them, five times, in make soak.
WAYS = ["3", "all"]
if os.environ.get("DUET_SOAK") == "1":
    WAYS = ["0", "1", "2", "3", "all", "port", "reboot"] * 5

# What it has done is counted on the disk. fio's data is another disk's.
SCRIPT = """
set -- @WAYS@
done=$(head -c 4 /dev/vdb | tr -d ' \\0'); done=${done:-0}
cat >/tmp/answers.py <<'END'
import socket, sys
server = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
server.bind((socket.VMADDR_CID_ANY, 5000))
server.listen()
print(f"start {sys.argv[1]}", flush=True)
connection, _ = server.accept()
connection.sendall(connection.recv(100) + f" {sys.argv[1]}".encode())
connection.recv(1)
END
python3 /tmp/answers.py $done &
read -r line
[ "$done" -lt $# ] || exit 0
printf %-4s $((done + 1)) | dd of=/dev/vdb conv=notrunc,fsync status=none
fio --name=load --filename=/dev/vdc --direct=1 --ioengine=libaio --rw=randrw --bs=64k --iodepth=32 \
	--size=32M --time_based --runtime=600 >/dev/null 2>&1 &
cat /dev/hwrng >/dev/null &
ip link set eth0 up; arping -I eth0 192.168.77.1 >/dev/null 2>&1 &
until [ "$(cut -c 1-99 /sys/block/vdc/stat | awk '{print $1}')" -gt 50 ]; do sleep 0.1; done
echo 1 >/proc/sys/kernel/sysrq
shift "$done"
case $1 in
all) for cpu in 0 1 2 3; do taskset -c $cpu sh -c 'echo b >/proc/sysrq-trigger' & done; sleep 600 ;;
port) printf '\\376' | dd of=/dev/port bs=1 seek=100 conv=notrunc status=none; sleep 600 ;;
reboot) reboot -f || echo b >/proc/sysrq-trigger ;;
*) taskset -c "$1" sh -c 'echo b >/proc/sysrq-trigger' ;;
esac
"""

# Says something to the guest by the socket argv[1], and tells what it answers.
ASK = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(300)
connection.connect(sys.argv[1])
connection.sendall(b"CONNECT 5000\\n")
with connection.makefile("rb", buffering=0) as answers:
    assert answers.readline().startswith(b"OK ")
    connection.sendall(b"start")
    print(answers.read(100).decode())
"""
# Those that say how much there is at the moment; all others count.
GAUGES = (".kvm.blocking", ".kvm.guest_mode")


def counts(value, name: str = "") -> dict[str, int]:
    """Every number in VALUE, by its place; lists of what has a name or an index by that."""
    if isinstance(value, list):
        value = {str(one.get("name", one.get("index"))): one for one in value}
    if isinstance(value, dict):
        return {place: count for word, one in value.items() for place, count in counts(one, f"{name}.{word}").items()}
    return {name: value} if isinstance(value, int) and not isinstance(value, bool) else {}


def fell(before: dict[str, int], now: dict[str, int]) -> dict[str, tuple]:
    return {name: (count, now.get(name)) for name, count in before.items()
            if now.get(name, -1) < count and not name.endswith(GAUGES)}


def test_every_way(local_disk):
    disks = local_disk("1M"), local_disk("32M")
    script, sock = SCRIPT.replace("@WAYS@", " ".join(WAYS)), socket()
    with socket_path() as vsock, vm.Guest("--api-sock", sock, "--vsock", f"path={vsock},cid=77",
                  "--disk", f"path={rootfs.rootfs()},readonly=on", "--disk", f"path={disks[0]}",
                  "--disk", f"path={disks[1]},queues=4", "--net", "user", "--cpus", "4", "--cmdline",
                  "duet.root=/dev/vda duet.rootflags=ro", kernel="6.1-amd64", script=script) as guest:
        passt, before, inode = None, {}, None
        for number in range(len(WAYS) + 1):
            guest.wait_for(rf"^start {number}$", 300)
            passt = passt or guest.children("passt")
            with Session(sock) as api:
                now = counts(api.do("GET", "/duet/stats"))
            assert before.keys() <= now.keys() and not fell(before, now)
            before = now
            # The socket is the one from the beginning, and leads to who listens now.
            found = vm.run("stat", "-c", "%i", vsock).stdout
            inode = inode or found
            assert found == inode
            assert vm.run("python3", "-c", ASK, vsock).stdout == f"start {number}\n"
            guest.type("go\n")
        guest.succeed()
        assert guest.stats["machine"]["resets"] == len(WAYS)
    assert passt and len(passt) == 1, "its back end was the same throughout"


@pytest.fixture(scope="module")
def rebooted():
    """What a guest says that reboots once. The second start is told from the first by what that wrote to the disk."""
    script = """
echo "mac $(cat /sys/class/net/eth0/address)."
if [ "$(head -c 4 /dev/vda)" = been ]; then echo second start; exit 0; fi
printf been >/dev/vda; sync
reboot -f
"""
    with vm.workspace() as directory:
        disk = directory / "disk.img"
        disk.write_bytes(b"\0" * (1 << 20))
        with vm.Guest("--disk", f"path={disk}", "--net", "user", script=script) as guest:
            return guest.succeed()


def test_reboot_starts_anew(rebooted):
    assert "second start" in rebooted


def test_mac_is_the_same_after_a_reboot(rebooted):
    """Drawn once for the machine's life: nobody named one."""
    before, after = re.findall(r"^mac (\S+)\.$", rebooted, re.MULTILINE)
    assert before == after
    # One of its own: locally administered, and of one station.
    assert int(before[:2], 16) & 3 == 2


def test_kernel_deleted_and_no_proc():
    """A package's upgrade takes the files away; a jail may have no /proc."""
    script = 'echo "mac $(cat /sys/class/net/eth0/address)."; read -r line; [ "$line" = go ] && reboot -f; exit 0'
    with vm.workspace() as directory, vm.tap("192.168.78.1/24") as tap:
        kernel, initrd, config = (directory / name for name in ("vmlinuz", "initrd", "machine.json"))
        shutil.copy(images.kernel("6.1-cloud"), kernel)
        shutil.copy(images.initrd("6.1-cloud", "base", script), initrd)
        config.write_text(vm.run(str(vm.DUET), "run", "--kernel", str(kernel), "--initrd", str(initrd), "--memory",
                                 "256M", "--net", f"tap,ifname={tap}", "--print-config").stdout)
        with vm.Guest(peer=lambda *_: ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh",
                                       str(vm.DUET), "run", "--config", str(config)]) as guest:
            mac = guest.wait_for(r"^mac (\S+)\.$")[1]
            assert mac in config.read_text()
            for path in (kernel, initrd, config):
                path.unlink()
            after = len(guest.output)
            guest.type("go\n")
            assert guest.wait_for(r"^mac (\S+)\.$", after=after)[1] == mac
            guest.type("end\n")
            guest.succeed()
