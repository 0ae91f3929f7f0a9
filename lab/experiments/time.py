# SPDX-License-Identifier: Apache-2.0
"""M12: time-outs on the wall's clock and on effective time, when the host has others to serve.

A request/response service with a time-out, with 1, 2 and 4 times the load that fits, and TCP with a part of a CPU."""

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
REQUESTS, WORK_US, TIMEOUT_MS = 20, 200_000, 600  # long: what the lab itself waits for is short beside it
CLOCKS = ("wall", "effective")
TAP, HOST, GUEST = "exp0", "10.77.3.1", "10.77.3.2"
CONTROLS = ("reno", "cubic", "duet")
STREAM_TIMES, STREAM_MS, STREAMS = (1, 2, 4), 1000, 8  # connections, with a theft in each second
STRETCH = 16  # the module's bound on what a time-out may take on the wall
EXACT = 0.1  # that the share of stolen time may be off the share that the thread waited

COUNTS = ("awk '/^TcpExt:/ {if (n++) {for (i in column) print i, $(column[i])} else for (i = 2; i <= NF; i++) "
          "if ($i ~ /^(TCPTimeouts|TCPSpuriousRTOs)$/) column[$i] = i}' /proc/net/netstat; "
          "echo undone $(cat /sys/module/duet/parameters/tcp_undone)")


def run(lab: ExperimentLab, record) -> None:
    if not attempt(record, "service and TCP", both, lab, record):
        tell(lab, record, None, None, "")


def both(lab: ExperimentLab, record) -> bool:
    """In one guest: most of the lab's time is a guest's start."""
    with Subject(lab, "--net", f"tap,ifname={lab.tap(TAP, HOST)}", kit=True) as subject:
        found = attempt(record, "service", service, lab, subject)
        streams = attempt(record, "TCP", tcp, lab, subject)
        tell(lab, record, found, streams, subject.pinned)
    return True


# The service


def service(lab: ExperimentLab, subject: Subject) -> dict:
    """By load and clock."""
    loops = subject.told(f"workload loops {WORK_US}")["loops"]
    return {times: crowded(lab, subject, times, loops) for times in TIMES}


def crowded(lab: ExperimentLab, subject: Subject, times: int, loops: int) -> dict:
    with lab.crowd(times - 1):
        return {clock: one(lab, subject, f"workload await {REQUESTS} {loops} {TIMEOUT_MS} {clock}") for clock in CLOCKS}


def one(lab: ExperimentLab, subject: Subject, workload: str) -> dict:
    """With what the host's scheduler says of the vCPU's thread, and the guest's instructions."""
    before = lab.vcpu_times(subject.guest.pid_path)
    found = subject.counted(workload)
    ran, waited = (after - earlier for after, earlier in zip(lab.vcpu_times(subject.guest.pid_path), before, strict=True))
    counts = found["counts"]
    guest = {"guest": counts["guest_low"] + counts["guest_high"]} if counts else {}
    return found["answer"] | {"ran_ns": ran, "waited_ns": waited} | guest


# TCP


def counted(subject: Subject) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"^(TCP\w+|undone) (\d+)$", subject.command(COUNTS), re.MULTILINE)}


def transfer(subject: Subject, control: str) -> dict:
    subject.command(f"echo {control} >/proc/sys/net/ipv4/tcp_congestion_control")
    before = counted(subject)
    answer = subject.counted(f"workload window {HOST} {PORT} {STREAM_MS} {STREAMS}")["answer"]
    after = counted(subject)
    return answer | {name: after[name] - before.get(name, 0) for name in after}


def tcp(lab: ExperimentLab, subject: Subject) -> dict:
    """By load and congestion control."""
    subject.command(f"ip addr flush dev eth0; ip addr add {GUEST}/24 dev eth0; ip link set eth0 up")
    # What one connection has learnt of the way is not the next one's.
    subject.command("echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save; echo 0 >/proc/sys/net/ipv4/tcp_early_retrans")
    found = {}
    with lab.peer(HOST):
        for times in STREAM_TIMES:
            lab.quota(subject.guest.pid_path, 1 / times)
            found[times] = {control: transfer(subject, control) for control in CONTROLS}
    return found


