# SPDX-License-Identifier: Apache-2.0
"""Settings of the host's kernel that an experiment needs."""

import contextlib

from .lab import ExperimentLab


@contextlib.contextmanager
def turned(lab: ExperimentLab, values: dict[str, str]):
    """Files with these VALUES, and with those that were there in the end. A file that this kernel lacks is left out."""
    before = {file: chosen(text) for file in values if (text := lab.shell(f"cat {file} 2>/dev/null || true").strip())}
    _write(lab, {file: values[file] for file in before})
    try:
        yield
    finally:
        _write(lab, before)


def _write(lab: ExperimentLab, values: dict[str, str]) -> None:
    lab.shell("set -e; " + "; ".join(f"echo {value} >{file}" for file, value in values.items()) + "; :")


def chosen(text: str) -> str:
    """The present one where a file lists all that there are, as in `always [never]`."""
    return text.split("[")[-1].split("]")[0]
