# SPDX-License-Identifier: Apache-2.0
"""The place where figures are taken: a lab host, or this machine's KVM."""

import subprocess
from pathlib import Path

from ..base.cache import cache_dir
from ..base.errors import LabError
from . import hardware
from .life import LabHost

DEFAULTS = dict.fromkeys(("qemu", "memory", "icount", "profile", "kernel_options"))


class Place:
    """Use as a context manager: leaving it takes the lab host down if it was started here."""

    def __init__(self, duet: Path, keep: bool, direct: bool = False, **options) -> None:
        self.host = LabHost()
        self.duet = duet.resolve()
        self.keep = keep
        self.counts = not direct and hardware.mode(self.host.repository)[0] != "hardware"
        self._options = {**DEFAULTS, **options}

    def __enter__(self):
        if self.counts:
            self.keep = self.keep or self.host.alive()
            self.host.up(self._options)
        self.prepare()
        return self

    def __exit__(self, *_exc):
        self.tidy()
        if self.counts and not self.keep:
            self.host.down()

    def prepare(self) -> None:
        """What must be there before the first figure."""

    def tidy(self) -> None:
        """Undoes `prepare`."""

    def describe(self) -> str:
        if not self.counts:
            return "On hardware KVM."
        record = self.host.record()
        return (f"In the nested lab: {record['qemu']}, Linux {record['kernel']}. "
                "Counts are comparable, times are emulated.")  # fmt: skip

    def shell(self, script: str, limit: float = 300) -> str:
        """What SCRIPT prints, run by sh where KVM is."""
        lab = str(self.host.repository / "lab" / "lab")
        where = [] if self.counts else ["--direct"]
        command = [lab, "exec", *where, "-n", "--", "sh", "-c", script]
        result = subprocess.run(command, capture_output=True, text=True, timeout=limit,
                                check=False, cwd=self.host.repository)  # fmt: skip
        if result.returncode != 0:
            raise LabError(f"{script.strip()[:60]}...: exit status {result.returncode}, "
                           f"{result.stderr.strip()[-300:]}")  # fmt: skip
        return result.stdout

    def path(self, path: Path) -> str:
        """Where the lab host sees a file of this machine."""
        shared = (self.host.repository, cache_dir())
        if not self.counts or any(path.is_relative_to(home) for home in shared):
            return str(path)
        return f"/host{path}"
