# SPDX-License-Identifier: Apache-2.0
"""A Debian 12 with Corosync and Pacemaker, which runs in namespaces as a node of a cluster (tests/vm/nodes.py)."""

import hashlib
import os
import time
from pathlib import Path

from ..base.cache import cache_dir, lock
from . import rootfs

SUITE = "bookworm"
IMAGE_SIZE = "1500M"  # sparse
MAX_AGE = 7 * 24 * 3600

PACKAGES = (
    "corosync",
    "dbus",
    "iproute2",
    "libxml2-utils",  # ocf-tester's
    "pacemaker",
    "pacemaker-cli-utils",
    "passt",
    "procps",
    "python3",
    "resource-agents",
    "systemd",
    "systemd-sysv",
)

FILES = {
    "etc/machine-id": "",
    # On a loaded lab things take their time.
    "etc/systemd/system.conf.d/patience.conf": "[Manager]\nDefaultTimeoutStartSec=15min\nDefaultTimeoutStopSec=15min\n",
    "etc/systemd/journald.conf.d/memory.conf": "[Journal]\nStorage=volatile\nForwardToSyslog=no\n",
}


def _populate(tree: Path) -> None:
    for name, text in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)


def _path() -> Path:
    """Named after all that decides what is in it."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(Path(rootfs.__file__).read_bytes())
    return cache_dir() / "guests" / "node" / f"{SUITE}-{digest.hexdigest()[:16]}.ext4"


def built() -> Path | None:
    """The image if it is in the cache; builds nothing."""
    return _path() if _path().exists() else None


def node() -> Path:
    """The image, made if it is not in the cache: some two minutes. It is mounted read-only, below what a node writes."""
    image = _path()
    image.parent.mkdir(parents=True, exist_ok=True)
    with lock("node"):
        if not image.exists():
            tar = image.with_suffix(".tar")
            rootfs.bootstrap(tar, SUITE, PACKAGES, "--variant=minbase",
                             '--customize-hook=chroot "$1" systemctl disable corosync pacemaker')
            rootfs.make_image(tar, image, _populate, IMAGE_SIZE)
            tar.unlink()
        os.utime(image)
        for old in image.parent.glob("*.ext4"):
            if time.time() - old.stat().st_mtime > MAX_AGE:
                old.unlink()
    return image
