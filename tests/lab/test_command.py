# SPDX-License-Identifier: Apache-2.0
"""The command line as its users see it, without a machine: help, completion, configurations."""

import json
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DUET = REPOSITORY / "build" / "duet"


def duet(*words, **more):
    return subprocess.run([DUET, *words], capture_output=True, text=True, check=False, timeout=60,
                          **more)


def complete(*words):
    """What bash offers for the last of the words, which it cuts at '='."""
    lines = f"""
    compopt() {{ :; }}
    source {REPOSITORY}/build/src/cli/duet
    COMP_WORDS=({" ".join(f"'{word}'" for word in ("duet", *words))})
    COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
    _duet && printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True,
                            timeout=60)
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.parametrize("words, offered", [
    (["r"], ["run"]),
    (["run", "--irq"], ["--irqchip"]),
    (["run", "--ring", "p"], ["packed"]),
    (["run", "--ring", "=", "p"], ["packed"]),
    (["run", "--ring", "="], ["split", "packed"]),
    (["run", "--disk", "pa"], ["path="]),
    (["run", "--disk", "path", "=", "x,mo"], ["x,model="]),
    (["run", "--disk", "path", "=", "x,model", "=", "i"], ["ide"]),
    (["run", "--net", "us"], ["user,"]),
    (["run", "--net", "tap,vhost", "=", "o"], ["on", "off"]),
    (["run", "--device", "vfio,ho"], ["vfio,host="]),
    (["run", "--cpus", "2", "--print"], ["--print-config"]),
])
def test_completion(words, offered):
    assert complete(*words) == offered


def test_completion_of_files(tmp_path):
    (tmp_path / "disk one.img").touch()
    assert " ".join(complete("run", "--kernel", f"{tmp_path}/di")) == f"{tmp_path}/disk one.img"
    assert " ".join(complete("run", "--disk", "path", "=", f"{tmp_path}/di")) == \
        f"{tmp_path}/disk one.img"


def test_manual_page_reads_well():
    page = REPOSITORY / "build" / "src" / "cli" / "duet.1"
    result = subprocess.run(["groff", "-man", "-Tascii", "-P-cbou", "-ww", page], capture_output=True, text=True,
                            check=True, timeout=60)
    assert result.stderr == ""
    assert "--on-reset" in result.stdout and "@OPTIONS@" not in result.stdout


def test_what_is_printed_is_what_is_read(tmp_path):
    words = ["--kernel", "k", "--cpus", "4", "--disk", "path=a,model=ide", "--net", "user",
             "--disk", "path=b", "--print-config"]
    printed = duet("run", *words)
    assert printed.returncode == 0 and printed.stderr == ""
    config = json.loads(printed.stdout)
    assert [d["id"] for d in config["devices"]] == ["disk0", "net0", "disk1", "ide0", "entropy0"]
    file = tmp_path / "vm.json"
    file.write_text(printed.stdout)
    assert duet("run", "--config", str(file), "--print-config").stdout == printed.stdout
    # Another order gives the same devices the same places.
    slots = {d["id"]: d.get("slot") for d in config["devices"]}
    other = json.loads(duet("run", "--net", "user", *words[:6], "--disk", "path=b",
                            "--print-config").stdout)
    assert {d["id"]: d.get("slot") for d in other["devices"]} == slots


def test_a_fault_is_told_with_its_line(tmp_path):
    file = tmp_path / "vm.json"
    file.write_text('{"duet": 1,\n "kernel": "k",\n "devices": [\n  {"type": "disk"}]}')
    result = duet("run", "--config", str(file))
    assert result.returncode == 2
    assert f"{file}:4: disk0: names no file" in result.stderr


@pytest.mark.parametrize("path, says", [
    ("/nonexistent", "No such file"),
    ("/", "directory"),
    ("/dev/zero", "larger than"),
])
def test_configurations_that_are_none(path, says):
    result = duet("run", "--config", path)
    assert result.returncode == 2 and says in result.stderr
