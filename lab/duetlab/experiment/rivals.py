# SPDX-License-Identifier: Apache-2.0
"""duet and other monitors as commands that start the same guest: one vCPU, a disk to read, a network card, a balloon."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from ..guest import images
from .lab import HOME, KERNEL, ExperimentLab, initrd_of_guest

WORDS = "console=ttyS0 quiet cryptomgr.notests=1"  # the last is duet's own word: 875 M instructions of a start


@dataclass(frozen=True)
class Slot:
    """What one guest has. The DISK is all guests' alike, for none may write to it."""

    tap: str
    mac: str
    disk: str
    memory: int  # MiB


def duet(slot: Slot) -> tuple[str, ...]:
    """Options; the kernel is vm.Guest's business."""
    return ("--disk", f"path={slot.disk},readonly=on,cache=direct", "--net", f"tap,ifname={slot.tap},mac={slot.mac}",
            "--balloon", "stats=1,deflate-on-oom=on")


def _qemu(slot: Slot, kernel: str, initrd: str) -> list[str]:
    return ["qemu-system-x86_64", "-M", "microvm,acpi=on,pcie=on", "-enable-kvm", "-cpu", "host", "-m", str(slot.memory), "-smp", "1",
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
            "-kernel", kernel, "-initrd", initrd, "-append", WORDS,
            "-drive", f"if=none,id=disk,format=raw,file={slot.disk},readonly=on,cache=none", "-device", "virtio-blk-pci,drive=disk",
            "-netdev", f"tap,id=net,ifname={slot.tap},script=no,downscript=no",
            "-device", f"virtio-net-pci,netdev=net,mac={slot.mac},romfile=",
            "-device", "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on"]  # fmt: skip


def _firecracker(slot: Slot, kernel: str, initrd: str) -> list[str]:
    """Its configuration is a file."""
    config = {
        "boot-source": {"kernel_image_path": kernel, "initrd_path": initrd, "boot_args": f"{WORDS} reboot=k panic=1"},
        "drives": [{"drive_id": "disk", "path_on_host": slot.disk, "is_root_device": False, "is_read_only": True}],
        "machine-config": {"vcpu_count": 1, "mem_size_mib": slot.memory},
        "network-interfaces": [{"iface_id": "net", "host_dev_name": slot.tap, "guest_mac": slot.mac}],
        "balloon": {"amount_mib": 0, "deflate_on_oom": True},
    }
    file = f"{HOME}/{slot.tap}.json"
    return ["sh", "-c", f'echo "$0" >{file}; exec firecracker --no-api --enable-pci --config-file {file}', json.dumps(config)]


def _cloud_hypervisor(slot: Slot, kernel: str, initrd: str) -> list[str]:
    return ["cloud-hypervisor", "--kernel", kernel, "--initramfs", initrd, "--cmdline", WORDS, "--cpus", "boot=1",
            "--memory", f"size={slot.memory}M", "--disk", f"path={slot.disk},readonly=on,direct=on",
            "--net", f"tap={slot.tap},mac={slot.mac}", "--serial", "tty", "--console", "off",
            "--balloon", "size=0,deflate_on_oom=on,free_page_reporting=on"]  # fmt: skip


@dataclass(frozen=True)
class Rival:
    program: str  # looked for on PATH
    command: Callable[[Slot, str, str], list[str]]

    def here(self) -> bool:
        return shutil.which(self.program) is not None

    def peer(self, slot: Slot):
        """As vm.Guest wants it, of what stage() has brought."""
        return lambda _kernel, _initrd: self.command(slot, f"{HOME}/vmlinux", f"{HOME}/initrd")


def stage(lab: ExperimentLab) -> None:
    """The guest's kernel, unpacked, as duet has it after its first start; unpacking is most of a start otherwise. In the host's
    memory, where no monitor pays for it."""
    lab.shell(f"cp {lab.path(images.vmlinux(KERNEL))} {HOME}/vmlinux; cp {lab.path(initrd_of_guest())} {HOME}/initrd")


RIVALS = {
    "QEMU": Rival("qemu-system-x86_64", _qemu),
    "Firecracker": Rival("firecracker", _firecracker),
    "Cloud Hypervisor": Rival("cloud-hypervisor", _cloud_hypervisor),
}
