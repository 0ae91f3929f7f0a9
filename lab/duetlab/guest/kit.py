# SPDX-License-Identifier: Apache-2.0
"""The guest kit, built for a test guest: the module for its kernel, programs that need no library.

Built from this clone's sources into the cache, under a hash of all that went in."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..base import debian
from ..base.cache import cache_dir, lock, write_atomically
from ..base.paths import REPOSITORY
from ..base.progress import step
from . import headers, images

GUEST = REPOSITORY / "guest"
MODULE = GUEST / "module"
CONTRACT = REPOSITORY / "include" / "duet"

# In the guest, before anything of the kit: modprobe knows the module then.
PREPARE = "depmod\n"


def _sources(*directories: Path) -> list[Path]:
    """What a build reads, without what an earlier one has left in the clone."""
    found = [path for directory in directories for path in sorted(directory.iterdir())
             if path.suffix in (".c", ".h") and not path.name.endswith(".mod.c")]
    return [*found, *(path for path in [MODULE / "Kbuild", MODULE / "Makefile"] if path.exists())]


def _cached(name: str, sources: list[Path], more: list[str], build) -> Path:
    """The file that BUILD(path) makes, once for each state of SOURCES."""
    parts = [part for path in sources for part in
             (str(path.relative_to(REPOSITORY)).encode(), path.read_bytes())]
    key = images.digest([*parts, *(text.encode() for text in more)])
    home = cache_dir() / "guests" / "kit"
    path = home / f"{name}-{key}"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        with lock(f"kit-{name}"):
            if not path.exists():
                build(path)
                images.drop_old(home, f"{name}-*")
    os.utime(path)
    return path


def _run(command: list[str], cwd: Path) -> None:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise images.GuestError(f"{' '.join(command)}:\n{result.stdout}{result.stderr}")


def _copy(sources: list[Path], target: Path) -> None:
    for path in sources:
        place = target / path.relative_to(REPOSITORY)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


def _edit(place: Path, edits: tuple[tuple[str, str, str], ...]) -> None:
    for name, old, new in edits:
        text = (place / name).read_text()
        if text.count(old) != 1:
            raise images.GuestError(f"{name}: {old!r} stands there {text.count(old)} times, not once")
        (place / name).write_text(text.replace(old, new))


def _make_module(kernel_headers: Path, sources: list[Path], edits, result: Path) -> None:
    with tempfile.TemporaryDirectory(dir=result.parent) as name, step(f"duet.ko for {kernel_headers.name}"):
        _copy(sources, Path(name))
        place = Path(name) / MODULE.relative_to(REPOSITORY)
        _edit(place, edits)
        _run(["make", "-j1", f"KERNELDIR={kernel_headers}", "KCFLAGS=-Werror", "modules"], place)
        _run(["strip", "--strip-debug", "duet.ko"], place)
        write_atomically(result, (place / "duet.ko").read_bytes())


def module(kernel: str, edits: tuple[tuple[str, str, str], ...] = ()) -> Path:
    """duet.ko for the kernel of that name, without debug information. EDITS make another of it, for tests: in that file of
    its sources, for that text this one."""
    kernel_headers = headers.headers_dir(kernel)
    sources = _sources(MODULE, CONTRACT)
    words = [text for edit in edits for text in edit]
    return _cached(f"duet.ko{'-edited' if edits else ''}-{kernel}", sources, [kernel_headers.name, *words],
                   lambda result: _make_module(kernel_headers, sources, edits, result))


def _make_daemon(result: Path) -> None:
    debian.install_missing(["gcc", "libc6-dev"])
    sources = [str(path) for path in sorted((GUEST / "guestd").glob("*.c"))]
    part = result.with_name(f".{result.name}.{os.getpid()}")
    _run(["gcc", "-static", "-O2", "-s", f"-I{REPOSITORY / 'include'}", "-o", str(part), *sources],
         REPOSITORY)
    part.rename(result)


def daemon() -> Path:
    """duet-guestd, linked statically: a test guest has no C library."""
    return _cached("duet-guestd", _sources(GUEST / "guestd", CONTRACT), [], _make_daemon)


def files(kernel: str, edits: tuple[tuple[str, str, str], ...] = ()) -> dict[str, bytes]:
    """The kit for vm.Guest's FILES; the guest runs PREPARE before it uses the module. EDITS: as for module()."""
    place = f"lib/modules/{images.release(kernel)}/updates/duet.ko"
    return {place: module(kernel, edits).read_bytes(), "sbin/duet-guestd": daemon().read_bytes()}
