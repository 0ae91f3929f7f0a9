#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that what docs/adding-a-device.md shows as C is what the sources say: who follows it copies it.

  tests/lint/quotes.py          each C block stands in the file that the text before it names last
  tests/lint/quotes.py --mend   writes them anew, each from its first line to the next that is its last"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "adding-a-device.md"
BLOCK = re.compile(r"^```c\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The example is a device; a title that says NAME means its file.
SOURCE = re.compile(r"`(src/[\w/]+\.[ch])`")


def source_of(before: str) -> Path | None:
    named = SOURCE.findall(before)
    return ROOT / named[-1].replace("NAME", "entropy") if named else None


def quote(block: str, source: str) -> str | None:
    """What stands in the source from the block's first line to the next that is its last; None: nothing does."""
    lines, wanted = source.splitlines(keepends=True), block.splitlines(keepends=True)
    if wanted[0] not in lines:
        return None
    start = lines.index(wanted[0])
    if len(wanted) == 1:
        return wanted[0]
    if wanted[-1] not in lines[start + 1:]:
        return None
    return "".join(lines[start:lines.index(wanted[-1], start + 1) + 1])


def check(page: str, root: Path = ROOT) -> list[str]:
    """A line for each block that its source does not have."""
    found = []
    for match in BLOCK.finditer(page):
        path = source_of(page[:match.start()])
        line = page.count("\n", 0, match.start()) + 1
        if not path:
            found.append(f"{line}: no file under src/ is named before this block")
        elif f"\n{match.group(1)}" not in "\n" + (root / path.relative_to(ROOT)).read_text():
            found.append(f"{line}: {path.relative_to(ROOT)} has other lines; tests/lint/quotes.py --mend")
    return found


def mend(page: str) -> str:
    def anew(match: re.Match) -> str:
        path = source_of(page[:match.start()])
        text = quote(match.group(1), path.read_text()) if path else None
        return f"```c\n{text}```" if text else match.group()
    return BLOCK.sub(anew, page)


def main() -> int:
    page = PAGE.read_text()
    if sys.argv[1:] == ["--mend"]:
        page = mend(page)
        PAGE.write_text(page)
    found = check(page)
    for line in found:
        print(f"{PAGE.relative_to(ROOT)}:{line}")
    if not BLOCK.search(page):
        print(f"{PAGE.relative_to(ROOT)}:1: shows no C at all")
        return 1
    if not found:
        print("quotes: ok")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
