# SPDX-License-Identifier: Apache-2.0
"""M12: time-outs on the wall's clock and on effective time, when the host has others to serve.

A request/response service with a time-out, and TCP, with 1, 2 and 4 times the load that fits."""

import re

from duetlab.experiment.lab import PORT, ExperimentLab
from duetlab.experiment.record import attempt, usual_confounders
from duetlab.experiment.subject import Subject

ORDER = 12
MECHANISMS = {"M12": "Steal time and effective time"}
TITLE = "Time: when a time-out is nobody's fault"
WHAT = ("A client asks a service on the same vCPU and waits for so long at most. While other programs have the host's CPU the "
        "service cannot work, but the wall's clock goes on; effective time, dT = wall − stolen, does not. Then TCP, whose "
        "sender loses its CPU for longer than its time-out.")

TIMES = (1, 2, 4)
REQUESTS, WORK_US, TIMEOUT_MS = 200, 5000, 15
CLOCKS = ("wall", "effective")
TAP, HOST, GUEST = "exp0", "10.77.3.1", "10.77.3.2"
CONTROLS = ("cubic", "reno", "duet")
STREAM_BYTES = 8 << 20
STRETCH = 16  # the module's bound on what a time-out may take on the wall

COUNTS = ("awk '/^TcpExt:/ {if (n++) {for (i in column) print i, $(column[i])} else for (i = 2; i <= NF; i++) "
          "if ($i ~ /^(TCPTimeouts|TCPSpuriousRTOs)$/) column[$i] = i}' /proc/net/netstat; "
          "echo undone $(cat /sys/module/duet/parameters/tcp_undone)")


def service(lab: ExperimentLab) -> dict:
    """By load and clock."""
    with Subject(lab, kit=True) as subject:
        found = {times: crowded(lab, subject, times) for times in TIMES}
        return {"runs": found, "pinned": subject.pinned}


def crowded(lab: ExperimentLab, subject: Subject, times: int) -> dict:
    with lab.crowd(times - 1):
        return {clock: subject.counted(f"workload await {REQUESTS} {WORK_US} {TIMEOUT_MS} {clock}")["answer"]
                for clock in CLOCKS}


def counted(subject: Subject) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"^(TCP\w+|undone) (\d+)$", subject.command(COUNTS), re.MULTILINE)}


def transfer(subject: Subject, control: str) -> dict:
    subject.command(f"echo {control} >/proc/sys/net/ipv4/tcp_congestion_control")
    before = counted(subject)
    answer = subject.counted(f"workload stream {HOST} {PORT} {STREAM_BYTES}")["answer"]
    after = counted(subject)
    return {name: after[name] - before.get(name, 0) for name in after} | {"bytes_per_s": STREAM_BYTES * 1e9 / answer["ns"]}


def tcp(lab: ExperimentLab) -> dict:
    """By load and congestion control."""
    tap = lab.tap(TAP, HOST)
    found = {}
    with Subject(lab, "--net", f"tap,ifname={tap}", kit=True) as subject, lab.peer(HOST):
        subject.command(f"ip addr flush dev eth0; ip addr add {GUEST}/24 dev eth0; ip link set eth0 up")
        for times in TIMES:
            lab.quota(subject.guest.pid_path, 1 / times)
            found[times] = {control: transfer(subject, control) for control in CONTROLS}
    return found


def run(lab: ExperimentLab, record) -> None:
    tell(lab, record, attempt(record, "service", service, lab), attempt(record, "TCP", tcp, lab))


