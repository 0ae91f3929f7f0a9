# SPDX-License-Identifier: Apache-2.0
"""The lab's QEMU: built from Debian's source with our mends, and stock QEMU."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from ..base import debian, packages
from ..base.cache import cache_dir, lock, write_atomically
from ..base.errors import LabError
from ..base.progress import Percent, step
from . import mends

CONFIGURE = (
    "--python=/usr/bin/python3 --target-list=x86_64-softmmu --without-default-features "
    "--enable-tcg --enable-slirp --enable-attr --enable-cap-ng --enable-virtfs "
    "--enable-plugins --disable-docs --disable-fdt --disable-download"
).split()
BUILD_PACKAGES = (
    "gcc libc6-dev make ninja-build pkg-config python3 python3-venv flex bison binutils "
    "libglib2.0-dev libslirp-dev libcap-ng-dev libattr1-dev zlib1g-dev"
).split()
RECIPE = hashlib.sha256(" ".join(mends.words() + CONFIGURE).encode()).hexdigest()[:10]


@dataclasses.dataclass(frozen=True)
class Qemu:
    binary: Path
    firmware: tuple[Path, ...]  # directories for -L; empty: its own
    mended: bool
    version: tuple[int, ...]

    @property
    def name(self) -> str:
        kind = "mended" if self.mended else "stock"
        return f"QEMU {'.'.join(map(str, self.version))} ({kind})"


def _version(binary: Path) -> tuple[int, ...]:
    shown = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", shown.stdout)
    if not match:
        raise LabError(f"{binary} --version: {shown.stderr.strip() or 'no version'}")
    return tuple(int(part) for part in match.groups())


def choose(wanted: str, say) -> Qemu:
    """WANTED is `mended`, `stock`, or `any`: mended if it is built, else stock."""
    if wanted == "any":
        wanted = "mended" if built() else "stock"
        if wanted == "stock":
            say("the mended QEMU is not built (lab/lab qemu builds it): using stock QEMU")
    if wanted == "stock":
        say("STOCK QEMU: one guest in 25 hangs under it; tests and experiments need the mended one")
        return stock()
    if wanted == "mended":
        return built() or build(say)
    raise LabError(f"DUET_LAB_QEMU={wanted}: use mended, stock or any")


def stock() -> Qemu:
    binary = shutil.which("qemu-system-x86_64")
    if not binary:
        debian.install_missing(["qemu-system-x86", "seabios"])
        binary = shutil.which("qemu-system-x86_64") or "/usr/bin/qemu-system-x86_64"
    return Qemu(Path(binary), (), False, _version(Path(binary)))


# The mended one


def _pointer() -> Path:
    return cache_dir() / "qemu" / f"mended-{RECIPE}.json"


def built() -> Qemu | None:
    """The mended QEMU if this recipe of it is in the cache."""
    try:
        known = json.loads(_pointer().read_text())
    except FileNotFoundError:
        return None
    binary = Path(known["binary"])
    if not binary.exists():
        return None
    try:
        _version(binary)
    except LabError:  # the cache outlived the system that had its libraries
        debian.install_missing(BUILD_PACKAGES)
    return Qemu(binary, tuple(map(Path, known["firmware"])), True, tuple(known["version"]))


def build(say) -> Qemu:
    """Build the mended QEMU; about five minutes on two cores, once."""
    with lock("qemu-build"):
        done = built()  # by another caller, while this one waited
        if done:
            return done
        debian.install_missing(BUILD_PACKAGES)
        suite, source = _source(say)
        env = _meson(source)
        mends.apply(source)
        _leave_out_what_is_missing(source)
        say(f"building QEMU from {source.name}, once (log: {_log()})")
        work = cache_dir() / "qemu" / f"build-{source.name}"
        binary = _compile(source, work, env)
        kept = cache_dir() / "qemu" / f"{source.name}-{RECIPE}" / "qemu-system-x86_64"
        kept.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["strip", "-o", kept, binary], check=True)
        firmware = _firmware(suite)
        shutil.rmtree(work)
        known = {
            "binary": str(kept),
            "firmware": [str(path) for path in firmware],
            "version": _version(kept),
        }
        write_atomically(_pointer(), json.dumps(known).encode())
    return Qemu(kept, firmware, True, known["version"])


def _log() -> Path:
    return cache_dir() / "qemu" / "build.log"


def _source(say) -> tuple[str, Path]:
    """A source that the mends fit: Debian 12's own is too old, its backports drop one as soon as
    the next release has a newer."""
    own = debian.host_codename()
    suites = ["bookworm-backports", "trixie"] if own == "bookworm" else [own]
    for suite in suites:
        try:
            return suite, debian.download_source("qemu", suite, cache_dir() / "sources")
        except debian.DebianError:
            if suite == suites[-1]:
                raise
            say(f"the archive has no complete source of QEMU in {suite}: trying the next suite")
    raise AssertionError("no suite")


def _meson(source: Path) -> dict[str, str]:
    """The environment for configure, with a meson that the source accepts."""
    env = dict(os.environ, LC_ALL="C")
    env["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"  # no interpreter but the system's
    env.pop("PYTHONPATH", None)
    if debian.host_codename() == "bookworm" and (source / "pythondeps.toml").exists():
        tree = packages.extracted("meson", "bookworm-backports")
        env["PYTHONPATH"] = str(tree / "usr/lib/python3/dist-packages")
    else:
        debian.install_missing(["meson"])
    return env


def _leave_out_what_is_missing(source: Path) -> None:
    """Debian's source has no firmware images, Debian 12 no pycotap (for QEMU's tests)."""
    write_atomically(source / "pc-bios/meson.build", b"roms = []\n")
    deps = source / "pythondeps.toml"
    if deps.exists():
        kept = [line for line in deps.read_text().splitlines() if not line.startswith("pycotap")]
        write_atomically(deps, ("\n".join(kept) + "\n").encode())


def _compile(source: Path, work: Path, env: dict[str, str]) -> Path:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with open(_log(), "w") as log:
        with step("lab: configure QEMU"):
            command = ["nice", str(source / "configure"), *CONFIGURE]
            result = subprocess.run(command, cwd=work, env=env, stdout=log, stderr=log, check=False)
        if result.returncode != 0:
            raise LabError(f"QEMU does not configure: see {_log()}")
        command = ["nice", "ninja", "-C", str(work), "-j2", "qemu-system-x86_64"]
        ninja = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
        assert ninja.stdout
        percent = Percent("lab: build QEMU")
        for line in ninja.stdout:
            log.write(line)
            match = re.match(r"\[(\d+)/(\d+)\]", line)
            if match:
                percent.show(int(match.group(1)) * 100 // int(match.group(2)))
        percent.end()
        if ninja.wait() != 0:
            raise LabError(f"QEMU does not build: see {_log()}")
    return work / "qemu-system-x86_64"


def _firmware(suite: str) -> tuple[Path, ...]:
    """Directories with the images that the suite's QEMU is packaged with."""
    data = packages.extracted("qemu-system-data", suite)
    bios = packages.extracted("seabios", suite)
    return (data / "usr/share/qemu", bios / "usr/share/seabios")
