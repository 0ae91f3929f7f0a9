# SPDX-License-Identifier: Apache-2.0
"""The headers of Debian's stock kernels, kept in the cache, to build modules against.

The packages expect to lie in /usr; here each kernel's lie in a directory of their
own, with the paths in them rewritten, so that nothing is installed."""

import os
import re
import shutil
import tempfile
from pathlib import Path

from ..base import debian
from ..base.cache import cache_dir, lock
from ..base.progress import step
from . import checked, images

# What kbuild itself needs of the system, beside a compiler.
TOOLS = ["make", "gcc-12", "libelf1", "libc6-dev"]


def _depends(package: str, suite: str) -> list[str]:
    """The packages of headers and build tools that a kernel's headers need."""
    found = [name for name in debian.depends(package, suite) if _is_part(name)]
    if len(found) < 2:
        raise images.GuestError(f"{package} of {suite} does not name its common headers and kbuild")
    return found


def _is_part(name: str) -> bool:
    return bool(re.fullmatch(r"linux-headers-.*-common|linux-kbuild-.*", name))


def _relocate(root: Path) -> None:
    """Make what points into /usr point into ROOT/usr."""
    for path in root.rglob("*"):
        if path.is_symlink():
            target = os.readlink(path)
            if target.startswith("/usr/"):
                path.unlink()
                path.symlink_to(str(root) + target)
    for makefile in (root / "usr" / "src").glob("linux-headers-*/Makefile"):
        text = makefile.read_text()
        makefile.write_text(re.sub(r"(?<![\w/])/usr/(src|lib)/", rf"{root}/usr/\1/", text))


def _build(name: str, home: Path, package: str, suite: str) -> None:
    debian.install_missing(TOOLS)
    part = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=home.parent))
    try:
        for wanted in (package, *_depends(package, suite)):
            debian.extract(debian.download(wanted, suite, part / "raw"), part)
        shutil.rmtree(part / "raw")
        part.chmod(0o755)
        shutil.rmtree(home, ignore_errors=True)
        part.rename(home)
        with step(f"headers of {name}"):
            _relocate(home)
        (home / "package").write_text(f"{package}\n")
    finally:
        shutil.rmtree(part, ignore_errors=True)


def headers_dir(name: str) -> Path:
    """The directory to give make as KERNELDIR for modules of the kernel NAME."""
    if name == checked.NAME:
        checked.kernel_dir()
        return checked.tree()
    image, _, suite = (images.kernel_dir(name) / "package").read_text().split()
    package = image.replace("linux-image-", "linux-headers-", 1)
    home = cache_dir() / "guests" / "headers" / name
    home.parent.mkdir(parents=True, exist_ok=True)
    with lock(f"headers-{name}"):
        held = home / "package"
        if not held.exists() or held.read_text().strip() != package:
            _build(name, home, package, suite)
    return home / "usr" / "src" / package
