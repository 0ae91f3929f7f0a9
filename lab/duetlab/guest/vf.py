# SPDX-License-Identifier: Apache-2.0
"""Virtual functions for `--device vfio,host=...`, where KVM is: lab/vf as a context manager."""

import contextlib

from . import vm


class NothingToSplit(Exception):
    """No function of this kind has SR-IOV here."""


@contextlib.contextmanager
def passed(kind: str, count: int = 1):
    """Addresses of COUNT virtual functions that vfio-pci holds; KIND is nvme, net, or the address
    of a physical function. Gives the whole function back at the end."""
    result = vm.run("lab/vf", "take", kind, str(count), check=False)
    if result.returncode == 3:
        raise NothingToSplit(result.stderr.strip())
    if result.returncode != 0:
        raise vm.GuestFailure(f"lab/vf take {kind} {count}: {result.stderr.strip()}")
    try:
        yield result.stdout.split()
    finally:
        vm.run("lab/vf", "give", kind)
