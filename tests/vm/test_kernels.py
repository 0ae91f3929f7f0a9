# SPDX-License-Identifier: Apache-2.0
"""Kernels that are not built as Debian's, and programs that are no kernels."""

import re
import struct

from duetlab.base import debian
from duetlab.guest import images, vm

VIRTUAL = 0xffffffff80000000


def test_vmlinux_with_a_virtual_entry(workspace):
    """e_entry as kernels of other systems have it: only the PVH note tells where to go."""
    kernel, initrd = workspace / "vmlinux", images.initrd("6.1-cloud", "base", "echo entered by its note")
    image = bytearray(images.vmlinux("6.1-cloud").read_bytes())
    entry = struct.unpack_from("<Q", image, 24)[0]
    struct.pack_into("<Q", image, 24, VIRTUAL | entry)
    kernel.write_bytes(image)
    with vm.Guest(peer=lambda *_: [str(vm.DUET), "run", "--kernel", str(kernel), "--initrd", str(initrd), "--cache",
                                   "off"]) as guest:
        assert "entered by its note" in guest.succeed()


def test_memtest86(workspace):
    """Debian's memtest86+ 6 draws its screen on the serial port and tests memory."""
    package = debian.download("memtest86+", debian.host_codename(), workspace)
    debian.extract(package, workspace / "files")
    program = workspace / "files" / "boot" / "memtest86+x64.bin"
    for unpack in ("guest", "host"):
        with vm.Guest(peer=lambda *_, unpack=unpack: [
                str(vm.DUET), "run", "--kernel", str(program), "--kernel-unpack", unpack, "--irqchip", "kernel",
                "--memory", "64M", "--cmdline", "console=ttyS0,115200"]) as guest:
            guest.wait_for(re.escape("Memtest86+"))
            guest.wait_for("Pass")