# What came of it


def tell(lab: ExperimentLab, record, runs: dict | None, streams: dict | None, pinned: str) -> None:
    record.figure("service", runs)
    record.figure("tcp", streams)
    if runs:
        tell_service(lab, record, runs)
        tell_clock(lab, record, runs)
    if streams:
        tell_tcp(lab, record, streams)
    record.symbol("S", "stolen time: how long the vCPU was ready to run and had no CPU.")
    record.symbol("dT", "effective time between two points: dT = wall − S.")
    usual_confounders(record, lab, pinned)
    if lab.counts:
        record.confounder("The lab's own waits", "not controlled",
                          "while the machine under the lab host serves others the lab's clock goes on, and nobody calls that "
                          "stolen: effective time-outs in vain may be its doing, and fewer of them are not")
    if streams:
        record.confounder("Tail loss probes", "controlled",
                          "off: with them the first timer after a theft is a probe, which cuts nothing, and few time-outs are left "
                          "for any congestion control")
    claim(record, runs, streams)


def tell_service(lab: ExperimentLab, record, runs: dict) -> None:
    columns = ["load", "clock", "time-outs in vain", "mean, ms", "worst, ms", "a dead service is noticed after, ms"]
    rows = [[f"{times} times", clock, run["timeouts"], f"{run['mean_ns'] / 1e6:.1f}", f"{run['worst_ns'] / 1e6:.1f}",
             f"{run['dead_ns'] / 1e6:.1f}"] for times, clocks in runs.items() for clock, run in clocks.items()]
    record.table(f"{REQUESTS} requests of {WORK_US / 1000:.0f} ms of work, time-out {TIMEOUT_MS} ms", columns, rows,
                 emulated=lab.counts)
    record.chart("Time-outs in vain", "; ".join(f"{times} times the load: {clocks['wall']['timeouts']} on the wall, "
                                                f"{clocks['effective']['timeouts']} effective" for times, clocks in runs.items()),
                 "Every request is answered in the end: a time-out before that tells of the host's load, not of the service.",
                 [{"name": clock, "style": "bars", "x": [f"{times} times" for times in runs],
                   "y": [clocks[clock]["timeouts"] for clocks in runs.values()]} for clock in CLOCKS],
                 x_label="load", y_label=f"of {REQUESTS} requests", emulated=lab.counts)


def tell_clock(lab: ExperimentLab, record, runs: dict) -> None:
    """The guest's effective clock beside what its host's scheduler knows of the vCPU's thread."""
    columns = ["load", "clock of the time-outs", "wall, ms", "effective, ms", "stolen", "its thread waited"]
    columns += ["guest's instructions a request"] if lab.counts else []
    rows = [[f"{times} times", clock, f"{run['wall_ns'] / 1e6:.0f}", f"{run['effective_ns'] / 1e6:.0f}",
             *(f"{100 * share:.1f} %" for share in shares(run)),
             *([f"{run['guest'] / run['requests']:.0f}"] if lab.counts else [])]
            for times, clocks in runs.items() for clock, run in clocks.items()]
    record.table("The same work at each load, by the guest's clocks and by its host's scheduler", columns, rows,
                 emulated=lab.counts)


def tell_tcp(lab: ExperimentLab, record, streams: dict) -> None:
    rows = [[f"{times} times", control, run["TCPTimeouts"], run["TCPSpuriousRTOs"], run["undone"], run["resent"],
             f"{run['window']:.1f}", run["lowest_window"], f"{run['bytes'] / (1 << 20):.1f}"]
            for times, controls in streams.items() for control, run in controls.items()]
    record.table(f"TCP from the guest, {STREAMS} connections of {STREAM_MS / 1000:.0f} s: it has a part of a CPU in turns of a second",
                 ["load", "congestion control", "time-outs", "undone by TCP itself", "undone by the module", "segments resent",
                  "window, mean", "window, least", "MiB sent"], rows, emulated=lab.counts)


def shares(run: dict) -> tuple[float, float]:
    """Of the time in which there was work: stolen by the guest's clocks; waited, by its host's scheduler.

    The scheduler's covers the program's start and end as well, hence shares."""
    return run["stolen_ns"] / run["wall_ns"], run["waited_ns"] / (run["ran_ns"] + run["waited_ns"])


