# SPDX-License-Identifier: Apache-2.0
"""Debian's stock kernels and initramfs images for test guests, kept in the cache.

Every function gives the path of a ready file and builds what is missing. Names
of built images carry a hash of all that went into them, so none is ever stale."""

import dataclasses
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

from ..base import cpio, debian, packages
from ..base.cache import cache_dir, lock, write_atomically
from ..base.paths import LAB
from ..base.progress import step
from . import bzimage, checked

SCRIPTS = LAB / "initramfs"
OVERLAY_MAX_AGE = 7 * 24 * 3600


class GuestError(Exception):
    """A message for the user: what failed, and what to do about it."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A Debian kernel: its series, its metapackage, and the suites to look in."""

    series: str
    metapackage: str
    suites: tuple[str, ...]


KERNELS = {
    "6.1-cloud": Kernel("6.1", "linux-image-cloud-amd64", ("bookworm",)),
    "6.1-amd64": Kernel("6.1", "linux-image-amd64", ("bookworm",)),
    "6.12-cloud": Kernel("6.12", "linux-image-cloud-amd64", ("bookworm-backports", "trixie")),
    "6.12-amd64": Kernel("6.12", "linux-image-amd64", ("bookworm-backports", "trixie")),
}

MINIMAL_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng")

# Those that a flavour lacks or has built in are left out.
BASE_MODULES = MINIMAL_MODULES + (
    "virtio_balloon",
    "virtio_iommu",
    "virtio_mem",
    "virtio_pmem",
    "virtio_scsi",
    "virtiofs",
    "vmw_vsock_virtio_transport",
    "nd_pmem",
    "af_packet",
    "e1000",
    "igbvf",
    "ahci",
    "ata_piix",
    "sd_mod",
    "nvme",
    "ext4",
    # The kernel asks for these by the name of an algorithm, for ext4 and SCSI.
    "crc32c_intel",
    "crc32c_generic",
    "crct10dif_pclmul",
    "crct10dif_generic",
    "ptp_kvm",
    "button",
    "i8042",
    "atkbd",
    "evdev",
    "msr",
    "cpuid",
)

# busybox reads the text, kmod in the Debian root image the binary form.
INDEXES = ("modules.dep", "modules.alias", "modules.builtin", "modules.symbols") + tuple(
    f"modules.{name}.bin" for name in ("dep", "alias", "builtin", "symbols")
)

IMAGES = {"base": BASE_MODULES, "minimal": MINIMAL_MODULES}


