# SPDX-License-Identifier: Apache-2.0
"""Runs the experiments of lab/experiments and keeps what they found as JSON; docs/experiments.md."""

import datetime
import importlib.util
import json
import os
import sys
import time
import traceback
from pathlib import Path

from .base.debian import DebianError
from .base.errors import LabError
from .base.paths import LAB, REPOSITORY
from .base.progress import step
from .experiment_lab import ExperimentLab
from .guest.images import GuestError
from .guest.vm import GuestFailure
from .model import Skipped

EXPERIMENTS = LAB / "experiments"
OUTPUT = REPOSITORY / "build" / "experiments"
AGREES = ("yes", "partly", "no", "not measured")


def names() -> list[str]:
    """All experiments, in the order of the mechanisms they show."""
    found = (load(path.stem) for path in sorted(EXPERIMENTS.glob("*.py")))
    return [module.NAME for module in sorted(found, key=lambda module: module.ORDER)]


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Record:
    """What one experiment found: plain data, and all that the report knows of it."""

    def __init__(self, name: str, title: str, what: str) -> None:
        self.data = {"name": name, "title": title, "what": what, "figures": {}, "symbols": [],
                     "claims": [], "tables": [], "charts": [], "confounders": [], "skipped": []}

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


def usual_confounders(record: Record, lab: ExperimentLab, pinned: str) -> None:
    """What every experiment has to say of its surroundings."""
    if pinned:
        record.confounder("CPU pinning", "controlled",
                          "the guest's vCPU on one host CPU; duet's I/O thread, vhost's worker and the peer on "
                          f"another ({pinned.replace(chr(10), ', ')})")
    else:
        record.confounder("CPU pinning", "not controlled", "the host has one CPU only")
    governor = lab.governor()
    if lab.counts:
        record.confounder("Frequency scaling", "not applicable",
                          "an emulated CPU has no frequency; counts do not depend on one, times are emulated")
    elif governor == "performance":
        record.confounder("Frequency scaling", "controlled", "the governor is performance")
    else:
        record.confounder("Frequency scaling", "not controlled",
                          f"the governor is {governor or 'unknown'}: set it to performance for better times")


def run_one(name: str, lab: ExperimentLab) -> dict:
    """The finished record, written to build/experiments/NAME.json."""
    module = load(name)
    record = Record(module.NAME, module.TITLE, module.WHAT)
    start = time.monotonic()
    record.data |= {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                    "environment": lab.environment, "where": lab.describe(),
                    "machine": f"{os.cpu_count()} CPUs", "versions": lab.versions()}
    module.run(lab, record)
    record.data["seconds"] = round(time.monotonic() - start)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / f"{name}.json").write_text(json.dumps(record.data, indent=1, ensure_ascii=False) + "\n")
    return record.data


def summary(data: dict) -> str:
    """The experiment in one line."""
    verdicts = ", ".join(f"{claim['mechanism']} {word(claim['agrees'])}" for claim in data["claims"])
    skipped = "".join(f"; skipped {item['part']} ({item['reason']})" for item in data["skipped"])
    return f"{data['name']}: ok, {verdicts}{skipped} ({data['environment']}, {data['seconds']} s)"


def word(agrees: str) -> str:
    return {"yes": "agrees", "partly": "agrees in part", "no": "DISAGREES"}.get(agrees, agrees)


def run(chosen: str, duet: Path, direct: bool, keep: bool) -> int:
    """The experiment CHOSEN or all, a line for each; the exit status."""
    if chosen != "all" and chosen not in names():
        raise LabError(f"experiment {chosen}: there are {', '.join(names())} and all", 2)
    if not duet.exists():
        raise LabError(f"{duet}: not there; make build")
    failed = 0
    with ExperimentLab(duet, keep, direct) as lab:
        for name in names() if chosen == "all" else [chosen]:
            try:
                print(summary(run_one(name, lab)), flush=True)
            except Exception as error:  # whatever broke one, the others are measured
                failed += 1
                (OUTPUT / f"{name}.json").unlink(missing_ok=True)  # no older figures under a new date
                expected = isinstance(error, (GuestFailure, LabError, GuestError, DebianError))
                first, *rest = (str(error) if expected else f"{type(error).__name__}: {error}").splitlines()
                print(f"{name}: FAILED: {first}", flush=True)
                print("\n".join(rest) if expected else traceback.format_exc(), file=sys.stderr, flush=True)
    return 1 if failed else 0