def off(runs: dict) -> float:
    """By how much the two differ at the most load."""
    return max(abs(stolen - waited) for stolen, waited in map(shares, runs[TIMES[-1]].values()))


def tcp_holds(streams: dict) -> bool:
    """Most time-outs that the theft made cut nothing, which is so by the module alone."""
    stolen = streams[STREAM_TIMES[-1]]
    return stolen["duet"]["undone"] >= stolen["duet"]["TCPTimeouts"] / 2 and stolen["reno"]["undone"] == 0


def verdict(runs: dict, streams: dict | None) -> str:
    most = runs[TIMES[-1]]
    wall, effective, dead = most["wall"]["timeouts"], most["effective"]["timeouts"], most["effective"]["dead_ns"] / 1e6
    bounded = dead < STRETCH * TIMEOUT_MS * 2
    wholly = wall > 0 and effective <= wall / 10 and off(runs) <= EXACT
    if wholly and bounded and (not streams or tcp_holds(streams)):
        return "yes"
    return "partly" if effective < wall and bounded else "no"


def tcp_words(streams: dict | None) -> str:
    if not streams:
        return ""
    told = [f"{run['undone']} of {run['TCPTimeouts']} ({control})" for control, run in streams[STREAM_TIMES[-1]].items()]
    return f"; of TCP's time-outs the module undid {', '.join(told)}"


def claim(record, runs: dict | None, streams: dict | None) -> None:
    words = ("M12", "Time-outs on effective time do not fire for what the host took away.", "dT_eff = dT_wall − dS")
    if not runs:
        record.claim(*words, "–", "not measured", "The service could not be run here; the reason is under Skipped.")
        return
    most = runs[TIMES[-1]]
    record.claim(*words, f"at {TIMES[-1]} times the load {most['wall']['timeouts']} time-outs in vain of {REQUESTS} on the wall, "
                 f"{most['effective']['timeouts']} effective; {100 * shares(most['effective'])[0]:.0f} % of its "
                 f"time was stolen, and its thread waited for {100 * shares(most['effective'])[1]:.0f} %; a dead service is noticed after {most['effective']['dead_ns'] / 1e6:.0f} ms"
                 f"{tcp_words(streams)}", verdict(runs, streams),
                 "What was stolen is put on top of the time-out, and no more: one who is dead is still noticed in bounded time.")


def selftest(lab: ExperimentLab, record) -> None:
    """A fourth of the requests time out on the wall, none effectively."""
    def service_of(timeouts: int, times: int) -> dict:
        return {"requests": REQUESTS, "timeouts": timeouts, "mean_ns": 5e6, "worst_ns": 3e7, "stolen_ns": (times - 1) * 8e8,
                "dead_ns": 6e8, "wall_ns": times * 8e8, "effective_ns": 8e8, "ran_ns": 9e8, "waited_ns": (times - 1) * 9e8,
                "guest": 4e8}

    runs = {times: {"wall": service_of((times - 1) * 5, times), "effective": service_of(0, times)} for times in TIMES}
    stream = {"bytes": 1 << 22, "window": 30.5, "lowest_window": 10, "resent": 3, "TCPTimeouts": 4,
              "TCPSpuriousRTOs": 1}
    streams = {times: {control: stream | {"undone": 3 if control == "duet" else 0} for control in CONTROLS}
               for times in STREAM_TIMES}
    tell(lab, record, runs, streams, "vcpu0 on CPU 1")
    told = record.data["claims"][0]
    assert told["agrees"] == "yes"
    assert "15 time-outs in vain of 20 on the wall, 0 effective; 75 % of its time was stolen, and its thread waited for 75 %" in told["measured"]
    assert "0 of 4 (reno), 0 of 4 (cubic), 3 of 4 (duet)" in told["measured"]
    streams[STREAM_TIMES[-1]]["duet"]["undone"] = 1
    assert verdict(runs, streams) == "partly"
    runs[TIMES[-1]]["effective"]["timeouts"] = 16
    assert verdict(runs, streams) == "no"