def tell(lab: ExperimentLab, record, found: dict | None, streams: dict | None) -> None:
    record.figure("service", found)
    record.figure("tcp", streams)
    if found:
        tell_service(lab, record, found["runs"])
    if streams:
        record.table(f"TCP, {STREAM_BYTES >> 20} MiB from the guest, which has a part of a CPU in turns of a second",
                     ["load", "congestion control", "time-outs", "undone by TCP itself", "undone by the module", "MiB/s"],
                     [[f"{times} times", control, run["TCPTimeouts"], run["TCPSpuriousRTOs"], run["undone"],
                       f"{run['bytes_per_s'] / (1 << 20):.1f}"]
                      for times, runs in streams.items() for control, run in runs.items()], emulated=lab.counts)
    record.symbol("S", "stolen time: how long the vCPU was ready to run and had no CPU.")
    record.symbol("dT", "effective time between two points: dT = wall − S.")
    usual_confounders(record, lab, found["pinned"] if found else "")
    claim(record, found, streams)


def tell_service(lab: ExperimentLab, record, runs: dict) -> None:
    record.table(f"{REQUESTS} requests of {WORK_US / 1000:.0f} ms of work, time-out {TIMEOUT_MS} ms",
                 ["load", "clock", "time-outs in vain", "mean, ms", "worst, ms", "a dead service is noticed after, ms"],
                 [[f"{times} times", clock, run["timeouts"], f"{run['mean_ns'] / 1e6:.1f}", f"{run['worst_ns'] / 1e6:.1f}",
                   f"{run['dead_ns'] / 1e6:.1f}"] for times, clocks in runs.items() for clock, run in clocks.items()],
                 emulated=lab.counts)
    record.chart("Time-outs in vain", "; ".join(f"{times} times the load: {clocks['wall']['timeouts']} on the wall, "
                                                f"{clocks['effective']['timeouts']} effective" for times, clocks in runs.items()),
                 "Every request is answered in the end: a time-out before that tells of the host's load, not of the service.",
                 [{"name": clock, "style": "bars", "x": [f"{times} times" for times in runs],
                   "y": [clocks[clock]["timeouts"] for clocks in runs.values()]} for clock in CLOCKS],
                 x_label="load", y_label=f"of {REQUESTS} requests", emulated=lab.counts)


def claim(record, found: dict | None, streams: dict | None) -> None:
    words = ("M12", "Time-outs on effective time do not fire for what the host took away.", "dT_eff = dT_wall − dS")
    if not found:
        record.claim(*words, "–", "not measured", "The service could not be run here; the reason is under Skipped.")
        return
    most = found["runs"][TIMES[-1]]
    wall, effective, dead = most["wall"]["timeouts"], most["effective"]["timeouts"], most["effective"]["dead_ns"] / 1e6
    undone = sum(run["undone"] for run in streams[TIMES[-1]].values()) if streams else 0
    bounded = dead < STRETCH * TIMEOUT_MS * 2
    record.claim(*words, f"at {TIMES[-1]} times the load {wall} time-outs in vain of {REQUESTS} on the wall, {effective} effective; "
                 f"a dead service is noticed after {dead:.0f} ms; {undone} of TCP's time-outs undone",
                 "yes" if wall > 0 and effective <= wall / 10 and bounded else "partly" if effective < wall and bounded else "no",
                 "What was stolen is put on top of the time-out, and no more: one who is dead is still noticed in bounded time.")


def selftest(lab: ExperimentLab, record) -> None:
    """A fourth of the requests time out on the wall, none effectively."""
    def one(timeouts: int) -> dict:
        return {"requests": REQUESTS, "timeouts": timeouts, "mean_ns": 5e6, "worst_ns": 3e7, "stolen_ns": 1e9, "dead_ns": 6e7}

    runs = {times: {"wall": one((times - 1) * 16), "effective": one(0)} for times in TIMES}
    stream = {"TCPTimeouts": 3, "TCPSpuriousRTOs": 1, "undone": 2, "bytes_per_s": 5e7}
    tell(lab, record, {"runs": runs, "pinned": "vcpu0 on CPU 1"}, {times: dict.fromkeys(CONTROLS, stream) for times in TIMES})
    assert record.data["claims"][0]["agrees"] == "yes"
    assert "48 time-outs in vain of 200 on the wall, 0 effective" in record.data["claims"][0]["measured"]
