# SPDX-License-Identifier: Apache-2.0
"""What the guest images are made of, tested without a guest."""

import gzip
import lzma
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "lab"))

from duetlab.base import cache, debian  # noqa: E402
from duetlab.base.cpio import Archive  # noqa: E402
from duetlab.guest import bzimage, checked, images  # noqa: E402


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DUET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# cpio


def unpacked(data: bytes, where: Path) -> Path:
    """Unpacked by the cpio program, as a second opinion on the format."""
    where.mkdir()
    subprocess.run(["cpio", "-idm", "--quiet"], cwd=where, input=data, check=True)
    return where


def test_cpio_program_reads_the_archive(tmp_path):
    archive = Archive()
    archive.file("/etc/hosts", b"odd", 0o640)
    archive.file("bin/tool", b"#!/bin/sh\n", 0o755)
    archive.link("bin/sh", "busybox")
    archive.directory("tmp", 0o1777)
    top = unpacked(archive.pack(), tmp_path / "top")
    assert (top / "etc/hosts").read_bytes() == b"odd"
    assert (top / "etc/hosts").stat().st_mode & 0o7777 == 0o640
    assert os.access(top / "bin/tool", os.X_OK)
    assert os.readlink(top / "bin/sh") == "busybox"
    assert (top / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_archive_is_reproducible_whatever_the_order():
    one, two = Archive(), Archive()
    one.file("a/x", b"1")
    one.file("a.b", b"2")
    two.file("a.b", b"2")
    two.file("a/x", b"1")
    assert one.pack() == two.pack()


def test_directories_come_before_their_members():
    archive = Archive()
    for name in ("a-b/c", "a/z", "a.d/e"):
        archive.file(name, b"")
    listing = subprocess.run(
        ["cpio", "-t", "--quiet"], input=archive.pack(), capture_output=True, check=True
    )
    names = listing.stdout.decode().split()
    for name in names:
        parent = os.path.dirname(name)
        assert not parent or names.index(parent) < names.index(name)


def test_device_numbers_and_alignment():
    archive = Archive()
    archive.character_device("dev/console", 5, 1)
    data = archive.pack()
    assert len(data) % 512 == 0
    start = data.index(b"dev/console\0") - 110
    assert start % 4 == 0
    fields = [int(data[start + 6 + 8 * i : start + 14 + 8 * i], 16) for i in range(13)]
    assert fields[1] == 0o020600 and fields[9:11] == [5, 1]


@pytest.mark.parametrize("path", ["", "/", "a//b", "../x", "a/./b", "a\0b"])
def test_path_that_leaves_the_archive_is_refused(path):
    with pytest.raises(ValueError):
        Archive().file(path, b"")


def test_file_cannot_hold_files():
    archive = Archive()
    archive.file("a", b"")
    with pytest.raises(ValueError):
        archive.file("a/b", b"")


# bzImage

KERNEL = b"\x7fELF" + bytes(range(256)) * 64


def make_image(packed: bytes, length: int = len(KERNEL), protocol: int = 0x20F) -> bytes:
    body = packed if packed.startswith(b"\x1f\x8b") else packed + struct.pack("<I", length)
    image = bytearray(3 * 512 + 64)
    image[0x1F1] = 2
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, protocol)
    struct.pack_into("<II", image, 0x248, 64, len(body))
    return bytes(image) + body + bytes(100)


def packed_by(command: list[str]) -> bytes:
    return subprocess.run(command, input=KERNEL, capture_output=True, check=True).stdout


@pytest.mark.parametrize("method", ["gzip", "xz", "zstd", "lz4"])
def test_unpack_each_method(method):
    packed = {
        "gzip": lambda: gzip.compress(KERNEL),
        "xz": lambda: lzma.compress(KERNEL),
        "zstd": lambda: packed_by(["zstd", "-c"]),
        "lz4": lambda: packed_by(["lz4", "-l", "-c"]),
    }[method]()
    assert bzimage.unpack(make_image(packed)) == KERNEL


