# SPDX-License-Identifier: Apache-2.0
"""A Debian 12 with systemd as its installer leaves it: kernel, initrd of its own, root image."""

import dataclasses
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from ..base import debian
from ..base.cache import cache_dir, lock
from . import rootfs
from .images import GuestError

SUITE = "bookworm"
IMAGE_SIZE = "1G"  # sparse: only what is used takes space
MAX_AGE = 7 * 24 * 3600
HOSTNAME = "duet-debian"

# What debootstrap installs by default is what Debian says is important. Beside that:
PACKAGES = (
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "openssh-server",
    # systemd recommends these, and the installer takes recommendations.
    "dbus",
    "libpam-systemd",
    "systemd-timesyncd",
)

HOOKS = (
    "--variant=important",
    # Before the kernel is installed, whose initrd holds the fsck of the root that it is told of.
    '--essential-hook=echo "/dev/vda / ext4 errors=remount-ro 0 1" >"$1/etc/fstab"',
    '--essential-hook=mkdir -p "$1/etc/initramfs-tools/conf.d"',
    '--essential-hook=echo FSTYPE=ext4 >"$1/etc/initramfs-tools/conf.d/root"',
    # As Debian's images for clouds: an interface's name is not known before it is there.
    '--customize-hook=chroot "$1" systemctl enable systemd-networkd',
    # Debian's PAM lets root in without a password on a terminal, and only there.
    '--customize-hook=chroot "$1" passwd --delete root',
)

FILES = {
    "etc/hostname": f"{HOSTNAME}\n",
    "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {HOSTNAME}\n",
    "etc/systemd/network/lan.network": "[Match]\nType=ether\n\n[Network]\nDHCP=ipv4\n",
    # Empty: systemd fills in the machine's UUID. With "uninitialized" the start would be a first
    # one, which an installed system has behind it.
    "etc/machine-id": "",
    # In the lab, beside other work, udev takes longer than the 90 s that a serial port has to appear.
    "etc/systemd/system.conf.d/patience.conf": "[Manager]\nDefaultDeviceTimeoutSec=15min\n"
    "DefaultTimeoutStartSec=15min\nDefaultTimeoutStopSec=15min\n",
}


@dataclasses.dataclass(frozen=True)
class System:
    """Where it lies. `root` is for all: guests that write to it need a copy of their own."""

    home: Path

    @property
    def kernel(self) -> Path:
        return self.home / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.home / "initrd.img"

    @property
    def root(self) -> Path:
        return self.home / "root.ext4"

    @property
    def key(self) -> Path:
        """The private key with which ssh lets root in."""
        return self.home / "key"


def _make_key(key: Path) -> None:
    debian.install_missing(["openssh-client"])
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "duet", "-f", str(key)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise GuestError(f"ssh-keygen: {result.stderr.strip()}")


def _populate(tree: Path, made: System) -> None:
    """What an installer asks for; and the kernel and the initrd as files beside the image."""
    for name, text in FILES.items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(text)
    directory = tree / "root" / ".ssh"
    directory.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(made.key.with_suffix(".pub"), directory / "authorized_keys")
    for name, target in (("vmlinuz", made.kernel), ("initrd.img", made.initrd)):
        shutil.copyfile(next((tree / "boot").glob(f"{name}-*")), target)


def _build(home: Path) -> None:
    """In a directory beside it, which then gets its name: a half-made system is never seen."""
    part = Path(tempfile.mkdtemp(prefix=".part.", dir=home.parent))
    made = System(part)
    tar = part / "system.tar"
    try:
        _make_key(made.key)
        rootfs.bootstrap(tar, SUITE, PACKAGES, *HOOKS)
        rootfs.make_image(tar, made.root, lambda tree: _populate(tree, made), IMAGE_SIZE)
        tar.unlink()
        part.chmod(0o755)
        part.rename(home)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _home() -> Path:
    """Named after all that decides what is in it."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(Path(rootfs.__file__).read_bytes())
    return cache_dir() / "guests" / "system" / f"{SUITE}-{digest.hexdigest()[:16]}"


def built() -> Path | None:
    """Its directory if it is in the cache; builds nothing."""
    return _home() if _home().exists() else None


def system() -> System:
    """The system, made if it is not in the cache: some two minutes."""
    home = _home()
    home.parent.mkdir(parents=True, exist_ok=True)
    with lock("system"):
        if not home.exists():
            _build(home)
        os.utime(home)
        for old in home.parent.iterdir():
            if time.time() - old.stat().st_mtime > MAX_AGE:
                shutil.rmtree(old, ignore_errors=True)
    return System(home)
