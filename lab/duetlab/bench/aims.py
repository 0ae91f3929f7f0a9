# SPDX-License-Identifier: Apache-2.0
"""The aims of experiments, each of which runs as `lab/lab experiment` has it."""

from pathlib import Path

from ..experiment.catalogue import load
from ..experiment.lab import ExperimentLab
from ..experiment.record import Record
from ..experiment.run import lab_options
from .report import Report

# By part of the bench. It has a part of its own that is called memory.
EXPERIMENTS = {"fork": "fork", "counters": "counters", "locks": "locks", "paging": "memory", "sharing": "sharing", "density": "density"}


def measure(part: str, duet: Path, keep: bool, report: Report) -> None:
    name = EXPERIMENTS[part]
    module = load(name)
    record = Record(name, module.TITLE, module.WHAT)
    with ExperimentLab(duet, keep, **lab_options(name)) as lab:
        report.heading(f"The experiment {name}. {module.TITLE}")
        module.run(lab, record)
    tell(record, report)


def tell(record: Record, report: Report) -> None:
    for item in record.data["skipped"]:
        report.note(f"  skipped {item['part']}: {item['reason']}")
    if not record.data["aims"] and not record.data["skipped"]:
        report.note("  Nothing was measured that could be compared.")
    for aim in record.data["aims"]:
        report.row(aim["name"], aim["value"], aim["unit"], aim["target"], not aim["below"])
