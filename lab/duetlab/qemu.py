# SPDX-License-Identifier: Apache-2.0
"""The lab's QEMU: built from Debian's source with one line mended.

helper_vmrun delivers an injected interrupt and leaves cs->exception_index set
to its vector. When the CPU is kicked at that moment the main loop delivers the
same vector again as an exception: a guest takes an interrupt while its IF is 0
and spins on a lock it holds. The mend resets the index after the delivery."""

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import debian, packages
from .cache import cache_dir, lock, write_atomically
from .errors import LabError

PATCH_FILES = ("target/i386/tcg/system/svm_helper.c", "target/i386/tcg/sysemu/svm_helper.c")
# In the case SVM_EVTINJ_TYPE_INTR, and nowhere else in the file:
DELIVERY = re.compile(r"^([ \t]*)do_interrupt_x86_hardirq\(env, vector, 1\);\n", re.MULTILINE)
MEND = "cs->exception_index = -1;"
CONFIGURE = (
    "--python=/usr/bin/python3 --target-list=x86_64-softmmu --without-default-features "
    "--enable-tcg --enable-slirp --enable-attr --enable-cap-ng --enable-virtfs "
    "--enable-plugins --disable-docs"
).split()
BUILD_PACKAGES = (
    "gcc libc6-dev make ninja-build pkg-config python3 python3-venv flex bison "
    "libglib2.0-dev libslirp-dev libcap-ng-dev libattr1-dev zlib1g-dev"
).split()
MESON_WANTED = (1, 5)


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
