# SPDX-License-Identifier: Apache-2.0
"""What a policy on the virtio path costs a packet, and how exactly limits hold."""

import json

from ..experiment import rates
from ..experiment.lab import HOME, PORT, ExperimentLab
from ..experiment.subject import MARK_END, MARK_START, Subject, undisturbed
from . import profile
from .report import Report

TAP, HOST, GUEST = "bench2", "10.77.9.1", "10.77.9.2"
TRIPS, WARMUP = 300, 50
RULES = 10
INSTRUCTIONS_MAX = 600  # of duet's own, a packet
OFF_MAX = 0.01  # of duet's own instructions a packet, when there is no policy
GATE_FILES = {"gate.c", "gate_change.c", "policy.c", "policy_own.c", "frame.c", "bucket.c"}
GATE_NAMES = r"net_gate|net_polic|gate_(wake|expired)|frame_|bucket_"  # of those of their functions that others call
PINGS = 200
DISK_MIB = 64
# By what they are of, as `duet ctl` takes them; 10/10ms are 1000 a second.
LIMITS = {
    "network, sent, bytes": (256 << 10,), "network, received, bytes": (256 << 10,),
    "network, sent, packets": (200, "10/10ms"), "network, received, packets": (200, "10/10ms"),
    "disk, read, bytes": (1 << 20,), "disk, written, bytes": (1 << 20,),
    "disk, read, requests": (100, "10/10ms"), "disk, written, requests": (100, "10/10ms"),
}  # fmt: skip


def _rules() -> str:
    """The last one is for what is sent here: all are tried."""
    others = [{"name": f"other{n}", "action": "deny", "protocol": "udp", "destination-ports": 9 + n}
              for n in range(RULES - 1)]  # fmt: skip
    return json.dumps([*others, {"name": "all", "action": "allow"}])


def _net(lab: ExperimentLab, option: str) -> str:
    lab.tap(TAP, HOST)
    return f"tap,ifname={TAP},mac=52:54:00:77:00:09{option}"


def _link_up(subject: Subject) -> None:
    subject.command(f"ip addr add {GUEST}/24 dev eth0; ip link set eth0 up")
    subject.command("workload offloads eth0 off")


def _trip(lab: ExperimentLab, option: str, taken_off: bool = False) -> float:
    """duet's own instructions for a packet and its answer; of a policy that was TAKEN_OFF while the guest ran."""
    socket = f"{HOME}/policy.sock"
    lab.shell(f"rm -f {socket}")
    with Subject(lab, "--net", _net(lab, option), "--api-sock", socket) as subject, lab.peer(HOST):
        _link_up(subject)
        if taken_off:
            lab.shell(f"{HOME}/duet ctl {socket} limit net0 tx-rate=0")
        found = subject.measure(f"workload request {HOST} {PORT} {TRIPS} {WARMUP}")
    return undisturbed(found["counts"]["steps"])["host_user"]


def _gate_instructions(lab: ExperimentLab) -> int:
    """Of the gate's functions while the host's kernel answers PINGS of a guest without a policy. At most: what other
    programs of the host do at the same addresses is in it."""
    with Subject(lab, "--net", _net(lab, "")) as subject:
        _link_up(subject)
        subject.command(f"ping -c 2 -q {HOST}")
        profile.expect(lab.host, MARK_START, MARK_END)
        subject.counted(f"mark {MARK_START}; ping -c {PINGS} -i 0.01 -q {HOST}; mark {MARK_END}; echo '{{}}'")
        blocks = profile.take(lab.host)
    counts = profile.by_function(blocks, profile.program_symbols(lab.duet), False, profile.STATIC)
    return sum(counts[name] for name in profile.functions_of(lab.duet, GATE_FILES, GATE_NAMES))


def _off(lab: ExperimentLab, report: Report, plain: float) -> None:
    """What the gate costs where there is none: its functions beside all, and after a policy is taken off again."""
    gate = _gate_instructions(lab)
    report.row("no policy: the gate's share of them", gate / PINGS / plain, "", OFF_MAX,
               detail=f"{gate} instructions in {PINGS} packets and their answers")  # fmt: skip
    after = _trip(lab, ",tx-rate=100M", taken_off=True)
    report.row("policy taken off again: more, as a share", abs(after / plain - 1), "", OFF_MAX,
               detail=f"{after / 2:.0f} a packet")  # fmt: skip


def _packets(lab: ExperimentLab, report: Report) -> None:
    path = f"{HOME}/rules.json"
    lab.shell(f"cat >{path} <<'END'\n{_rules()}\nEND\n")
    plain = _trip(lab, "")
    report.row("no policy: duet's instructions a packet", plain / 2, "")
    _off(lab, report, plain)
    ruled = _trip(lab, f",rules={path}")
    report.row(f"{RULES} rules: more a packet", (ruled - plain) / 2, "", INSTRUCTIONS_MAX)
    claims = _trip(lab, f",rules={path},mac-check=on,ip={GUEST}")
    report.row("... and its addresses checked: more a packet", (claims - plain) / 2, "")


def _limits(lab: ExperimentLab, report: Report) -> None:
    """Off by so much, of whole frames and of requests; judged where the guest could do more in the same run."""
    with rates.Limited(lab, TAP, HOST, GUEST, lab.disk("bench", DISK_MIB)) as guest:
        for name, limits in LIMITS.items():
            for point in guest.points(rates.KINDS[name], limits):
                _limit(report, point)


def _limit(report: Report, point: dict) -> None:
    name = f"{point['what']}, {point['text']}"
    if point["got"] is None:
        report.note(f"  {name}: skipped, for {rates.too_slow(point)}")
        return
    report.row(f"{name}: off by", abs(rates.off(point)), "", rates.OFF_BY,
               detail=f"{point['got']:.1f} of {point['limit']:.0f} {point['unit']} a second; {point['free']:.0f} without; windows {rates.spread(point)}")  # fmt: skip


def measure(lab: ExperimentLab, report: Report) -> None:
    report.heading("A policy on the virtio path")
    if lab.counts:
        _packets(lab, report)
    else:
        report.note("  Instructions are counted in the nested lab only: skipped.")
    _limits(lab, report)
