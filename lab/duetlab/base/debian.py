# SPDX-License-Identifier: Apache-2.0
"""Packages of any Debian suite, without touching the system's apt configuration.

Each suite has an apt state directory of its own in the cache. The mirror is
read from the machine's own apt sources, so no host name is written here."""

import dataclasses
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from .cache import cache_dir, lock, write_atomically
from .progress import step

LISTS_MAX_AGE = 24 * 3600
SOURCES_DIR = Path("/etc/apt")
DPKG_STATUS = Path("/var/lib/dpkg/status")


class DebianError(Exception):
    """A message for the user: what failed, and what to do about it."""


@dataclasses.dataclass(frozen=True)
class Source:
    """One archive that the machine's apt uses."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


# The machine's own sources


def _parse_one_line(text: str) -> list[Source]:
    found = []
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line.strip())
        if match:
            options, uri, suite, components = match.groups()
            key = re.search(r"signed-by=(\S+)", options or "", re.IGNORECASE)
            found.append(
                Source(uri, (suite,), tuple(components.split()), key.group(1) if key else "")
            )
    return found


def _stanza(text: str) -> dict[str, str]:
    """The fields of one deb822 stanza, continuation lines kept with newlines."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in " \t" and name:
            fields[name] += "\n" + line
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def _parse_deb822(text: str) -> list[Source]:
    found = []
    for block in re.split(r"\n\s*\n", text):
        fields = _stanza(block)
        if "deb" not in fields.get("types", "").split():
            continue
        if fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        suites = tuple(fields.get("suites", "").split())
        components = tuple(fields.get("components", "").split())
        for uri in fields.get("uris", "").split():
            found.append(Source(uri, suites, components, fields.get("signed-by", "")))
    return found


def machine_sources(directory: Path = SOURCES_DIR) -> list[Source]:
    """Every enabled binary source of the machine, in apt's order."""
    found = []
    main = directory / "sources.list"
    if main.is_file():
        found += _parse_one_line(main.read_text())
    for path in sorted((directory / "sources.list.d").glob("*")):
        if path.suffix == ".list":
            found += _parse_one_line(path.read_text())
        elif path.suffix == ".sources":
            found += _parse_deb822(path.read_text())
    return found


def host_codename() -> str:
    """The codename of the Debian release that runs here, `bookworm` for instance."""
    for line in Path("/etc/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    raise DebianError("/etc/os-release has no VERSION_CODENAME: a Debian release is needed")


def _mirror(ends: str, sources: list[Source]) -> Source | None:
    """The machine's source for its own release (ENDS is "") or for its security suite."""
    wanted = host_codename() + ends
    for source in sources:
        if wanted in source.suites and "main" in source.components:
            return source
    return None


def mirror() -> Source:
    """The machine's main Debian archive; it serves every other suite as well."""
    source = _mirror("", machine_sources())
    if source is None:
        raise DebianError(
            f"no source for {host_codename()} main in {SOURCES_DIR}: add the Debian archive there"
        )
    return source


# The private apt state of a suite


def sources_text(suite: str, types: str = "deb deb-src") -> str:
    """The suite, and its security updates if the machine has any, as deb822 sources."""
    main = mirror()
    archives = [(main, suite)]
    security = _mirror("-security", machine_sources())
    if security and "-" not in suite:
        archives.append((security, f"{suite}-security"))
    stanzas = []
    for source, name in archives:
        lines = [f"Types: {types}", f"URIs: {source.uri}", f"Suites: {name}", "Components: main"]
        if source.signed_by:
            lines.append(f"Signed-By: {source.signed_by}")
        stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas)


def acquire_settings() -> str:
    """The machine's settings for downloads: proxies and so on.

    Its other settings stay out: hooks, for instance, act on the system."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    kept = [line for line in dump.stdout.splitlines() if re.match(r"Acquire::\w", line)]
    return "".join(line + "\n" for line in kept)


def _config_text(state: Path) -> str:
    """The configuration of a private apt: nothing of the system's but downloads."""
    status = DPKG_STATUS if DPKG_STATUS.exists() else state / "status"
    ours = {
        "Dir::Etc::Main": "/dev/null",
        "Dir::Etc::Parts": "/dev/null",
        "Dir::Etc::SourceList": state / "duet.sources",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State": state / "state",
        "Dir::State::Lists": state / "lists",
        "Dir::State::status": status,
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "",
        "APT::Architecture": "amd64",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
    }
    return acquire_settings() + "".join(f'{name} "{value}";\n' for name, value in ours.items())


