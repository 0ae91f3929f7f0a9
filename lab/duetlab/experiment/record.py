# SPDX-License-Identifier: Apache-2.0
"""What an experiment found, and what it could not measure or hold still."""

from ..base.progress import step
from .lab import ExperimentLab

AGREES = ("yes", "partly", "no", "not measured")


class Skipped(Exception):
    """This part cannot be measured here; the message says why."""


class Record:
    """What one experiment found: plain data, and all that the report knows of it."""

    def __init__(self, name: str, title: str, what: str) -> None:
        self.data = {"name": name, "title": title, "what": what, "figures": {}, "symbols": [],
                     "claims": [], "aims": [], "tables": [], "charts": [], "confounders": [], "skipped": []}

    def figure(self, name: str, value) -> None:
        """Raw, for those who compute on."""
        self.data["figures"][name] = value

    def symbol(self, symbol: str, words: str) -> None:
        self.data["symbols"].append({"symbol": symbol, "words": words})

    def claim(self, mechanism: str, claim: str, model: str, measured: str, agrees: str, words: str) -> None:
        """The chapter's CLAIM beside what was MEASURED; AGREES is one of the four words."""
        if agrees not in AGREES:
            raise ValueError(agrees)
        self.data["claims"].append({"mechanism": mechanism, "claim": claim, "model": model,
                                    "measured": measured, "agrees": agrees, "words": words})

    def aim(self, name: str, value: float, target: float | None = None, unit: str = "", below: bool = False) -> None:
        """A figure that `make bench` prints: TARGET is the most that it may be, or with BELOW what it has to stay below."""
        self.data["aims"].append({"name": name, "value": value, "target": target, "unit": unit, "below": below})

    def table(self, title: str, columns: list[str], rows: list[list], emulated: bool = False) -> None:
        self.data["tables"].append({"title": title, "columns": columns, "rows": rows, "emulated": emulated})

    def chart(self, title: str, alt: str, words: str, series: list[dict], **more) -> None:
        """SERIES have name, x, y and style (points, line, dashed, bars); MORE: x_label, y_label,
        log_x, log_y, emulated (times of the lab)."""
        self.data["charts"].append({"title": title, "alt": alt, "words": words, "series": series, **more})

    def confounder(self, name: str, state: str, how: str) -> None:
        self.data["confounders"].append({"name": name, "state": state, "how": how})

    def skip(self, part: str, reason: str) -> None:
        self.data["skipped"].append({"part": part, "reason": reason})


def attempt(record: Record, part: str, function, *arguments):
    """What FUNCTION finds, or None after its reason for not measuring PART was put down."""
    try:
        with step(f"experiment: {part}"):
            return function(*arguments)
    except Skipped as reason:
        record.skip(part, str(reason))
        return None


def usual_confounders(record: Record, lab: ExperimentLab, pinned: str | None) -> None:
    """What every experiment has to say of its surroundings. PINNED: which thread is where; None: it is the host's to choose."""
    if pinned is None:
        record.confounder("CPU pinning", "not applicable", "the host's scheduler places all threads")
    elif pinned:
        record.confounder("CPU pinning", "controlled",
                          "the guest's vCPU on one host CPU; duet's I/O thread, vhost's worker and the peer on "
                          f"another ({pinned.replace(chr(10), ', ')})")
    else:
        record.confounder("CPU pinning", "not controlled", "the host has one CPU only")
    frequency_confounder(record, lab)


def frequency_confounder(record: Record, lab: ExperimentLab) -> None:
    governor = lab.governor()
    if lab.counts:
        record.confounder("Frequency scaling", "not applicable",
                          "an emulated CPU has no frequency; counts do not depend on one, times are emulated")
    elif governor == "performance":
        record.confounder("Frequency scaling", "controlled", "the governor is performance")
    else:
        record.confounder("Frequency scaling", "not controlled",
                          f"the governor is {governor or 'unknown'}: set it to performance for better times")
