# SPDX-License-Identifier: Apache-2.0
"""Where everything that is downloaded or built outside git is kept."""

import contextlib
import fcntl
import os
import re
from pathlib import Path


def cache_dir() -> Path:
    """$DUET_CACHE, or duet/ in the user's cache directory; created."""
    named = os.environ.get("DUET_CACHE")
    if named:
        path = Path(named)
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        path = Path(base) / "duet"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


@contextlib.contextmanager
def lock(name: str):
    """Hold the cache's lock NAME: one process builds, the others wait for it."""
    directory = cache_dir() / "locks"
    directory.mkdir(exist_ok=True)
    path = directory / re.sub(r"[^\w.+-]", "_", name)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_atomically(path: Path, data: bytes) -> None:
    """Readers see the old content or the new, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
