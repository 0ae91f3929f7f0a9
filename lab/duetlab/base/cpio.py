# SPDX-License-Identifier: Apache-2.0
"""A writer of cpio archives in the `newc` format, which the kernel unpacks as initramfs.

The same entries always give the same bytes: sorted, numbered in that order,
owned by root, dated 0."""

import dataclasses
import stat
from pathlib import Path

ALIGN = 512  # archives may be put one after another; the kernel asks for 4
FIELDS = "070701" + "{:08X}" * 13


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file, directory, link or device; for a link the data is its target."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


class Archive:
    """Collects entries by absolute path; parent directories come by themselves."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def _add(self, path: str, entry: Entry) -> None:
        parts = path.strip("/").split("/")
        if "" in parts or "." in parts or ".." in parts or "\0" in path:
            raise ValueError(f"{path!r}: not a plain path inside an archive")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            held = self._entries.setdefault(parent, Entry(stat.S_IFDIR | 0o755))
            if not stat.S_ISDIR(held.mode):
                raise ValueError(f"/{parent}: holds /{'/'.join(parts)} but is not a directory")
        self._entries["/".join(parts)] = entry

    def directory(self, path: str, mode: int = 0o755) -> None:
        self._add(path, Entry(stat.S_IFDIR | mode))

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._add(path, Entry(stat.S_IFREG | mode, data))

    def link(self, path: str, target: str) -> None:
        self._add(path, Entry(stat.S_IFLNK | 0o777, target.encode()))

    def character_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        self._add(path, Entry(stat.S_IFCHR | mode, device=(major, minor)))

    def tree(self, top: Path, path: str) -> None:
        """Add the regular files below TOP under PATH."""
        for file in sorted(top.rglob("*")):
            if file.is_file():
                executable = 0o111 if file.stat().st_mode & 0o100 else 0
                name = f"{path}/{file.relative_to(top)}"
                self.file(name, file.read_bytes(), 0o644 | executable)

    def pack(self) -> bytes:
        # A directory's name is a prefix of its members': sorting by the parts of
        # the path puts it before them.
        names = sorted(self._entries, key=lambda name: name.split("/"))
        chunks = [_member(i + 1, n, self._entries[n]) for i, n in enumerate(names)]
        chunks.append(_member(0, "TRAILER!!!", Entry(0)))
        return _padded(b"".join(chunks), ALIGN)


def _padded(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)


def _member(inode: int, name: str, entry: Entry) -> bytes:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    header = FIELDS.format(
        inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(encoded), 0
    )
    return _padded(header.encode() + encoded, 4) + _padded(entry.data, 4)
