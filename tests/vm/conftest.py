# SPDX-License-Identifier: Apache-2.0
"""Whole virtual machines, on hardware or in the nested lab."""

import os
import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path[:0] = [str(Path(__file__).resolve().parents[n] / name) for n, name in ((2, "lab"), (1, "unit"))]

from duetlab.guest import vm  # noqa: E402 (needs the path above)


@pytest.fixture(scope="session", autouse=True)
def where_kvm_is():
    """The lab host is up before the first guest; one boot of it serves all tests."""
    vm.run("true", limit=1800)


@pytest.fixture
def workspace():
    """A directory that is seen where duet runs, removed at the end."""
    with vm.workspace() as path:
        yield path


def _local_disks():
    made = []

    def make(size: str, name: str = "disk") -> str:
        # Another process may test beside this one.
        file = f"{name}-{os.getpid()}-{len(made)}.img"
        path = f"/scratch/{file}" if vm.run(
            "test", "-d", "/scratch", check=False).returncode == 0 else f"/var/tmp/duet-{file}"
        vm.run("sh", "-c", f"rm -f {path}; truncate -s {size} {path}")
        made.append(path)
        return path

    yield make
    if made:
        vm.run("rm", "-f", *made)


@pytest.fixture
def local_disk():
    """Makes disk files on a local file system of the machine duet runs on (no 9p below them)."""
    yield from _local_disks()


@pytest.fixture(scope="module")
def module_disk():
    """The same for a guest that serves all tests of a file."""
    yield from _local_disks()


@pytest.fixture
def folder():
    """A directory of a local file system where duet runs."""
    path = vm.run("sh", "-c", "mktemp -d -p $(ls -d /scratch /var/tmp 2>/dev/null | head -n 1) snapshot.XXXX").stdout.strip()
    yield path
    vm.run("rm", "-rf", path)
