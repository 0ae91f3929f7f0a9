# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of `make bench`: each measures one thing and adds rows to the report."""

import argparse
from pathlib import Path

from ..base.errors import LabError
from ..base.paths import DUET, REPOSITORY
from ..experiment.lab import ExperimentLab
from ..guest.images import GuestError
from ..guest.vm import GuestFailure
from ..host.life import say
from . import aims, api, balloon, boot, coop, dirty, duetd, fio, idle, io, migrate, policy, restore, sandbox
from .lab import BenchLab
from .report import Report

SECTIONS = ("boot", "where", "memory", "idle", "balloon", "api", "restore", "migrate", "dirty", "fio", "coop", "io", "policy", "sandbox", "duetd",
            *aims.EXPERIMENTS)
# Need the other place alone, and a lab host takes its time.
WITHOUT_PEERS = {"io", "policy", *aims.EXPERIMENTS}


def _arguments(text: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lab/bench", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SECTIONS), metavar="PARTS", help="with commas (all)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each monitor (3)")
    parser.add_argument("--duet", type=Path, default=DUET, metavar="FILE", help="the duet to measure (build/duet)")
    parser.add_argument("--json", type=Path, default=REPOSITORY / "build" / "bench.json", metavar="FILE",
                        help="where the figures go (build/bench.json)")  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="leave the lab host up")
    args = parser.parse_args()
    args.parts = args.only.split(",")
    for part in args.parts:
        if part not in SECTIONS:
            parser.error(f"--only {part}: there are {', '.join(SECTIONS)}")
    if args.runs < 1:
        parser.error("--runs: at least 1")
    if not args.duet.exists():
        parser.error(f"{args.duet}: not there; make build")
    return args


def _run_parts(args: argparse.Namespace, lab: BenchLab, report: Report) -> None:
    counted = lab.counts
    if not counted:
        report.note("Instructions are counted in the nested lab only: boot, where, dirty and sandbox are skipped.")
    if "boot" in args.parts and counted:
        boot.boot(lab, report, args.runs)
    if "where" in args.parts and counted:
        boot.where(lab, report)
    if "memory" in args.parts or "idle" in args.parts:
        idle.measure(lab, report, args.parts)
    if "balloon" in args.parts:
        balloon.measure(lab, report)
    if "api" in args.parts:
        api.measure(lab, report, args.runs)
    if "restore" in args.parts:
        restore.measure(lab, report, args.runs)
    if "migrate" in args.parts:
        migrate.measure(lab, report)
    if "dirty" in args.parts and counted:
        dirty.measure(lab, report)
    if "fio" in args.parts:
        fio.measure(lab, report)
    if "coop" in args.parts:
        coop.unused(lab, report, args.runs)
    if "sandbox" in args.parts and counted:
        sandbox.start(lab, report, args.runs)
    if "duetd" in args.parts:
        duetd.decision(lab, report)


def main(text: str) -> int:
    args = _arguments(text)
    report = Report()
    try:
        if set(args.parts) - WITHOUT_PEERS:
            with BenchLab(args.duet, keep=args.keep) as lab:
                report.note(lab.describe())
                _run_parts(args, lab, report)
        modules = {"io": io, "policy": policy, "coop": coop, "sandbox": sandbox}
        paths = [module for name, module in modules.items() if name in args.parts]
        if paths:
            with ExperimentLab(args.duet, args.keep, profile=True) as lab:
                report.note(lab.describe())
                for module in paths:
                    module.measure(lab, report)
        if "duetd" in args.parts:
            with ExperimentLab(args.duet, args.keep, pmu=True) as lab:
                duetd.measure(lab, report)
        for part in aims.EXPERIMENTS:
            if part in args.parts:
                aims.measure(part, args.duet, args.keep, report)
    except (LabError, GuestError, GuestFailure) as error:
        say(str(error))
        return 125
    report.finish(args.json)
    return 1 if report.missed else 0
