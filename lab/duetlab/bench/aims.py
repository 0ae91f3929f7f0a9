# SPDX-License-Identifier: Apache-2.0
"""The aims of experiments, each of which runs as `lab/lab experiment` has it."""

from pathlib import Path

from ..experiment.lab import ExperimentLab
from ..experiment.run import lab_options, run_one
from .report import Report

# By part of the bench. It has a part of its own that is called memory.
EXPERIMENTS = {"fork": "fork", "counters": "counters", "locks": "locks", "paging": "memory", "sharing": "sharing", "density": "density"}


def measure(part: str, duet: Path, keep: bool, report: Report) -> None:
    name = EXPERIMENTS[part]
    report.heading(f"The experiment {name}")
    with ExperimentLab(duet, keep, **lab_options(name)) as lab:
        tell(run_one(name, lab), report)


def tell(data: dict, report: Report) -> None:
    """DATA: an experiment's record."""
    for item in data["skipped"]:
        report.note(f"  skipped {item['part']}: {item['reason']}")
    if not data["aims"] and not data["skipped"]:
        report.note("  Nothing was measured that could be compared.")
    for aim in data["aims"]:
        report.row(aim["name"], aim["value"], aim["unit"], aim["target"], not aim["below"])