@pytest.mark.parametrize(
    "image, words",
    [
        (b"", "not a bzImage"),
        (bytes(4096), "not a bzImage"),
        (make_image(gzip.compress(KERNEL))[:1700], "truncated"),
        (make_image(lzma.compress(KERNEL), length=5), "corrupt"),
        (make_image(gzip.compress(KERNEL), protocol=0x207), "protocol"),
        (make_image(b"unknown packing"), "not known"),
        (make_image(lzma.compress(b"text"), length=4), "no ELF"),
        (make_image(lzma.compress(KERNEL)[:6] + bytes(50)), "payload"),
        (make_image(b"\x1f\x8b\x08" + bytes(50)), "payload"),
    ],
)
def test_bad_image_is_refused_with_a_reason(image, words):
    with pytest.raises(bzimage.BzImageError, match=words):
        bzimage.unpack(image)


# The machine's apt sources


def write_sources(directory: Path) -> Path:
    (directory / "sources.list.d").mkdir(parents=True)
    (directory / "sources.list").write_text(
        "# deb http://off.test/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://one.test/debian bookworm main contrib # x\n"
        "deb-src http://src.test/debian bookworm main\n"
    )
    (directory / "sources.list.d/a.sources").write_text(
        "Types: deb\n# a remark\nURIs: http://two.test/debian\n"
        "Suites: bookworm\n bookworm-updates\nComponents: main\n"
        "\n\nEnabled: no\nTypes: deb\nURIs: http://three.test/debian\nSuites: x\nComponents: main\n"
    )
    return directory


def test_sources_in_both_formats(tmp_path):
    found = debian.machine_sources(write_sources(tmp_path / "apt"))
    assert [source.uri for source in found] == ["http://one.test/debian", "http://two.test/debian"]
    assert found[0].signed_by == "/k.gpg" and found[0].components == ("main", "contrib")
    assert found[1].suites == ("bookworm", "bookworm-updates")


@pytest.mark.parametrize("suite", ["", "../etc", "a b", "Bookworm\nURIs: x"])
def test_suite_name_is_checked(suite):
    with pytest.raises(debian.DebianError, match="not the name"):
        debian.resolve("hello", suite)


# Images


