# SPDX-License-Identifier: Apache-2.0
"""Counts of instructions: builds the QEMU plugin, asks it for counts and marks."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from .base import debian
from .base.cache import cache_dir, lock
from .base.errors import LabError
from .base.paths import LAB
from .host import LabHost, connect_unix
from .qemu import Qemu

SOURCES = LAB / "plugin"
PLUGIN_FLAGS = "-std=gnu11 -O2 -fPIC -shared -fvisibility=hidden -pthread".split()
MARK_FLAGS = "-std=gnu11 -O2 -static -nostdlib -ffreestanding".split()
FIELDS = ("host_user", "host_kernel", "guest_low", "guest_high", "vmruns")


def compiled(name: str, sources: tuple[str, ...], flags: list[str], home: Path = SOURCES) -> Path:
    """SOURCES, files of HOME, compiled with FLAGS, kept in the cache by what it is made of."""
    folders = dict.fromkeys((SOURCES, home))
    parts = [path.read_bytes() for folder in folders for path in sorted(folder.glob("*.[ch]"))]
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
    return compiled(f"insn-v{api}.so", ("insn.c", "server.c"), flags)


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


def ask(host: LabHost, line: str, name: str = "count.sock") -> str:
    """The answer of the plugin that listens at NAME to one LINE."""
    with connect_unix(host.state / name) as sock, sock.makefile("rw") as stream:
        stream.write(line + "\n")
        stream.flush()
        return stream.read()


def _ask(host: LabHost, line: str) -> dict:
    try:
        return json.loads(ask(host, line))
    except OSError as error:
        record = host.record()
        if host.alive(record) and record["options"]["icount"]:
            raise LabError("a lab host under --icount has no counts: start one without") from error
        if host.alive(record):
            raise LabError(f"the lab host's plugin does not answer: {error.strerror}") from error
        raise LabError("the lab host is not up: lab/lab up") from error


def count(host: LabHost) -> dict:
    """The counts now: `vcpus`, a list of the FIELDS, their `sum`, and `ns`, a clock's time."""
    return _with_sum(_ask(host, "count"))


def marks(host: LabHost) -> dict:
    """The marks since the last call, oldest first, each with counts as `count` gives."""
    answer = _ask(host, "marks")
    answer["marks"] = [_with_sum(mark) for mark in answer["marks"]]
    return answer


def _with_sum(sample: dict) -> dict:
    total = {name: sum(vcpu[name] for vcpu in sample["vcpus"]) for name in FIELDS}
    total["instructions"] = sum(total[name] for name in FIELDS if name != "vmruns")
    return {**sample, "sum": total}
