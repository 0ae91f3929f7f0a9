# SPDX-License-Identifier: Apache-2.0
"""Builds the QEMU plugins that count instructions, and the program that marks points for them."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from ..base import debian
from ..base.cache import cache_dir, lock
from ..base.errors import LabError
from ..base.paths import LAB
from .qemu import Qemu

SOURCES = LAB / "plugin"
PLUGIN_FLAGS = "-std=gnu11 -O2 -fPIC -shared -fvisibility=hidden -pthread".split()
MARK_FLAGS = "-std=gnu11 -O2 -static -nostdlib -ffreestanding".split()


def compiled(name: str, sources: tuple[str, ...], flags: list[str], home: Path = SOURCES) -> Path:
    """SOURCES, files of HOME, compiled with FLAGS, kept in the cache by what it is made of."""
    folders = dict.fromkeys((SOURCES, home))
    parts = [path.read_bytes() for folder in folders for path in sorted(folder.glob("*.[ch]"))]
    parts += [(home / source).read_bytes() for source in sources]
    digest = hashlib.sha256(b"\0".join([*parts, " ".join(flags).encode()])).hexdigest()[:12]
    target = cache_dir() / "plugin" / digest / name
    if target.exists():
        return target
    with lock("plugin"):
        if not shutil.which("gcc"):
            debian.install_missing(["gcc", "libc6-dev"])
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{name}.{os.getpid()}")
        files = [str(home / source) for source in sources]
        command = ["gcc", "-o", str(part), *files, *flags]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise LabError(f"{sources[0]} does not compile: {result.stderr.strip().splitlines()[-1]}")
        os.replace(part, target)
    return target


def plugin_for(qemu: Qemu) -> Path:
    """The plugin for this QEMU's version of the plugin interface."""
    api = _interface(qemu)
    flags = [*PLUGIN_FLAGS, f"-DLAB_PLUGIN_API={api}"]
    return compiled(f"insn-v{api}.so", ("insn.c", "server.c", "touch.c"), flags)


def profile_plugin_for(qemu: Qemu) -> Path:
    """The plugin that counts by block; it needs inline counts for each vCPU."""
    if _interface(qemu) < 4:
        raise LabError(f"--profile needs QEMU 9.1 or later, this is {qemu.name}")
    flags = [*PLUGIN_FLAGS, "-DLAB_PLUGIN_API=4"]
    return compiled("profile.so", ("profile.c", "server.c"), flags)


def _interface(qemu: Qemu) -> int:
    return 4 if qemu.version >= (9, 1, 0) else 1


def mark_program() -> Path:
    """The static program `mark NUMBER...`, for shells and initramfs images."""
    return compiled("mark", ("mark.c",), MARK_FLAGS)
