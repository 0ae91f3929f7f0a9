# SPDX-License-Identifier: Apache-2.0
"""The lab host's kernel (Debian's linux-image-amd64) and its initramfs."""

import lzma
import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..base import cpio, debian, packages
from ..base.errors import LabError

# Loaded before the machine's own root is there, with what they depend on.
EARLY = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
# Loaded once it is, by its modprobe.
LATE = (
    "virtio_blk ext4 kvm_amd tun vhost_net vfio-pci vfio_iommu_type1 bridge "
    "nvme igb loop virtio_balloon"
).split()


@dataclass(frozen=True)
class Kernel:
    release: str
    image: Path
    modules: Path  # the directory that holds RELEASE/


def find() -> Kernel:
    """Debian's linux-image-amd64, from backports on Debian 12 when reachable."""
    suite = packages.newer_suite()
    tree = packages.extracted("linux-image-amd64", suite, meta=True)
    image = next((tree / "boot").glob("vmlinuz-*"))
    modules = next(
        path for path in (tree / "usr/lib/modules", tree / "lib/modules") if path.is_dir()
    )
    kernel = Kernel(image.name.removeprefix("vmlinuz-"), image, modules)
    if not os.path.exists("/sbin/modprobe"):  # the lab host uses the machine's
        debian.install_missing(["kmod"])
    _depmod(tree, kernel)
    return kernel


def _depmod(tree: Path, kernel: Kernel) -> None:
    if (kernel.modules / kernel.release / "modules.dep").exists():
        return
    if not (tree / "lib").exists():
        (tree / "lib").symlink_to("usr/lib")
    command = ["/sbin/depmod", "-b", str(tree), kernel.release]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise LabError(f"{' '.join(command)}: {result.stderr.strip()}")


# The initramfs


def _in_order(kernel: Kernel, wanted: tuple[str, ...]) -> list[Path]:
    """Module files in an order in which insmod accepts them.

    A name that the kernel has built in is left out."""
    base = kernel.modules / kernel.release
    depends: dict[str, tuple[Path, list[str]]] = {}
    for line in (base / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        depends[_name(path)] = (base / path, [_name(other) for other in rest.split()])
    found: list[Path] = []

    def add(name: str) -> None:
        if name not in depends:
            return
        path, others = depends[name]
        for other in reversed(others):  # modules.dep lists the deepest last
            add(other)
        if path not in found:
            found.append(path)

    for name in wanted:
        add(name.replace("-", "_"))
    return found


def _name(path: str) -> str:
    return re.sub(r"\.ko(\.\w+)?$", "", path.rsplit("/", 1)[-1]).replace("-", "_")


def _plain(path: Path) -> bytes:
    """The module's ELF file; busybox unpacks none."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
    return data


def initramfs(kernel: Kernel, script: Path, settings: dict[str, str]) -> bytes:
    """An image that runs SCRIPT as init; it finds SETTINGS in /config."""
    modules = _in_order(kernel, EARLY)
    config = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    archive = cpio.Archive()
    for name in ("dev", "proc", "sys"):
        archive.directory(name)
    archive.file("bin/busybox", packages.busybox().read_bytes(), 0o755)
    for path in modules:
        archive.file(f"modules/{_name(str(path))}.ko", _plain(path))
    order = "".join(f"{_name(str(path))}.ko\n" for path in modules)
    archive.file("modules/order", order.encode())
    archive.file("config", config.encode())
    archive.file("init", script.read_bytes(), 0o755)
    return archive.pack()
