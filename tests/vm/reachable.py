# SPDX-License-Identifier: Apache-2.0
"""A guest that ssh reaches seconds after its start: a stock kernel, an initrd that goes on in the
root disk, and there busybox and dropbear. Its address is the one on the kernel's command line."""

import io
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from duetlab.base import packages
from duetlab.guest import images, rootfs

KERNEL = "6.1-cloud"
DROPBEAR = "/usr/sbin/dropbear"

# The last thing that the initrd's first process becomes: here, what a distribution's initrd does.
SESSION = """#!/bin/busybox sh
for word in $(cat /proc/cmdline); do
	case $word in root=*) root=${word#*=} ;; esac
done
modprobe -q ext4
mount -t ext4 "$root" /newroot || exec poweroff -f
for directory in dev proc sys; do
	mount --move /$directory /newroot/$directory
done
exec switch_root /newroot /sbin/init
"""

# In microheart's words, or in the kernel's own, which firecracker-python uses.
START = """#!/bin/sh
mount -t tmpfs run /run
for word in $(cat /proc/cmdline); do
	case $word in
	microheart.ip=*) address=${word#*=} ;;
	ip=*) address=${word#*=} address=${address%%:*}/24 ;;
	esac
done
ip link set lo up
ip link set eth0 up
ip addr add "$address" dev eth0
"""

INITTAB = f"""::sysinit:/etc/start
::respawn:{DROPBEAR} -F -E -s -r /etc/dropbear.key
::ctrlaltdel:/bin/busybox reboot
::shutdown:/bin/busybox umount -a -r
"""


@dataclass(frozen=True)
class Reachable:
    """Its files, on this machine."""

    kernel: Path
    initrd: Path
    root: Path
    key: Path
    release: str


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class _Archive:
    """All of it root's, whoever makes it."""

    def __init__(self, path: Path):
        self.tar = tarfile.open(path, "w")

    def add(self, name: str, kind: bytes, mode: int, data: bytes = b"", target: str = ""):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.size, info.linkname = kind, mode, len(data), target
        self.tar.addfile(info, io.BytesIO(data))

    def directories(self, *names: str, mode: int = 0o755):
        for name in names:
            self.add(name, tarfile.DIRTYPE, mode)

    def file(self, name: str, data: bytes | str, mode: int = 0o644):
        self.add(name, tarfile.REGTYPE, mode, data.encode() if isinstance(data, str) else data)

    def link(self, name: str, target: str):
        self.add(name, tarfile.SYMTYPE, 0o777, target=target)


def _fill(archive: _Archive, public_key: str, host_key: bytes):
    archive.directories("bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp")
    archive.directories("root/.ssh", mode=0o700)
    archive.file("bin/busybox", packages.busybox().read_bytes(), 0o755)
    for name in ("bin/sh", "bin/reboot", "sbin/init"):
        archive.link(name, "/bin/busybox")
    for path in (DROPBEAR, *re.findall(r"(/\S+)", _run("ldd", DROPBEAR))):
        archive.file(path[1:], Path(path).read_bytes(), 0o755)
    archive.file("etc/start", START, 0o755)
    archive.file("etc/inittab", INITTAB)
    archive.file("etc/passwd", "root:*:0:0:root:/root:/bin/sh\n")
    archive.file("etc/group", "root:x:0:\n")
    archive.file("etc/dropbear.key", host_key, 0o600)
    archive.file("root/.ssh/authorized_keys", public_key, 0o600)


def make(home: Path) -> Reachable:
    """The guest, its root disk and keys new in HOME."""
    key, host_key, tar = home / "key", home / "host-key", home / "root.tar"
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "duet", "-f", str(key))
    _run("dropbearkey", "-t", "ed25519", "-f", str(host_key))
    archive = _Archive(tar)
    _fill(archive, key.with_suffix(".pub").read_text(), host_key.read_bytes())
    archive.tar.close()
    root = home / "root.ext4"
    rootfs.make_image(tar, root, lambda tree: None, "24M")
    initrd = images.initrd(KERNEL, files={"sbin/duet-session": SESSION.encode()})
    return Reachable(images.kernel(KERNEL), initrd, root, key, images.release(KERNEL))
