#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clang-tidy over src/, by the version that .clang-tidy is written for. What it found clean is not
read again until that file, a header of the project that it includes, or .clang-tidy changes.

  tests/lint/tidy.py           all of it (make lint, make soak)
  tests/lint/tidy.py --quick   its analyzer follows fewer paths, in a tenth of the time (make test)
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSION = "14"
SKIP = 77
# Of the analyzer: functions are not followed into others, and fewer of their paths are.
SHALLOW = [f"--extra-arg={word}" for word in ("-Xclang", "-analyzer-config", "-Xclang", "mode=shallow")]
BUILD = ROOT / "build-tidy"
CLEAN = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duet" / "tidy"


def version() -> str:
    try:
        text = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return "none"
    found = re.search(r"version (\d+)", text)
    return found[1] if found else "unknown"


def configure() -> None:
    if not (BUILD / "build.ninja").exists():
        subprocess.run(["meson", "setup", BUILD], cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "CC": "clang"})
    listed = subprocess.run(["ninja", "-C", BUILD, "-t", "targets", "rule", "CUSTOM_COMMAND"], check=True,
                            capture_output=True, text=True).stdout
    generated = [name for name in listed.split() if not name.startswith("meson-internal_")]
    subprocess.run(["ninja", "-C", BUILD, "--quiet", *generated], check=True, stdout=subprocess.DEVNULL)


def key(entry: dict) -> str:
    """Of all that the verdict on a file depends on, system headers apart."""
    command = re.sub(r" -o \S+| -MQ \S+| -MF \S+| -MD", "", entry["command"])
    listed = subprocess.run(f"{command} -MM", shell=True, cwd=entry["directory"], check=True,
                            capture_output=True, text=True).stdout
    files = listed.split(":", 1)[1].replace("\\\n", " ").split()
    digest = hashlib.sha256(command.encode() + (ROOT / ".clang-tidy").read_bytes())
    for name in files:
        digest.update((Path(entry["directory"]) / name).read_bytes())
    return digest.hexdigest()


def check(entry: dict, quick: bool) -> str:
    """What clang-tidy has to say about one file."""
    name = key(entry)
    clean = CLEAN / (name + "-quick" if quick else name)
    if clean.exists() or (CLEAN / name).exists():
        return ""
    result = subprocess.run(["clang-tidy", "-p", BUILD, "--quiet", *(SHALLOW if quick else []), entry["file"]],
                            text=True, cwd=entry["directory"], capture_output=True, check=False)
    words = "".join(line for line in result.stdout.splitlines(True) if re.search("warning:|error:", line))
    if not words and result.returncode == 0:
        clean.touch()
    return words or result.stderr if result.returncode or words else ""


def main() -> int:
    quick = sys.argv[1:] == ["--quick"]
    if version() != VERSION:
        print(f"clang-tidy: version {version()} is not {VERSION}, for which .clang-tidy is written")
        return SKIP
    configure()
    CLEAN.mkdir(parents=True, exist_ok=True)
    entries = [entry for entry in json.loads((BUILD / "compile_commands.json").read_text())
               if "/src/" in "/" + entry["file"] and entry["file"].endswith(".c")]
    found = ""
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        for done, words in enumerate(workers.map(lambda entry: check(entry, quick), entries), 1):
            found += words
            if sys.stderr.isatty():
                print(f"\rclang-tidy: {done} of {len(entries)}", end="", file=sys.stderr, flush=True)
    print(("\r" if sys.stderr.isatty() else "") + (found or "clang-tidy: ok"))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
