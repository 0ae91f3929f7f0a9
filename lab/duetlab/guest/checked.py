# SPDX-License-Identifier: Apache-2.0
"""A kernel that checks itself and its modules (lockdep, KASAN, kmemleak), which Debian does not build: made from Debian's
source of the guests' kernel, with what a guest that runs from an initramfs needs and no more."""

import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from ..base import debian
from ..base.cache import cache_dir, lock, write_atomically
from ..base.progress import Percent, step
from . import bzimage

NAME = "6.1-checked"
PACKAGE, SUITE = "linux-source-6.1", "bookworm"
CONFIG = Path(__file__).with_suffix(".config")
BUILD_PACKAGES = "gcc libc6-dev make bc bison flex libelf-dev libssl-dev xz-utils kmod".split()
MAX_AGE = 7 * 24 * 3600
LINES = 1300  # that make prints, about

# Of the source: two thirds are for other processors and graphics. Each folder's Kconfig is read.
LEFT_OUT = ("*/arch/[!x]*/*.[chS]", "*.dts*", "*/Documentation/[a-z]*", "*/drivers/gpu/*.[ch]", "*/tools/testing/*")


def _home() -> Path:
    return cache_dir() / "guests" / "kernels" / f"{NAME}-{hashlib.sha256(CONFIG.read_bytes()).hexdigest()[:16]}"


def tree() -> Path:
    """What modules are built against, once kernel_dir() has been called. No other configuration's has its name."""
    return _home() / f"build-{_home().name}"


def _run(command: list[str], place: Path) -> None:
    result = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise debian.DebianError(f"{' '.join(command)}: {result.stdout[-1000:]}{result.stderr[-1000:]}")


def fetch() -> None:
    """What the build needs: a DebianError when it is not here and cannot be had. Nothing, when the kernel is built."""
    home = _home()
    if not (home / "release").exists():
        debian.install_missing(BUILD_PACKAGES)
        with lock(NAME):
            if not tree().exists():
                _unpack(home)


def _unpack(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    part = home / "part"
    shutil.rmtree(part, ignore_errors=True)
    deb = debian.download(PACKAGE, SUITE, part)
    with step(f"unpack {PACKAGE}"):
        debian.extract(deb, part)
        source = part / "usr" / "src" / f"{PACKAGE}.tar.xz"
        _run(["nice", "tar", "xf", str(source), *(f"--exclude={pattern}" for pattern in LEFT_OUT)], part)
    version = deb.name.split("_")[1]
    write_atomically(home / "package", f"{PACKAGE} {version} {SUITE} {home.name}\n".encode())
    (part / PACKAGE).rename(tree())
    shutil.rmtree(part)


def _configure() -> None:
    _run(["make", "-s", f"KCONFIG_ALLCONFIG={CONFIG}", "allnoconfig"], tree())
    taken = (tree() / ".config").read_text().splitlines()
    missing = [line for line in CONFIG.read_text().splitlines() if line.startswith("CONFIG_") and line not in taken]
    if missing:
        raise debian.DebianError(f"{PACKAGE} does not take {', '.join(missing)}: mend {CONFIG}")


def _compile(log: Path) -> None:
    """By one job, the nicest, some ten minutes. One that is cut off goes on where it was."""
    percent = Percent(f"build the kernel {NAME}")
    command = ["nice", "-n", "15", "make", "-j1", "bzImage", "modules"]
    with open(log, "w") as file, subprocess.Popen(command, cwd=tree(), stdout=subprocess.PIPE, stderr=file, text=True) as make:
        for number, line in enumerate(make.stdout or ()):
            file.write(line)
            percent.show(min(99, number * 100 // LINES))
    percent.end()
    if make.returncode != 0:
        raise debian.DebianError(f"the kernel {NAME} does not build: see {log}")


def _lay_out(home: Path) -> str:
    """As images.kernel_dir() has it."""
    release = (tree() / "include/config/kernel.release").read_text().strip()
    shutil.copy(tree() / "arch/x86/boot/bzImage", home / "vmlinuz")
    shutil.copy(tree() / ".config", home / "config")
    (home / "vmlinux").write_bytes(bzimage.unpack((home / "vmlinuz").read_bytes()))
    modules = home / "modules" / "lib" / "modules" / release
    modules.mkdir(parents=True, exist_ok=True)
    for name in ("modules.builtin", "modules.order"):
        shutil.copy(tree() / name, modules)
    _run(["/sbin/depmod", "-b", str(home / "modules"), release], home)
    return release


def _prune() -> None:
    """What modules are built against stays: headers, scripts and tools."""
    for path in tree().rglob("*"):
        kept = path.relative_to(tree()).parts[0] in ("scripts", "tools")
        if not kept and re.search(r"\.(c|o|a|S|cmd)$|^vmlinux", path.name) and path.is_file():
            path.unlink()


def _drop_old(home: Path) -> None:
    for old in home.parent.glob(f"{NAME}-*"):
        if old != home and time.time() - old.stat().st_mtime > MAX_AGE:
            shutil.rmtree(old, ignore_errors=True)


def kernel_dir() -> Path:
    """As images.kernel_dir(), built if it is not in the cache."""
    home = _home()
    fetch()
    with lock(NAME):
        if not (home / "release").exists():
            _configure()
            _compile(home / "build.log")
            release = _lay_out(home)
            _prune()
            write_atomically(home / "release", f"{release}\n".encode())
            _drop_old(home)
    os.utime(home)
    return home