def fake_kernel(own_cache: Path) -> None:
    """A kernel of two tiny modules, one of which is packed and needs the other."""
    home = own_cache / "guests/kernels/6.1-cloud"
    tree = home / "modules/lib/modules/1.0"
    tree.mkdir(parents=True)
    (tree / "virtio-rng.ko.xz").write_bytes(lzma.compress(b"rng"))
    (tree / "virtio.ko").write_bytes(b"virtio")
    (tree / "other.ko").write_bytes(b"other")
    (tree / "modules.dep").write_text("virtio-rng.ko.xz: virtio.ko\nvirtio.ko:\nother.ko:\n")
    (tree / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    (tree / "modules.order").write_text("")
    (home / "release").write_text("1.0\n")
    (home / "package").write_text("linux-image-1.0 1.0-1 bookworm\n")
    (own_cache / "guests/busybox").mkdir()
    (own_cache / "guests/busybox/busybox").write_bytes(Path("/bin/true").read_bytes())


@pytest.fixture
def kernel(own_cache, monkeypatch):
    fake_kernel(own_cache)
    run = images._run
    listed = lambda command: "sh\nls\n" if command[-1] == "--list" else run(command)  # noqa: E731
    monkeypatch.setattr(images, "_run", listed)
    (own_cache / "guests/busybox/busybox").chmod(0o755)
    return "6.1-cloud"


def test_image_has_unpacked_modules_with_what_they_need(kernel, tmp_path):
    top = unpacked(images.initrd(kernel).read_bytes(), tmp_path / "top")
    modules = top / "lib/modules/1.0"
    assert (modules / "virtio-rng.ko").read_bytes() == b"rng"
    assert (modules / "virtio.ko").read_bytes() == b"virtio"
    assert not (modules / "other.ko").exists()
    assert os.access(top / "init", os.X_OK)
    assert os.readlink(top / "bin/ls") == "busybox"


def test_script_and_files_follow_the_base(kernel, tmp_path):
    base = images.initrd(kernel).read_bytes()
    whole = images.initrd(kernel, script="exit 3\n", files={"/run/data/x": b"1"}).read_bytes()
    assert whole.startswith(base)
    top = unpacked(whole[len(base) :], tmp_path / "top")
    assert (top / "test.sh").read_text() == "#!/bin/sh\nexit 3\n"
    assert (top / "run/data/x").read_bytes() == b"1"


def test_path_follows_content(kernel, own_cache):
    one = images.initrd(kernel, script="true\n")
    assert images.initrd(kernel, script="true\n") == one
    assert images.initrd(kernel, script="false\n") != one
    (own_cache / "guests/busybox/busybox").write_bytes(Path("/bin/false").read_bytes())
    assert images.initrd(kernel, script="true\n") != one


@pytest.mark.parametrize("name, image", [("6.0", "base"), ("6.1-cloud", "huge")])
def test_unknown_names_list_the_known(kernel, name, image):
    with pytest.raises(images.GuestError, match="there are: "):
        images.initrd(name, image)


def test_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("DUET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_dir() == tmp_path / "xdg/duet"


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    target = tmp_path / "x"
    target.write_bytes(b"old")
    with pytest.raises(TypeError):
        cache.write_atomically(target, None)
    assert target.read_bytes() == b"old" and list(tmp_path.glob(".x*")) == []


# The kernel that checks itself


def refuse(*_words):
    raise debian.DebianError("no archive")


def test_kernel_that_cannot_be_had(monkeypatch):
    monkeypatch.setattr(debian, "install_missing", lambda _packages: None)
    monkeypatch.setattr(debian, "download", refuse)
    with pytest.raises(debian.DebianError, match="no archive"):
        checked.fetch()
    assert not checked.tree().exists()


def test_kernel_that_is_built_needs_no_archive(monkeypatch):
    monkeypatch.setattr(debian, "install_missing", refuse)
    checked.tree().parent.mkdir(parents=True)
    (checked.tree().parent / "release").write_text("6.1.0-made-up\n")
    assert images.release(checked.NAME) == "6.1.0-made-up"


def test_option_that_the_kernel_does_not_take_is_named(monkeypatch):
    wanted = [line for line in checked.CONFIG.read_text().splitlines() if line.startswith("CONFIG_")]
    checked.tree().mkdir(parents=True)
    (checked.tree() / ".config").write_text("\n".join(wanted[1:]))
    monkeypatch.setattr(checked, "_run", lambda _command, _place: None)
    with pytest.raises(debian.DebianError, match=wanted[0].split("=")[0]):
        checked._configure()


# The command line


def run_guests(*words: str) -> subprocess.CompletedProcess:
    command = [str(REPO / "lab/guests"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_list_builds_nothing(own_cache):
    result = run_guests("list")
    assert result.returncode == 0
    assert result.stdout.count("not built") == len(images.KERNELS) + 3  # rootfs, system, node


@pytest.mark.parametrize(
    "words, status, said",
    [
        (["nonsense"], 2, "invalid choice"),
        (["path", "kernel", "5.0"], 2, "6.1-cloud"),
        (["initrd", "6.1-cloud", "--script", "/nonexistent"], 1, "/nonexistent"),
        (["initrd", "6.1-cloud", "--file", "x=/etc/passwd"], 1, "--file"),
    ],
)
def test_bad_command_line(words, status, said):
    result = run_guests(*words)
    assert result.returncode == status and said in result.stderr
    assert "Traceback" not in result.stderr
