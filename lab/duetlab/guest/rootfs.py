# SPDX-License-Identifier: Apache-2.0
"""The Debian root file system image for tests that need real tools."""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..base import debian
from ..base.cache import cache_dir, lock, write_atomically
from ..base.progress import step
from .images import SCRIPTS, GuestError

PACKAGES = (
    "busybox-static",
    "ethtool",
    "fio",
    "iperf3",
    "iproute2",
    "iputils-ping",
    "kmod",
    "linux-perf",
    "nvme-cli",
    "pciutils",
)
IMAGE_SIZE = "1G"  # sparse: only what is used takes space

# Where each of our scripts goes in the image.
INSTALLED = {
    "duet-init": "sbin/duet-init",
    "duet-session": "sbin/duet-session",
    "duet-powerbutton": "sbin/duet-powerbutton",
    "udhcpc.script": "etc/udhcpc/default.script",
}

# Documentation and translations are of no use in a test guest.
LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt")


def _home() -> Path:
    path = cache_dir() / "guests" / "rootfs"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _run(command: list[str], **more) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if result.returncode != 0:
        problem = [line for line in result.stderr.splitlines() if line.startswith("E:")]
        words = "; ".join(problem) or result.stderr.strip()[-400:]
        raise GuestError(f"{command[0]}: {words or f'exit status {result.returncode}'}")


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]


def _check_mappings() -> None:
    """Without root, mmdebstrap needs a range of user numbers to map."""
    debian.install_missing(["uidmap"])
    user = pwd.getpwuid(os.geteuid()).pw_name
    for file in (Path("/etc/subuid"), Path("/etc/subgid")):
        lines = file.read_text().splitlines() if file.exists() else []
        if not any(line.startswith(f"{user}:") for line in lines):
            raise GuestError(
                f"{file} has no range for {user}: run `lab/guests build --rootfs` as root, or add one: "
                f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
            )


def bootstrap(tar: Path, suite: str, packages: tuple[str, ...], *more: str) -> None:
    """All the packages, as a tar archive; MORE options for mmdebstrap."""
    debian.install_missing(["mmdebstrap", "e2fsprogs"])
    if os.geteuid() != 0:
        _check_mappings()
    part = tar.with_name(f".{tar.name}.{os.getpid()}.tar")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)  # without root, mmdebstrap works as a mapped user
        sources = Path(name) / "duet.sources"
        sources.write_text(debian.sources_text(suite, "deb"))
        options = Path(name) / "apt.conf"
        options.write_text(debian.acquire_settings())
        command = ["mmdebstrap", f"--aptopt={options}", f"--include={','.join(packages)}", *more]
        command += [f"--dpkgopt=path-exclude=/{path}/*" for path in LEFT_OUT[:4]]
        try:
            with step(f"Debian {suite} root file system (some minutes)"):
                _run([*command, suite, str(part), str(sources)])
            part.rename(tar)
        finally:
            part.unlink(missing_ok=True)


def _populate(tree: Path) -> None:
    """Ours, on top of Debian's."""
    for source, target in INSTALLED.items():
        path = tree / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SCRIPTS / source, path)
        path.chmod(0o755)
    (tree / "usr/lib/modules").mkdir(parents=True, exist_ok=True)
    (tree / "etc/hostname").write_text("duet-guest\n")
    (tree / "etc/resolv.conf").symlink_to("/run/resolv.conf")


def make_image(tar: Path, image: Path, populate: Callable[[Path], None], size: str) -> None:
    """An ext4 image of what is in the archive and what POPULATE puts into its tree.

    That must not remove anything: fakeroot remembers owner and type by inode, and a
    new file that got the inode of a removed one would inherit them."""
    part = image.with_name(f".{image.name}.{os.getpid()}")
    # Owners other than root are kept without being root by fakeroot.
    owner = [] if os.geteuid() == 0 else ["fakeroot", "-i", "state", "-s", "state", "--"]
    if owner:
        debian.install_missing(["fakeroot"])
    with tempfile.TemporaryDirectory(dir=image.parent) as name:
        work = Path(name)
        (work / "state").touch()
        (work / "tree").mkdir()
        try:
            with step("ext4 image of the root file system"):
                unpack = ["tar", "-xf", str(tar), "-C", "tree", "--anchored"]
                unpack += [f"--exclude=./{path}/*" for path in ("dev", *LEFT_OUT)]
                unpack += ["--exclude=./etc/resolv.conf"]
                _run([*owner, *unpack], cwd=work)
                populate(work / "tree")
                flags = ["-q", "-F", "-m", "0", "-L", "duet-root", "-E", "root_owner=0:0"]
                make = ["mke2fs", "-t", "ext4", *flags, "-d", "tree", str(part), size]
                environment = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
                _run([*owner, *make], cwd=work, env=environment)
            part.rename(image)
        finally:
            part.unlink(missing_ok=True)


def built() -> Path | None:
    """The image if one is in the cache, current or not; builds nothing."""
    image = _home() / "debian.ext4"
    return image if image.exists() else None


def rootfs() -> Path:
    """The ext4 image. Guests that write to it need a copy of their own."""
    suite = debian.host_codename()
    home = _home()
    packages = _hash(suite.encode(), " ".join(PACKAGES).encode(), " ".join(LEFT_OUT).encode())
    scripts = [(SCRIPTS / name).read_bytes() for name in INSTALLED]
    key = _hash(packages.encode(), *scripts, Path(__file__).read_bytes())
    image = home / "debian.ext4"
    stamp = home / "debian.key"
    with lock("rootfs"):
        if image.exists() and stamp.exists() and stamp.read_text() == key:
            return image
        tar = home / f"{suite}-{packages}.tar"
        if not tar.exists():
            bootstrap(tar, suite, PACKAGES, "--variant=minbase")
            for old in home.glob("*.tar"):
                if old != tar:
                    old.unlink()
        stamp.unlink(missing_ok=True)
        make_image(tar, image, _populate, IMAGE_SIZE)
        write_atomically(stamp, key.encode())
    return image
