# SPDX-License-Identifier: Apache-2.0
"""Unpacked packages in the cache, looked up in the archive once a day."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import debian
from .cache import cache_dir, lock, write_atomically

FRESH_SECONDS = 24 * 3600


def extracted(package: str, suite: str, *, meta: bool = False) -> Path:
    """The package's files, unpacked; META follows a metapackage's dependency."""
    root = cache_dir() / "extracted"
    pointer = root / f"{package}@{suite}"

    def find() -> Path:
        name = debian.resolve(package, suite) if meta else package
        with lock(f"extracted-{name}-{suite}"):
            deb = debian.download(name, suite, cache_dir() / "debs")
            tree = root / deb.stem
            if not tree.exists():
                part = root / f".{deb.stem}.{os.getpid()}"
                debian.extract(deb, part)
                os.rename(part, tree)
        return tree

    return _remembered(pointer, find)


def _remembered(pointer: Path, find: Callable[[], Path]) -> Path:
    """What FIND gave within the last day; an older answer if it fails now."""
    known = Path(pointer.read_text()) if pointer.exists() else None
    if known and not known.exists():
        known = None
    if known and time.time() - pointer.stat().st_mtime < FRESH_SECONDS:
        return known
    try:
        found = find()
    except debian.DebianError:
        if known:
            return known
        raise
    write_atomically(pointer, str(found).encode())
    return found


def newer_suite() -> str:
    """The suite for the lab's kernel and QEMU: Debian 12 takes them from backports."""
    name = debian.host_codename()
    if name == "bookworm" and debian.reachable("bookworm-backports"):
        return "bookworm-backports"
    return name


def busybox() -> Path:
    """Debian's static busybox, for lab host and guests; kept for good."""
    path = cache_dir() / "guests" / "busybox" / "busybox"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with lock("busybox"), tempfile.TemporaryDirectory(dir=path.parent) as name:
            part = Path(name)
            debian.extract(debian.download("busybox-static", debian.host_codename(), part), part)
            found = part / "bin" / "busybox"
            found = found if found.exists() else part / "usr" / "bin" / "busybox"
            write_atomically(path, found.read_bytes())
            path.chmod(0o755)
    return path