def _guests_dir(name: str) -> Path:
    path = cache_dir() / "guests" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def _run(command: list[str]) -> str:
    env = dict(os.environ, PATH=os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin")
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise GuestError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout


# Kernels


def _described(name: str) -> Kernel:
    if name not in KERNELS:
        raise GuestError(f"no kernel {name!r}; there are: {', '.join(KERNELS)}")
    return KERNELS[name]


def _newest(name: str) -> tuple[str, str]:
    """The package that holds the kernel today, and its suite."""
    wanted = _described(name)
    problems = []
    for suite in wanted.suites:
        try:
            package = debian.resolve(wanted.metapackage, suite)
        except debian.DebianError as error:
            problems.append(str(error))
            continue
        if package.startswith(f"linux-image-{wanted.series}."):
            return package, suite
        problems.append(f"{suite} has {package}")
    raise GuestError(f"kernel {name}: " + "; ".join(problems))


def _unpack_kernel(package: str, suite: str, dest: Path) -> None:
    """Lay the package out as the directory of a kernel."""
    debian.install_missing(["kmod", "lz4", "zstd"])
    raw = dest / "raw"
    deb = debian.download(package, suite, raw)
    with step(f"unpack {package}"):
        debian.extract(deb, raw)
        release = next((raw / "boot").glob("vmlinuz-*")).name.removeprefix("vmlinuz-")
        (raw / "boot" / f"vmlinuz-{release}").rename(dest / "vmlinuz")
        (raw / "boot" / f"config-{release}").rename(dest / "config")
        merged = raw / "usr" / "lib" / "modules"
        modules = dest / "modules" / "lib"
        modules.mkdir(parents=True)
        (merged if merged.is_dir() else raw / "lib" / "modules").rename(modules / "modules")
        _run(["depmod", "-b", str(dest / "modules"), release])
        (dest / "vmlinux").write_bytes(bzimage.unpack((dest / "vmlinuz").read_bytes()))
        (dest / "package").write_text(f"{package} {debian.version(package, suite)} {suite}\n")
        (dest / "release").write_text(release + "\n")
    shutil.rmtree(raw)


def _build_kernel(name: str, package: str, suite: str) -> None:
    home = _guests_dir("kernels")
    part = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=home))
    try:
        _unpack_kernel(package, suite, part)
        part.chmod(0o755)
        if (home / name).exists():
            (home / name).rename(part / "old")
        part.rename(home / name)
        shutil.rmtree(home / name / "old", ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def kernel_dir(name: str) -> Path:
    """The directory of a kernel: vmlinuz, vmlinux, release, config, modules/lib/modules/."""
    if name == checked.NAME:
        return checked.kernel_dir()
    _described(name)
    path = _guests_dir("kernels") / name
    if not (path / "release").exists():
        with lock(f"kernel-{name}"):
            if not (path / "release").exists():
                _build_kernel(name, *_newest(name))
    return path


def update_kernel(name: str) -> bool:
    """Replace the cached kernel if the archive has a newer one; tell whether it did."""
    held = kernel_dir(name) / "package"
    with lock(f"kernel-{name}"):
        package, suite = _newest(name)
        if held.read_text().split() == [package, debian.version(package, suite), suite]:
            return False
        _build_kernel(name, package, suite)
        return True


def kernel(name: str) -> Path:
    """The kernel as Debian ships it, a bzImage."""
    return kernel_dir(name) / "vmlinuz"


def vmlinux(name: str) -> Path:
    """The bzImage's payload: an ELF image, the relocation table after its end."""
    return kernel_dir(name) / "vmlinux"


def release(name: str) -> str:
    """What `uname -r` says in a guest."""
    return (kernel_dir(name) / "release").read_text().strip()


def built_release(name: str) -> str | None:
    """The same, or None if the kernel is not in the cache; builds nothing."""
    _described(name)
    path = _guests_dir("kernels") / name / "release"
    return path.read_text().strip() if path.exists() else None


# Modules


def _closure(tree: Path, wanted: tuple[str, ...]) -> list[str]:
    """The files of the modules wanted and of all they depend on."""
    needs = {}
    by_name = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        file, _, rest = line.partition(":")
        needs[file] = rest.split()
        by_name[_module_name(file)] = file
    files: set[str] = set()
    for name in wanted:
        if name in by_name:
            files.update([by_name[name], *needs[by_name[name]]])
    return sorted(files)


def _module_name(file: str) -> str:
    return Path(file).name.split(".ko")[0].replace("-", "_")


def _read_module(path: Path) -> bytes:
    """The module unpacked, so that the guest does not have to."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return zlib.decompress(data, 16 + zlib.MAX_WBITS)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout
    return data


def _stage_modules(name: str, wanted: tuple[str, ...], stage: Path) -> None:
    """Put the modules and their indexes below STAGE/lib/modules."""
    running = release(name)
    tree = kernel_dir(name) / "modules" / "lib" / "modules" / running
    target = stage / "lib" / "modules" / running
    target.mkdir(parents=True)
    for file in _closure(tree, wanted):
        unpacked = target / re.sub(r"\.ko\..*", ".ko", file)
        unpacked.parent.mkdir(parents=True, exist_ok=True)
        unpacked.write_bytes(_read_module(tree / file))
    for index in ("modules.builtin", "modules.order"):
        shutil.copy(tree / index, target)
    _run(["depmod", "-b", str(stage), running])
    for index in target.glob("modules.*"):
        if index.name not in INDEXES:
            index.unlink()


# Initramfs images


def digest(parts: list[bytes]) -> str:
    """A name for all of PARTS together."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little") + part)
    return total.hexdigest()[:16]


