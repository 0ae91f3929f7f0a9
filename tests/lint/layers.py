#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that each folder of src/ includes only what the table in docs/architecture.md allows it, and
keeps to the rules that belong to one layer alone."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TABLE = ROOT / "docs" / "architecture.md"


def layers() -> dict[str, list[str]]:
    """Each folder and the folders it may include, besides itself: the document's table."""
    found: dict[str, list[str]] = {}
    for folder, may in re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", TABLE.read_text(), re.MULTILINE):
        names = [name.strip() for name in may.split(",") if name.strip()]
        found[folder] = list(found) if names == ["all above"] else names
    return found


LAYERS = layers()

# What only some folders may do: a pattern, who may, and why.
RULES = [
    (r"\bioctl\s*\([^;]*\bKVM_", {"kvm"}, "KVM ioctls belong to src/kvm"),
    (r"\bioctl\s*\([^;]*\bVFIO_", {"vfio"}, "VFIO ioctls belong to src/vfio"),
    (r"\bVHOST_(SET|GET|RESET|NET)_[A-Z]", {"backend"}, "vhost ioctls belong to src/backend"),
    (r"\b_?exit\s*\(", {"backend"}, "only main() and a forked child end the process"),
    (r"\bassert\s*\(", set(), "a fault of the guest is an error, not an assert"),
    (r"\babort\s*\(", set(), "a fault is an error, not an abort"),
]


def strip_comments(text: str) -> str:
    """The code alone; lines keep their numbers."""
    def blank(match: re.Match) -> str:
        return re.sub(r"[^\n]", " ", match.group())
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"(?!.*\n?#)', lambda m: m.group()
                  if m.group().startswith('"') else blank(m), text, flags=re.DOTALL)


def check_file(path: Path, layer: str) -> list[str]:
    text = path.read_text()
    code = strip_comments(text)
    where = path.relative_to(ROOT)
    found = []
    for number, line in enumerate(code.splitlines(), 1):
        include = re.match(r'\s*#\s*include\s+"([a-z0-9_]+)/', line)
        if include:
            target = include.group(1)
            if target in LAYERS and target != layer and target not in LAYERS[layer]:
                found.append(f"{where}:{number}: {layer}/ may not include {target}/")
    for pattern, allowed, why in RULES:
        if layer in allowed:
            continue
        for match in re.finditer(pattern, code):
            number = code.count("\n", 0, match.start()) + 1
            found.append(f"{where}:{number}: {why}")
    if not text.startswith("/* SPDX-License-Identifier: Apache-2.0 */"):
        found.append(f"{where}:1: the first line names the licence")
    return found


def main() -> int:
    found = [f"docs/architecture.md: {folder}/ may use {name}/, which is not in the table"
             for folder, names in LAYERS.items() for name in names if name not in LAYERS]
    if not LAYERS:
        found.append("docs/architecture.md: no table of layers")
    for layer in sorted(p.name for p in (ROOT / "src").iterdir() if p.is_dir()):
        if layer not in LAYERS:
            found.append(f"src/{layer}: not in the layer table")
            continue
        for path in sorted((ROOT / "src" / layer).rglob("*.[ch]")):
            found += check_file(path, layer)
    for line in found:
        print(line)
    if not found:
        print("layers: ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
