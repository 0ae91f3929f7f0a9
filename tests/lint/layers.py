#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that each folder of src/ includes only what the table in docs/architecture.md allows it, and
keeps to the rules that belong to one layer alone; and the same of lab/duetlab's imports by the table in
docs/lab.md, where no module may lead back to itself."""

import ast
import graphlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TABLE = ROOT / "docs" / "architecture.md"
PYTHON_TABLE = ROOT / "docs" / "lab.md"
LAB = ROOT / "lab"


def layers(table: Path) -> dict[str, list[str]]:
    """Each folder and the folders it may include, besides itself: the document's table."""
    found: dict[str, list[str]] = {}
    for folder, may in re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", table.read_text(), re.MULTILINE):
        names = [name.strip() for name in may.split(",") if name.strip()]
        found[folder] = list(found) if names == ["all above"] else names
    return found


LAYERS = layers(TABLE)

# Who may take the host's address of a whole region of guest memory, besides memory/ itself.
WHOLE_REGIONS = {
    "kvm/slots.c",  # KVM maps it for the guest
    "vfio/container.c",  # the IOMMU maps it for a passed-through function
    "virtio/devices/net_vhost.c",  # vhost-net reaches the rings in it
    "cli/footprint.c",  # looks for it among this process's mappings, and at no byte of it
}

# Whose time is over though no queue has its turn.
OTHER_TURNS = {
    "base",  # has it
    "emulated",  # knows no virtio queue
    "virtio/virtio.h",  # virtio_turn_over()
    "virtio/devices/balloon_pages.c",  # what is given back comes of two queues and a timer
    "virtio/devices/vsock_connection.c",  # programs of the host connect
}

# What only some folders and files may do: a pattern, who may, and why.
RULES = [
    (r"\bioctl\s*\([^;]*\bKVM_", {"kvm"}, "KVM ioctls belong to src/kvm"),
    (r"\bioctl\s*\([^;]*\bVFIO_", {"vfio"}, "VFIO ioctls belong to src/vfio"),
    (r"\bVHOST_(SET|GET|RESET|NET)_[A-Z]", {"backend"}, "vhost ioctls belong to src/backend"),
    (r"\bmemory\s*(->|\.)\s*regions\b", {"memory"}, "regions are found by memory_region()"),
    (r"\bmapped_at\b", {"memory", *WHOLE_REGIONS}, "a guest address becomes a pointer by memory_begin()"),
    (r"\bloop_turn_over\s*\(", OTHER_TURNS, "a queue's turn is over when virtio_turn_over() of that queue says so"),
    (r"\b_?exit\s*\(", {"backend", "sandbox", "cli", "oci"}, "only main(), a forked child, the sandbox and the vigil end the process"),
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
        inside = path.relative_to(ROOT / "src")
        if any(inside.is_relative_to(place) for place in allowed):
            continue
        for match in re.finditer(pattern, code):
            number = code.count("\n", 0, match.start()) + 1
            found.append(f"{where}:{number}: {why}")
    if not text.startswith("/* SPDX-License-Identifier: Apache-2.0 */"):
        found.append(f"{where}:1: the first line names the licence")
    return found


def check_layout() -> list[str]:
    """Each of duet's objects that src/resident.ld puts in its place is one: the linker passes over others in silence."""
    layout = (ROOT / "src" / "resident.ld").read_text()
    found = []
    for layer, name in sorted(set(re.findall(r"libduet_(\w+)\.a\.p/(\w+)\.c\.o", layout))):
        sources = {str(path.relative_to(ROOT / "src" / layer).with_suffix("")).replace("/", "_")
                   for path in (ROOT / "src" / layer).rglob("*.c")}
        if name not in sources:
            found.append(f"src/resident.ld: no source in src/{layer} is {name}.c.o")
    return found


def check_exceptions() -> list[str]:
    """Each exception is needed: one that is left over would let a new fault pass."""
    found = []
    for pattern, allowed, _ in RULES:
        for place in sorted(name for name in allowed if "/" in name):
            path = ROOT / "src" / place
            if not path.is_file() or not re.search(pattern, strip_comments(path.read_text())):
                found.append(f"tests/lint/layers.py: {place} needs no exception from {pattern}")
    return found


def check_sources() -> list[str]:
    found = []
    for layer in sorted(p.name for p in (ROOT / "src").iterdir() if p.is_dir()):
        if layer not in LAYERS:
            found.append(f"src/{layer}: not in the layer table")
            continue
        for path in sorted((ROOT / "src" / layer).rglob("*.[ch]")):
            found += check_file(path, layer)
    return found


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and dotted name of what PATH takes from duetlab, wherever it does so."""
    package = path.relative_to(LAB).parts[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[:len(package) + 1 - node.level] if node.level else ()
            names = [".".join([*base, *([node.module] if node.module else []), alias.name]) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [(node.lineno, name.removeprefix("duetlab.")) for name in names if name.startswith("duetlab.")]
    return found


def circle(modules: dict[str, list[tuple[int, str]]]) -> list[str]:
    """A complaint if one of MODULES leads back to itself by its imports."""
    graph = {module: {target for _, name in taken for target in (name, name.rpartition(".")[0]) if target in modules}
             for module, taken in modules.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [f"lab/duetlab: {' imports '.join(reversed(error.args[1]))}"]
    return []


def check_python() -> list[str]:
    may = layers(PYTHON_TABLE)
    modules, found = {}, []
    for path in sorted([*(LAB / "duetlab").rglob("*.py"), *(LAB / "experiments").glob("*.py")]):
        where, name = path.relative_to(ROOT), ".".join(path.relative_to(LAB).with_suffix("").parts)
        module = name.removeprefix("duetlab.")
        layer, _, inside = module.partition(".")
        taken = modules[module] = imports(path)
        if not inside:  # the command line: it may use them all, and none of them it
            continue
        if layer not in may:
            found.append(f"{where}: {layer}/ is not in the table of docs/lab.md")
            continue
        for number, name in taken:
            target = name.partition(".")[0]
            if target not in (layer, *may[layer]):
                found.append(f"{where}:{number}: {layer}/ may not import {target}")
    return found + circle(modules)


def main() -> int:
    found = [f"docs/architecture.md: {folder}/ may use {name}/, which is not in the table"
             for folder, names in LAYERS.items() for name in names if name not in LAYERS]
    if not LAYERS:
        found.append("docs/architecture.md: no table of layers")
    found += check_sources() + check_exceptions() + check_layout() + check_python()
    for line in found:
        print(line)
    if not found:
        print("layers: ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
