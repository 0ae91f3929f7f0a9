# SPDX-License-Identifier: Apache-2.0
"""What a policy on the virtio path costs a packet, and how exactly limits hold."""

import json

from ..experiment.lab import HOME, PORT, ExperimentLab
from ..experiment.subject import Subject, undisturbed
from .report import Report

TAP, HOST, GUEST = "bench2", "10.77.9.1", "10.77.9.2"
TRIPS, WARMUP = 300, 50
RULES = 10
INSTRUCTIONS_MAX = 600  # of duet's own, a packet
OFF_BY = 0.05
ENOUGH = 1.5  # times the limit, without it
DISK_MIB = 64
# As --disk has it, operations a second, how many are read.
LIMITS = (("100", 100, 600), ("10/10ms", 1000, 4000))


def _rules() -> str:
    """The last one is for what is sent here: all are tried."""
    others = [{"name": f"other{n}", "action": "deny", "protocol": "udp", "destination-ports": 9 + n}
              for n in range(RULES - 1)]  # fmt: skip
    return json.dumps([*others, {"name": "all", "action": "allow"}])


def _trip(lab: ExperimentLab, option: str) -> float:
    """duet's own instructions for a packet and its answer."""
    lab.tap(TAP, HOST)
    net = f"tap,ifname={TAP},mac=52:54:00:77:00:09{option}"
    with Subject(lab, "--net", net) as subject, lab.peer(HOST):
        subject.command(f"ip addr add {GUEST}/24 dev eth0; ip link set eth0 up")
        subject.command("workload offloads eth0 off")
        found = subject.measure(f"workload request {HOST} {PORT} {TRIPS} {WARMUP}")
    return undisturbed(found["counts"]["steps"])["host_user"]


def _packets(lab: ExperimentLab, report: Report) -> None:
    path = f"{HOME}/rules.json"
    lab.shell(f"cat >{path} <<'END'\n{_rules()}\nEND\n")
    plain = _trip(lab, "")
    report.row("no policy: duet's instructions a packet", plain / 2, "")
    ruled = _trip(lab, f",rules={path}")
    report.row(f"{RULES} rules: more a packet", (ruled - plain) / 2, "", INSTRUCTIONS_MAX)
    claims = _trip(lab, f",rules={path},mac-check=on,ip={GUEST}")
    report.row("... and its addresses checked: more a packet", (claims - plain) / 2, "")


def _achieved(lab: ExperimentLab, path: str, limit: str, count: int) -> float:
    """Operations a second of 4 KiB reads, sixteen at a time."""
    with Subject(lab, "--disk", f"path={path},cache=direct{limit}") as subject:
        answer = subject.counted(f"workload disk /dev/vda read 16 {count} 4096")["answer"]
    return count / (answer["ns"] / 1e9)


def _limits(lab: ExperimentLab, report: Report) -> None:
    path = lab.disk("bench", DISK_MIB)
    free = _achieved(lab, path, "", max(count for *_, count in LIMITS))
    report.row("without a limit", free, "operations a second")
    for text, rate, count in LIMITS:
        if free < rate * ENOUGH:
            report.note(f"  iops={text}: skipped, for without a limit the guest is not faster here")
            continue
        achieved = _achieved(lab, path, f",iops={text}", count)
        report.row(f"iops={text}: off by", abs(achieved / rate - 1), "", OFF_BY,
                   detail=f"{achieved:.1f} of {rate} operations a second")  # fmt: skip


def measure(lab: ExperimentLab, report: Report) -> None:
    report.heading("A policy on the virtio path")
    if lab.counts:
        _packets(lab, report)
    else:
        report.note("  Instructions are counted in the nested lab only: skipped.")
    _limits(lab, report)
