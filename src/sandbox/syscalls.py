#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""syscalls.py FOLDER OUTPUT DEPFILE: the `#syscalls` comments of FOLDER as rules in C, for compile.c.

A comment's line names threads (enum thread_kind of base/thread.h, or `all`) and what they may call:

    #syscalls vcpu io: close ioctl(KVM_IRQ_LINE) socket(0 = AF_UNIX) mmap(2 & PROT_EXEC = 0)

In brackets is what each argument must be: its number and its value, or a mask and what the masked value
must be; several by commas. An ioctl's lone word is its request. NAME!ENOSYS fails so instead."""

import re
import sys
from pathlib import Path

KINDS = ("main", "caller", "vcpu", "io", "discard", "arrive")
LINE = re.compile(r"#syscalls ([a-z ]+): (.*)")
CALL = re.compile(r"([a-z]\w*)(?:\(([^)]*)\))?(?:!(E\w+))?(?:\s+|$)")
BROKEN = re.compile(r" \* [a-z0-9_]+(\(|$)| \* [a-z0-9_ ]+ \*/")  # as a formatter wraps a long line
CONDITION = re.compile(r"(\d) (?:& (\w+) )?= (\w+)")


class Wrong(Exception):
    pass


def kinds_of(words: str) -> list[str]:
    kinds = list(KINDS) if words == "all" else words.split()
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise Wrong(f"no kind of thread: {', '.join(unknown)}")
    # A caller may do whatever the main thread may, and some more.
    return [*kinds, "caller"] if "main" in kinds and "caller" not in kinds else kinds


def condition(call: str, text: str) -> str:
    if call == "ioctl" and re.fullmatch(r"\w+", text):
        text = f"1 = {text}"
    found = CONDITION.fullmatch(text)
    if not found:
        raise Wrong(f"{call}: {text}: write N = VALUE or N & MASK = VALUE")
    argument, mask, value = found.groups()
    if mask:
        return f"{{{argument}, SCMP_CMP_MASKED_EQ, (uint64_t)({mask}), (uint64_t)({value})}}"
    return f"{{{argument}, SCMP_CMP_EQ, (uint64_t)({value}), 0}}"


def calls_of(text: str) -> list[tuple[str, list[str], str]]:
    found, at = [], 0
    while at < len(text):
        match = CALL.match(text, at)
        if not match:
            raise Wrong(f"not understood: {text[at:]}")
        name, words, error = match.groups()
        conditions = [condition(name, part.strip()) for part in words.split(",")] if words is not None else []
        found.append((name, conditions, error or "0"))
        at = match.end()
    return found


def rules_of(path: Path, where: Path) -> list[str]:
    rules, before = [], ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        broken, before = "#syscalls" in before and BROKEN.match(line), line
        if "#syscalls" not in line and not broken:
            continue
        match = LINE.search(line)
        try:
            if broken:
                raise Wrong("begin each line with #syscalls")
            if not match:
                raise Wrong("write #syscalls THREAD...: CALL...")
            kinds = " | ".join(f"1U << THREAD_{kind.upper()}" for kind in kinds_of(match.group(1)))
            for name, conditions, error in calls_of(match.group(2).removesuffix("*/").strip()):
                rules.append(f'\t{{"{where}:{number}", "{name}", {kinds}, {error}, {len(conditions)},\n'
                             f"\t\t{{{', '.join(conditions) or '{0}'}}}}},\n")
        except Wrong as wrong:
            raise Wrong(f"{where}:{number}: {wrong}") from None
    return rules


def main() -> int:
    folder, output, depfile = (Path(argument) for argument in sys.argv[1:])
    paths = sorted(folder.rglob("*.c"))
    try:
        rules = [rule for path in paths if path != folder / "sandbox" / "compile.c"
                 for rule in rules_of(path, path.relative_to(folder))]  # fmt: skip
    except Wrong as wrong:
        print(wrong, file=sys.stderr)
        return 1
    output.write_text("static const struct rule rules[] = {\n" + "".join(rules) + "};\n")
    folders = {path.parent for path in paths}
    depfile.write_text(f"{output}: {' '.join(str(path) for path in [*paths, *sorted(folders)])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