def _state(suite: str) -> Path:
    """The suite's state directory, its configuration brought up to date."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", suite):
        raise DebianError(f"{suite!r} is not the name of a Debian suite")
    state = cache_dir() / "apt" / suite
    for name in ("state", "lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    write_atomically(state / "apt.conf", _config_text(state).encode())
    sources = sources_text(suite).encode()
    path = state / "duet.sources"
    if not path.exists() or path.read_bytes() != sources:
        write_atomically(path, sources)
        (state / "updated").unlink(missing_ok=True)
    return state


def _apt(state: Path, command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess:
    env = dict(os.environ, APT_CONFIG=str(state / "apt.conf"), LC_ALL="C", DEBIAN_FRONTEND="teletype")
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def _reason(result: subprocess.CompletedProcess) -> str:
    lines = [line for line in result.stderr.splitlines() if line.startswith("E:")]
    return "; ".join(line[2:].strip() for line in lines) or f"exit status {result.returncode}"


def _update(suite: str, state: Path, force: bool = False) -> None:
    """Fetch the suite's lists when there are none or they are old.

    Old lists still serve when the archive cannot be reached."""
    stamp = state / "updated"
    if not force and stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_MAX_AGE:
        return
    with step(f"package lists of {suite}"):
        result = _apt(state, ["apt-get", "-q", "--error-on=any", "update"])
    if result.returncode == 0:
        stamp.touch()
    elif not stamp.exists():
        raise DebianError(
            f"cannot fetch the package lists of {suite} from {mirror().uri}: {_reason(result)}\n"
            "check the network (apt's proxy settings are used), then try again"
        )


def reachable(suite: str) -> bool:
    """Whether packages of the suite can be had: its lists are here or can be fetched."""
    try:
        with lock(f"apt-{suite}"):
            _update(suite, _state(suite))
        return True
    except DebianError:
        return False


def _ask(suite: str, command: list[str], cwd: Path | None = None) -> str:
    """Run an apt command on the suite; with lists fetched anew if it fails at first."""
    with lock(f"apt-{suite}"):
        state = _state(suite)
        _update(suite, state)
        result = _apt(state, command, cwd)
        if result.returncode != 0:
            _update(suite, state, force=True)
            result = _apt(state, command, cwd)
    if result.returncode != 0:
        raise DebianError(f"{' '.join(command)} ({suite}): {_reason(result)}")
    return result.stdout


# Packages


def version(package: str, suite: str) -> str:
    """The package's newest version in the suite."""
    shown = _ask(suite, ["apt-cache", "show", "--no-all-versions", package])
    match = re.search(r"^Version: (\S+)", shown, re.MULTILINE)
    if not match:
        raise DebianError(f"{suite} has no package {package}")
    return match.group(1)


def resolve(metapackage: str, suite: str) -> str:
    """The package that a metapackage stands for: the first one it depends on.

    linux-image-cloud-amd64 gives linux-image-RELEASE-cloud-amd64."""
    shown = _ask(suite, ["apt-cache", "show", "--no-all-versions", metapackage])
    match = re.search(r"^Depends: ([a-z0-9][a-z0-9.+-]+)", shown, re.MULTILINE)
    if not match:
        raise DebianError(f"{metapackage} of {suite} depends on nothing: not a metapackage")
    return match.group(1)


def depends(package: str, suite: str) -> list[str]:
    """The names of the packages that the package depends on, versions and alternatives left out."""
    shown = _ask(suite, ["apt-cache", "show", "--no-all-versions", package])
    match = re.search(r"^Depends: (.+)", shown, re.MULTILINE)
    listed = match.group(1).split(",") if match else []
    return [re.split(r"[ :(|]", entry.strip())[0] for entry in listed]


def download(package: str, suite: str, dest: Path) -> Path:
    """Download the package's newest version in the suite; the .deb in directory DEST."""
    dest = Path(dest)
    dest.mkdir(parents=True, exist_ok=True)
    uris = _ask(suite, ["apt-get", "-q", "download", "--print-uris", package])
    match = re.search(r"^'\S+' (\S+\.deb) (\d+)", uris, re.MULTILINE)
    if not match:
        raise DebianError(f"{suite} has no package {package}")
    with step(f"download {package} ({int(match.group(2)) >> 20} MiB)"):
        _ask(suite, ["apt-get", "-q", "download", package], dest)
    return dest / match.group(1)


def download_source(package: str, suite: str, dest: Path) -> Path:
    """Download the package's source and unpack it, patches applied; the tree in DEST."""
    if not shutil.which("dpkg-source"):
        install_missing(["dpkg-dev"])
    dest = Path(dest)
    dest.mkdir(parents=True, exist_ok=True)
    uris = _ask(suite, ["apt-get", "-q", "source", "--print-uris", package])
    match = re.search(r"^'\S+' (\S+\.dsc) ", uris, re.MULTILINE)
    if not match:
        raise DebianError(f"{suite} has no source package {package}")
    described = dest / match.group(1)
    tree = dest / described.stem
    if tree.exists():
        return tree
    with step(f"download source of {package} ({suite})"):
        _ask(suite, ["apt-get", "-q", "source", "--download-only", package], dest)
    part = dest / f".{tree.name}.{os.getpid()}"
    with step(f"unpack source of {package}"):
        command = ["dpkg-source", "--no-check", "-x", str(described), str(part)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        shutil.rmtree(part, ignore_errors=True)
        raise DebianError(f"dpkg-source -x {described}: {result.stderr.strip()}")
    os.rename(part, tree)
    return tree


def extract(deb: Path, dest: Path) -> None:
    """Unpack the files of a .deb into DEST, as `dpkg -x` does."""
    Path(dest).mkdir(parents=True, exist_ok=True)
    command = ["dpkg-deb", "-x", str(deb), str(dest)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise DebianError(f"{' '.join(command)}: {result.stderr.strip()}")


# The system itself


def _installed(package: str) -> bool:
    command = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", package]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode == 0 and result.stdout.startswith("ii")


def install_missing(packages: list[str]) -> None:
    """Install those of the packages that the system lacks; needs root for that."""
    missing = [package for package in packages if not _installed(package)]
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0:
        raise DebianError(f"missing packages; install them: sudo apt-get install {names}")
    wait = ["-o", "DPkg::Lock::Timeout=900", "-o", "Acquire::Retries=2"]
    install = ["apt-get", "-qy", *wait, "--no-install-recommends", "install", *missing]
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C")
    commands = (install, ["apt-get", "-q", *wait, "update"], install)
    with step(f"install {names}"), lock("apt-system"):
        for command in commands:
            result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            if result.returncode == 0 and command is install:
                return
    raise DebianError(
        f"cannot install {names}: {_reason(result)}\n"
        f"install them by hand: apt-get install {names}"
    )
