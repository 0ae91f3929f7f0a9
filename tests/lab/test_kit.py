# SPDX-License-Identifier: Apache-2.0
"""The guest kit's packages: what is in them, and that DKMS can build the module from its own."""

import subprocess

import pytest
from calls import REPOSITORY

from duetlab.base import debian
from duetlab.guest import headers, images

KERNEL = "6.12-amd64"
EXPECTED = {
    "duet-dkms": ("usr/src/duet-*/dkms.conf", "usr/src/duet-*/include/duet/coop.h"),
    "libduet": ("usr/lib/libduet.so.0", "usr/include/duet/*.h", "usr/share/man/man*/*"),
    "duet-guestd": ("usr/sbin/duet-guestd", "usr/lib/systemd/system/duet-guestd.service",
                    "usr/share/man/man8/duet-guestd.8.gz"),
}


def run(*command) -> str:
    result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """All packages, built and unpacked over each other, as an installation has them."""
    built, root = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("root")
    run(REPOSITORY / "guest" / "packages", built)
    files: list[str] = []
    for name, wanted in EXPECTED.items():
        package = next(built.glob(f"{name}_*.deb"))
        files += run("sh", "-c", f"dpkg-deb --fsys-tarfile {package} | tar t").split()
        debian.extract(package, root)
        for pattern in wanted:
            assert list(root.glob(pattern)), f"{name} has no {pattern}"
    twice = {file for file in files if files.count(file) > 1 and not file.endswith("/")}
    assert not twice, "in two packages"
    return root


def test_packages(unpacked):
    assert "usage" in subprocess.run([unpacked / "usr/sbin/duet-guestd", "--nonsense"], text=True,
                                     capture_output=True, check=False).stderr


def test_dkms(unpacked, tmp_path):
    """As it would on an installed system, with all that it would write below a directory."""
    debian.extract(debian.download("dkms", "bookworm", tmp_path), tmp_path)
    source = next((unpacked / "usr" / "src").glob("duet-*"))
    (tmp_path / "tree").mkdir()
    run(tmp_path / "usr/sbin/dkms", "build", "-m", "duet", "-v", source.name.removeprefix("duet-"),
        "-k", images.release(KERNEL), "--kernelsourcedir", headers.headers_dir(KERNEL),
        "--sourcetree", source.parent, "--dkmstree", tmp_path / "tree", "--no-depmod")
    module = next((tmp_path / "tree").rglob("duet.ko*"))
    assert f"vermagic:       {images.release(KERNEL)} " in run("/sbin/modinfo", module)
