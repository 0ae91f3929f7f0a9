# SPDX-License-Identifier: Apache-2.0
"""Programs beside the kit: its library's tests and preload, and Debian's own programs with the
libraries that they need, for guests that run from an initramfs."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from ..base import debian
from ..base.cache import cache_dir, lock, write_atomically
from ..base.paths import REPOSITORY
from ..base.progress import step
from . import images

LIBRARY = REPOSITORY / "guest" / "lib"
SOURCES = (LIBRARY, LIBRARY / "preload", LIBRARY / "test", LIBRARY / "include" / "duet", REPOSITORY / "include" / "duet")
REDIS = ("redis-tools", "libjemalloc2", "liblzf1", "libatomic1")


def _built(target: str, *flags: str) -> bytes:
    """TARGET of guest/lib/Makefile, once for each state of its sources."""
    sources = [path for folder in SOURCES for path in sorted(folder.iterdir()) if path.is_file()]
    key = images.digest([part for path in sources for part in (str(path.relative_to(REPOSITORY)).encode(), path.read_bytes())]
                        + [flag.encode() for flag in flags])
    home = cache_dir() / "guests" / "kit"
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"{target}-{key}"
    with lock(f"kit-{target}"), tempfile.TemporaryDirectory(dir=home) as name:
        if not path.exists():
            debian.install_missing(["gcc", "libc6-dev", "make"])
            result = subprocess.run(["make", "-s", "-j1", "-C", str(LIBRARY), f"BUILD={name}", *flags, f"{name}/{target}"],
                                    capture_output=True, text=True, check=False)
            if result.returncode != 0:
                raise images.GuestError(f"guest/lib: {target}:\n{result.stdout}{result.stderr}")
            write_atomically(path, (Path(name) / target).read_bytes())
            images.drop_old(home, f"{target}-*")
    os.utime(path)
    return path.read_bytes()


def heap_tests() -> dict[str, bytes]:
    """The library's tests, linked statically, for vm.Guest's FILES."""
    return {f"bin/{name}": _built(name, "CFLAGS=-O2 -static") for name in ("test_heap", "test_fork")}


def _unpacked(packages: tuple[str, ...]) -> Path:
    """The packages' files, all in one tree of the cache."""
    suite = debian.host_codename()
    home = cache_dir() / "guests" / "programs" / "-".join((suite, *packages))
    with lock(f"programs-{packages[0]}"):
        if not home.exists():
            part = home.with_name(f".{home.name}.{os.getpid()}")
            with step(f"unpack {', '.join(packages)}"):
                for package in packages:
                    debian.extract(debian.download(package, suite, part / "debs"), part)
            part.rename(home)
    return home


def _libraries(program: Path, tree: Path) -> dict[str, bytes]:
    """What the program's loader would load, from TREE or else from this machine."""
    where = tree / "usr/lib/x86_64-linux-gnu"
    told = subprocess.run(["ldd", str(program)], env=dict(os.environ, LD_LIBRARY_PATH=str(where)),
                          capture_output=True, text=True, check=True).stdout
    paths = [Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(", told, re.MULTILINE)]
    loader = next(path for path in paths if path.name.startswith("ld-linux"))
    found = {f"usr/lib/{path.name}": path.read_bytes() for path in paths if path != loader}
    return found | {f"lib64/{loader.name}": loader.read_bytes()}


def redis() -> dict[str, bytes]:
    """redis-server and redis-cli with the preload, for vm.Guest's FILES."""
    tree = _unpacked(REDIS)
    # One program, which goes by the name it is called by.
    server, client = tree / "usr/bin/redis-check-rdb", tree / "usr/bin/redis-cli"
    return (_libraries(server, tree) | _libraries(client, tree)
            | {"bin/redis-server": server.read_bytes(), "bin/redis-cli": client.read_bytes(),
               "usr/lib/libduet-preload.so": _built("libduet-preload.so")})
