# SPDX-License-Identifier: Apache-2.0
"""Whether this machine runs guests on hardware, or needs the lab.

/dev/kvm alone says nothing: it may be served by software that takes a
microsecond for an instruction of the guest's kernel."""

import json
import os
import subprocess
from pathlib import Path

DOCTOR_SECONDS = 60


def mode(repository: Path) -> tuple[str, str]:
    """`hardware` or `lab`, and the reason in one line."""
    answer = _doctor(repository)
    if answer is None:
        return _own_check()
    if answer == "hardware":
        return "hardware", "duet doctor measured hardware virtualization"
    return "lab", f"duet doctor: the KVM back end is {answer}"


def _doctor(repository: Path) -> str | None:
    """The doctor's kvm.backend; None when it cannot tell."""
    program = repository / "build/duet"
    if not program.exists():
        return None
    try:
        result = subprocess.run(
            [program, "doctor", "--json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DOCTOR_SECONDS,
            check=False,
        )
        return str(json.loads(result.stdout)["kvm"]["backend"])
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None


def _own_check() -> tuple[str, str]:
    flags = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.partition(":")[2].split())
            break
    if not flags & {"vmx", "svm"}:
        return "lab", "the CPU shows neither vmx nor svm"
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return "lab", f"/dev/kvm: {error.strerror}"
    return "hardware", "the CPU shows vmx or svm and /dev/kvm opens"