def _sources() -> list[bytes]:
    """All of ours that decides what an image holds."""
    files = [*sorted(SCRIPTS.iterdir()), Path(__file__), Path(cpio.__file__)]
    return [part for file in files for part in (file.name.encode(), file.read_bytes())]


def _base_archive(name: str, image: str) -> bytes:
    archive = cpio.Archive()
    for path in ("dev", "proc", "sys", "root", "etc", "mnt", "newroot", "run", "var"):
        archive.directory(path)
    archive.directory("tmp", 0o1777)
    archive.character_device("dev/console", 5, 1)
    archive.file("bin/busybox", packages.busybox().read_bytes(), 0o755)
    archive.link("bin/sh", "busybox")
    archive.link("sbin/modprobe", "../bin/busybox")  # the kernel's own requests
    archive.file("init", (SCRIPTS / "init").read_bytes(), 0o755)
    for script in ("duet-session", "duet-powerbutton"):
        archive.file(f"sbin/{script}", (SCRIPTS / script).read_bytes(), 0o755)
    if image != "minimal":
        # The shell finds applets by itself; other programs look for files.
        for applet in _run([str(packages.busybox()), "--list"]).split():
            if applet not in ("sh", "busybox"):
                archive.link(f"bin/{applet}", "busybox")
        script = (SCRIPTS / "udhcpc.script").read_bytes()
        archive.file("etc/udhcpc/default.script", script, 0o755)
        archive.link("etc/resolv.conf", "/run/resolv.conf")
        archive.file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n")
        archive.file("etc/group", b"root:x:0:\n")
    with tempfile.TemporaryDirectory() as stage:
        _stage_modules(name, IMAGES[image], Path(stage))
        archive.tree(Path(stage) / "lib", "lib")
    return archive.pack()


def _base(name: str, image: str) -> Path:
    if image not in IMAGES:
        raise GuestError(f"no image {image!r}; there are: {', '.join(IMAGES)}")
    package = (kernel_dir(name) / "package").read_bytes()
    key = digest([*_sources(), packages.busybox().read_bytes(), package, image.encode()])
    home = _guests_dir("initrd")
    path = home / f"{name}-{image}-{key}.cpio"
    if not path.exists():
        with lock(f"initrd-{name}-{image}"), step(f"initramfs {name} {image}"):
            if not path.exists():
                write_atomically(path, _base_archive(name, image))
                drop_old(home, f"{name}-{image}-*.cpio")
    return path


def drop_old(directory: Path, pattern: str) -> None:
    """Remove images that nothing has used for long."""
    for file in directory.glob(pattern):
        if time.time() - file.stat().st_mtime > OVERLAY_MAX_AGE:
            file.unlink(missing_ok=True)


def _overlay_archive(script: str | None, files: dict[str, bytes]) -> bytes:
    archive = cpio.Archive()
    for path, data in files.items():
        archive.file(path, data, 0o755)
    if script is not None:
        first = "" if script.startswith("#!") else "#!/bin/sh\n"
        archive.file("test.sh", (first + script).encode(), 0o755)
    return archive.pack()


def initrd(
    name: str,
    image: str = "base",
    script: str | None = None,
    files: dict[str, bytes] | None = None,
) -> Path:
    """An initramfs for the kernel NAME, uncompressed.

    The guest runs SCRIPT and powers off, or gives a shell without one. FILES
    (path to content, all executable) are put in as well; those below /run are
    still there when the guest goes on in the Debian root image."""
    base = _base(name, image)
    if script is None and not files:
        os.utime(base)
        return base
    overlay = _overlay_archive(script, files or {})
    home = _guests_dir("overlays")
    path = home / f"{name}-{digest([base.name.encode(), overlay])}.cpio"
    if path.exists():
        os.utime(path)
        return path
    write_atomically(path, base.read_bytes() + overlay)
    drop_old(home, "*.cpio")
    return path
