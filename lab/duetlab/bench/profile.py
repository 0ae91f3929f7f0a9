# SPDX-License-Identifier: Apache-2.0
"""Which functions a piece of work went through: the plugin's counts by block, with symbols."""

import bisect
import collections
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ..base.cache import cache_dir, write_atomically
from ..base.errors import LabError
from ..guest import images, vm
from ..host import counter
from ..host.life import LabHost

SOCKET = "profile.sock"
UPPER = range(1 << 63, 1 << 64)  # kernels
STATIC = range(1 << 22, 1 << 26)  # programs like duet, which lie where they were linked
FUNCTION_MAX = 1 << 17  # further from a symbol than this is not that function

# What the functions of a kernel's start are for, the first match wins. Words of names.
CATEGORIES = (
    ("self-tests and keys (big numbers, RSA)", r"^(mpi|mul_n|.*mpi_|pkcs|rsa_|alg_test|test_)"),
    ("hashes and ciphers", r"sha(1|256|512)|blake2|chacha|aes|md5|crc32|crct10|poly"),
    ("symbol tables (kallsyms)", r"kallsyms|get_symbol_(offset|pos)|lookup_symbol"),
    ("tracing and probes (ftrace, kprobes)", r"trace|ftrace|kprobe|test_for_valid_rec|eval_map"),
    ("type information (BTF)", r"btf"),
    ("stack unwinding tables", r"orc|unwind|^sort_r|swap_ex|jump_label"),
    ("patching its own text", r"text_poke|apply_|alternativ|insn_|inat|static_call|paravirt"),
    ("decompression", r"lz4|lzma|xz_|zstd|inflate|unlz|dec_|decompress"),
    ("initrd unpacking", r"initramfs|do_copy|do_name|write_buffer|flush_buffer|xwrite|unpack_"),
    ("console output", r"serial|uart|console|printk|prb_|vsnprintf|format_decode|number$|vt_|con_"),
    ("waiting and delays", r"delay|calibrate|cpu_relax|native_halt|default_idle|wait_for|poll_idle"),
    ("ACPI", r"acpi"),
    ("PCI and other hardware", r"pci|i8042|ioapic|apic|rtc|hpet|tsc|pnp|dmi|virtio|ata_|mptable"),
    ("memory set-up", r"memmap|__init_single|free_pages|page_alloc|memblock|zone|memset|clear_page|"
     r"note_page|change_page|lookup_address|walk_p|pgd|pmd|pte|set_memory|init_range"),
    ("allocation", r"kmem|slab|slub|alloc|kfree|kmalloc|vmap|get_page|memcg"),
    ("file systems and sysfs", r"kernfs|sysfs|dentry|d_alloc|inode|path|vfs|proc_|lookup_fast|idr|ida"),
    ("scheduling and RCU", r"sched|rcu|switch|task|update_load|pick_next|work|hrtimer|tick|timer"),
    ("strings and copies", r"^str|^mem|copy|bit$|_bit"),
)  # fmt: skip


def functions_of(program, files: set[str], names: str) -> set[str]:
    """PROGRAM's functions that stand in source files of these FILES' names, or whose own name begins as NAMES says,
    by its symbols: those of each source file stand behind its name, but for those that others call."""
    found, own = set(), False
    text = subprocess.run(["readelf", "-sW", str(program)], capture_output=True, text=True, check=True).stdout
    for kind, bind, name in re.findall(r"(?m)^ *\d+: \w+ +\d+ (\w+) +(\w+) +\w+ +\w+ (\S+)$", text):
        if kind == "FILE":
            own = name in files
        elif kind == "FUNC" and (own if bind == "LOCAL" else re.match(names, name)):
            found.add(name)
    return found


_SYMBOL = r"(?m)^(?:File: \S*\((\S+)\)| *\d+: (\w+) +(\w+) (\w+) +(\w+) +\w+ +(\w+) (\S+))$"


def _functions(*files) -> Iterator[tuple[str, str, range]]:
    """Of programs, objects or archives: the source file (nothing for a function that others call), name and addresses. What
    names no source file goes by its object, as the linker has it."""
    source = ""
    text = subprocess.run(["readelf", "-sW", *map(str, files)], capture_output=True, text=True, check=True).stdout
    for member, start, size, kind, bind, section, name in re.findall(_SYMBOL, text):
        if member or kind == "FILE":
            source = member or name
        elif kind == "FUNC" and section != "UND":
            yield source if bind == "LOCAL" else "", name, range(int(start, 16), int(start, 16) + int(size, 0))


def places_of(program, objects) -> dict[range, str]:
    """Where PROGRAM has the functions of OBJECTS, files or archives that it was linked of, and their names."""
    wanted = {(source, name) for source, name, _ in _functions(*objects)}
    return {place: name for source, name, place in _functions(program) if (source, name) in wanted}


