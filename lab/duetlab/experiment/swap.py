# SPDX-License-Identifier: Apache-2.0
"""Swap of the host for guests that are given more than it has."""

from .lab import HOME, ExperimentLab
from .record import Skipped

CLUSTER = "/proc/sys/vm/page-cluster"
LIMIT = 900  # seconds that reading it in again may take on a busy machine
BLOCK = "zram0"


class HostSwap:
    """MIB of it in the lab: a file, or with COMPRESSED memory itself (zram), where a page costs instructions and nobody waits
    for a disk. Elsewhere what the host has. Use as a context manager."""

    def __init__(self, lab: ExperimentLab, mib: int, compressed: bool = False):
        self._lab, self._mib, self._compressed = lab, mib, compressed
        self._device = "" if not lab.counts else f"/dev/{BLOCK}" if compressed else f"{lab.local}/duet-swap"

    def __enter__(self):
        if not self._device and self._lab.shell("tail -n +2 /proc/swaps").strip() == "":
            raise Skipped("this host has no swap")
        if self._device:
            made = (f"modprobe zram; echo {self._mib}M >/sys/block/{BLOCK}/disksize" if self._compressed else
                    f"fallocate -l {self._mib}M {self._device}; chmod 600 {self._device}")
            self._lab.shell(f"set -e; {made}; mkswap {self._device} >/dev/null; "
                            f"cat {CLUSTER} >{HOME}/page-cluster; echo 0 >{CLUSTER}; swapon {self._device}")
        return self

    def empty(self) -> None:
        if self._device:
            self._lab.shell(f"swapoff {self._device} && swapon {self._device}", LIMIT)

    def __exit__(self, *_exc):
        if self._device:
            gone = f"echo 1 >/sys/block/{BLOCK}/reset" if self._compressed else f"rm -f {self._device}"
            self._lab.shell(f"swapoff {self._device}; {gone}; cat {HOME}/page-cluster >{CLUSTER}", LIMIT)
