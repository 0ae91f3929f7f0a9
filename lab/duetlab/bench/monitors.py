# SPDX-License-Identifier: Apache-2.0
"""duet and its peers as commands that boot the same guest: 1 vCPU, 256 MiB, a disk, a NIC.

All files are copies in the lab host's memory, below HOME there."""

import shutil
from dataclasses import dataclass

HOME = "/tmp/bench"
TAP = "bench0"
MEMORY_MIB = 256


@dataclass(frozen=True)
class Boot:
    """What to boot; the end of its command line may name the first process."""

    kernel: str  # paths in the lab host
    initrd: str
    words: str


def _duet(boot: Boot) -> list[str]:
    return [f"{HOME}/duet", "run", "--cache", f"{HOME}/cache", "--kernel", boot.kernel,
            "--initrd", boot.initrd, "--memory", f"{MEMORY_MIB}M", "--entropy", "off",
            "--disk", f"path={HOME}/disk", "--net", f"tap,ifname={TAP}",
            "--stats", f"{HOME}/stats.json", "--cmdline", boot.words]  # fmt: skip


def _kvmtool(boot: Boot) -> list[str]:
    return ["/usr/bin/env", f"HOME={HOME}", f"{HOME}/lkvm", "run", "--cpus", "1",
            "--mem", str(MEMORY_MIB), "--kernel", boot.kernel, "--initrd", boot.initrd,
            "--disk", f"{HOME}/disk", "--network", f"mode=tap,tapif={TAP}",
            "--params", boot.words]  # fmt: skip


def _microvm(boot: Boot) -> list[str]:
    return ["/usr/bin/env", "qemu-system-x86_64", "-M", "microvm,acpi=on", "-enable-kvm", "-cpu", "host",
            "-m", str(MEMORY_MIB), "-smp", "1", "-nodefaults", "-no-user-config", "-no-reboot",
            "-display", "none", "-serial", "stdio", "-kernel", boot.kernel,
            "-initrd", boot.initrd, "-append", f"console=ttyS0 {boot.words}",
            "-drive", f"if=none,id=disk,format=raw,file={HOME}/disk",
            "-device", "virtio-blk-device,drive=disk",
            "-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no",
            "-device", "virtio-net-device,netdev=net"]  # fmt: skip


@dataclass(frozen=True)
class Monitor:
    name: str
    program: str | None  # looked for on PATH; None: duet itself
    copy: str | None  # its name below HOME; None: it needs files beside it, and runs in place
    command: object  # Boot -> list[str]
    end: str  # what busybox is told so that the monitor ends

    def path(self) -> str | None:
        return shutil.which(self.program) if self.program else None


DUET = Monitor("duet", None, "duet", _duet, "poweroff")
PEERS = (
    Monitor("kvmtool", "lkvm", "lkvm", _kvmtool, "reboot"),
    Monitor("QEMU microvm", "qemu-system-x86_64", None, _microvm, "poweroff"),
)