def others_pages(program, places: dict[range, str], size: int) -> set[int]:
    """Pages of SIZE bytes on which PROGRAM has functions outside PLACES."""
    starts = {place.start for place in places}
    return {page for _, _, place in _functions(program) if place.start not in starts and place
            for page in range(place.start // size, (place.stop - 1) // size + 1)}


def instructions_at(blocks, places: dict[range, str]) -> collections.Counter:
    """Of the host in each of these functions."""
    ordered = sorted(places, key=lambda place: place.start)
    starts = [place.start for place in ordered]
    counts: collections.Counter = collections.Counter()
    for of_guest, address, count in blocks:
        at = bisect.bisect(starts, address) - 1
        if not of_guest and at >= 0 and address in ordered[at]:
            counts[places[ordered[at]]] += count
    return counts


class Symbols:
    """Addresses to names, from lines of ADDRESS NAME."""

    def __init__(self, text: str) -> None:
        pairs = (line.split() for line in text.splitlines())
        table = sorted((int(address, 16), name) for address, name in pairs)
        self._addresses = [address for address, _ in table]
        self._names = [name for _, name in table]

    def name(self, address: int) -> str:
        index = bisect.bisect(self._addresses, address) - 1
        if index < 0 or address - self._addresses[index] > FUNCTION_MAX:
            return f"{address:#x}"
        return self._names[index]


def expect(host: LabHost, first: int, last: int) -> None:
    """The next profile goes from the mark FIRST to the mark LAST after it."""
    _ask(host, f"between {first} {last}")


def take(host: LabHost) -> list[tuple[bool, int, int]]:
    """Blocks as (of a guest, address, instructions executed); of the profile that was expected,
    or, if none was, since the lab host's start."""
    state = _ask(host, "state").strip()
    if state in ("armed", "running"):
        raise LabError(f"the profile is not complete: {state}")
    blocks = []
    for line in _ask(host, "dump").splitlines():
        side, address, count, _times = line.split()
        blocks.append((side == "g", int(address, 16), int(count)))
    return blocks


def _ask(host: LabHost, line: str) -> str:
    try:
        return counter.ask(host, line, SOCKET)
    except OSError as error:
        raise LabError("no profile: start the lab host by lab/lab up --profile") from error


def by_function(blocks, symbols: Symbols, guest: bool, where: range = UPPER) -> collections.Counter:
    """Instructions in each function at addresses WHERE, of the guests or of the host."""
    counts: collections.Counter = collections.Counter()
    for of_guest, address, count in blocks:
        if of_guest == guest and address in where:
            counts[symbols.name(address)] += count
    return counts


def by_category(functions: collections.Counter) -> collections.Counter:
    patterns = [(name, re.compile(pattern)) for name, pattern in CATEGORIES]
    counts: collections.Counter = collections.Counter()
    for function, count in functions.items():
        found = (name for name, pattern in patterns if pattern.search(function))
        counts[next(found, "other")] += count
    return counts


def program_symbols(program: Path) -> Symbols:
    """Of a program of the host at addresses STATIC; others may lie there too."""
    text = subprocess.run(["nm", "--defined-only", str(program)], capture_output=True, text=True, check=True).stdout
    found = (line.split() for line in text.splitlines())
    return Symbols("".join(f"{address} {name}\n" for address, kind, name in found if kind in "tTwWiI"))


def host_symbols(host: LabHost) -> Symbols:
    """Of the lab host's kernel, where it was loaded this time."""
    lab = host.repository / "lab" / "lab"
    command = [str(lab), "exec", "-n", "--", "awk", "$2 ~ /[tTwW]/ {print $1, $3}",
               "/proc/kallsyms"]  # fmt: skip
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=host.repository
    )
    return Symbols(result.stdout)


# A guest under `nokaslr` writes its symbols to its disk.
_PRINT = r"""
awk '$2 ~ /[tTwW]/ && !$4 && $1 ~ /^ffffffff/ {print $1, $3} END {print "=end="}' \
	/proc/kallsyms >/tmp/symbols
dd if=/tmp/symbols of=/dev/vda bs=64k conv=fsync
"""


def guest_symbols(kernel: str, duet: str) -> Symbols:
    """Of a guest's kernel, saved once; DUET is the program's path in the lab host."""
    path = cache_dir() / "guests" / "symbols" / images.release(kernel)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _printed_symbols(kernel, duet).encode())
    return Symbols(path.read_text())


def _printed_symbols(kernel: str, duet: str) -> str:
    with vm.workspace() as directory:
        disk = directory / "symbols"
        with open(disk, "wb") as file:
            file.truncate(16 << 20)
        options = ("--disk", f"path={disk}", "--cmdline", "nokaslr")
        with vm.Guest(*options, kernel=kernel, script=_PRINT, program=Path(duet)) as guest:
            guest.succeed()
        text, end, _rest = disk.read_text(errors="replace").partition("=end=\n")
    if not end:
        raise LabError(f"the guest did not print the symbols of {kernel}")
    return text
