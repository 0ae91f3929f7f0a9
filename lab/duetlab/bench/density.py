# SPDX-License-Identifier: Apache-2.0
"""How many guests answer in time in the same memory, beside the monitors that are here."""

from ..experiment.catalogue import load
from ..experiment.lab import ExperimentLab
from ..experiment.record import Record
from .report import Report


def measure(lab: ExperimentLab, report: Report) -> None:
    density = load("density")
    record = Record("density", density.TITLE, density.WHAT)
    report.heading(f"Density at equal p99: guests in {density.BUDGET} MiB, of {density.TENANCY.memory} MiB each")
    density.run(lab, record)
    for item in record.data["skipped"]:
        report.note(f"  skipped {item['part']}: {item['reason']}")
    equal = {name: one["equal"] for name, one in density.densities(record.data["figures"]["density"]["climbs"]).items()}
    for name, count in equal.items():
        report.row(density.WORDS[name], count, "VMs")
    ours = equal.get("hints")
    if ours and equal.get("qemu"):
        report.row("QEMU's, of those of duet with duetd", equal["qemu"] / ours, "", 1 / density.RATIO)
    if ours and equal.get("firecracker"):
        report.row("Firecracker's, of those of duet with duetd", equal["firecracker"] / ours, "", 1, at_most=False)
    if ours and equal.get("blind"):
        report.row("without hints, of those with them", equal["blind"] / ours, "")
