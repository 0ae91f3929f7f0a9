# SPDX-License-Identifier: Apache-2.0
"""Runs the experiments of lab/experiments and keeps what they found as JSON; docs/experiments.md."""

import datetime
import itertools
import json
import os
import sys
import time
import traceback
from pathlib import Path

from ..base.debian import DebianError
from ..base.errors import LabError
from ..base.paths import REPOSITORY
from ..guest.images import GuestError
from ..guest.vm import GuestFailure
from .catalogue import load, names
from .lab import ExperimentLab
from .record import Record

OUTPUT = REPOSITORY / "build" / "experiments"


def run_one(name: str, lab: ExperimentLab) -> dict:
    """The finished record, written to build/experiments/NAME.json."""
    module = load(name)
    record = Record(name, module.TITLE, module.WHAT)
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
    known = names()
    if chosen != "all" and chosen not in known:
        raise LabError(f"experiment {chosen}: there are {', '.join(known)} and all", 2)
    if not duet.exists():
        raise LabError(f"{duet}: not there; make build")
    failed = 0
    wanted = itertools.groupby(known if chosen == "all" else [chosen], key=lab_options)
    for options, group in wanted:
        failed += _run_group(list(group), ExperimentLab(duet, keep, direct, **options))
    return 1 if failed else 0


def lab_options(name: str) -> dict:
    """What the experiment's lab host has to be started with: its LAB, as lab/lab up has the names."""
    return getattr(load(name), "LAB", {})


def _run_group(names_of: list[str], place: ExperimentLab) -> int:
    """How many of them failed."""
    failed = 0
    with place as lab:
        for name in names_of:
            try:
                print(summary(run_one(name, lab)), flush=True)
            except Exception as error:  # whatever broke one, the others are measured
                failed += 1
                (OUTPUT / f"{name}.json").unlink(missing_ok=True)  # no older figures under a new date
                expected = isinstance(error, (GuestFailure, LabError, GuestError, DebianError))
                first, *rest = (str(error) if expected else f"{type(error).__name__}: {error}").splitlines()
                print(f"{name}: FAILED: {first}", flush=True)
                print("\n".join(rest) if expected else traceback.format_exc(), file=sys.stderr, flush=True)
    return failed
