# SPDX-License-Identifier: Apache-2.0
"""M1 and M2: a request and its response through e1000, virtio-net and vhost-net.

UDP round trips of 64 bytes, offloads and interrupt coalescing off, then on; a TCP transfer with and
without offloads."""

from duetlab.experiment.lab import PORT, ExperimentLab
from duetlab.experiment.model import si
from duetlab.experiment.record import attempt, usual_confounders
from duetlab.experiment.subject import Subject, group, summed, undisturbed

ORDER = 1
MECHANISMS = {"M1": "Device emulation (e1000)", "M2": "Paravirtual network (virtio-net)"}
TITLE = "Latency: a request and its response"
WHAT = ("The guest sends a packet with 64 bytes to a peer on the host, which sends it back; the next request goes out "
        "when the response has come. The same guest, the same peer, the same tap interface: only the model of the "
        "network card differs.")

TAP, HOST, GUEST = "exp0", "10.77.2.1", "10.77.2.2"
MODELS = {"e1000": "model=e1000", "virtio-net": "model=virtio", "vhost-net": "model=virtio,vhost=on"}
TRIPS, WARMUP = 300, 50
STREAM_BYTES = 2 << 20
TIMES = ("mean_ns", "sd_ns", "p99_ns")


def exits_to_user(found: dict, trips: int) -> float:
    """For each round trip."""
    return found["user_exits"] / trips


def kicks(found: dict, trips: int) -> float:
    return sum(summed(grown, "kicks") for grown in found["devices"].values()) / trips


def trips_of(subject: Subject) -> dict:
    found = subject.measure(f"workload request {HOST} {PORT} {TRIPS} {WARMUP}")
    total = TRIPS + WARMUP
    trip = undisturbed(found["counts"]["steps"]) if found["counts"] else {}
    return {"times": found["answer"], "user_exits": exits_to_user(found, total), "kicks": kicks(found, total),
            "guest_entries": trip.get("vmruns"), "host": trip.get("host"), "guest_kernel": trip.get("guest_high"),
            "accesses": {name: count / total for name, count in sorted(
                found["accesses"].items(), key=lambda item: -item[1])}, "registers": registers(found, total)}


def registers(found: dict, trips: int) -> dict[str, float]:
    """The e1000's accesses by register for each round trip, the most frequent first."""
    counts = {}
    for grown in found["devices"].values():
        if grown.get("type") == "e1000":
            counts |= {name: count / trips for name, count in group(grown, "registers").items() if count}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def stream_of(subject: Subject) -> dict:
    found = subject.measure(f"workload stream {HOST} {PORT} {STREAM_BYTES}")
    mebibytes = STREAM_BYTES / (1 << 20)
    counts = found["counts"]
    return {"user_exits": exits_to_user(found, 1) / mebibytes, "kicks": kicks(found, 1) / mebibytes,
            "host": counts["host"] / mebibytes if counts else None,
            "guest_entries": counts["vmruns"] / mebibytes if counts else None, "ns": found["answer"]["ns"]}


def one_model(lab: ExperimentLab, option: str) -> dict:
    tap = lab.tap(TAP, HOST)
    found = {}
    with Subject(lab, "--net", f"tap,ifname={tap},{option},mac=52:54:00:77:00:02") as subject, lab.peer(HOST):
        for state in ("off", "on"):
            if "e1000" in option:  # the 82540's coalescing is the driver's parameter: off, or as it comes
                throttle = 0 if state == "off" else 3
                subject.command(f"rmmod e1000; modprobe e1000 InterruptThrottleRate={throttle}")
            subject.command(f"ip addr flush dev eth0; ip addr add {GUEST}/24 dev eth0; ip link set eth0 up")
            answer = subject.command(f"workload offloads eth0 {state}")
            found[f"features_{state}"] = answer.strip().splitlines()[-1]
            found[state] = trips_of(subject)
            found[f"stream_{state}"] = stream_of(subject)
        found["pinned"] = subject.pinned
    return found


def run(lab: ExperimentLab, record) -> None:
    found = {}
    for name, option in MODELS.items():
        result = attempt(record, name, one_model, lab, option)
        if result:
            found[name] = result
    tell(lab, record, found)


def tell(lab: ExperimentLab, record, found: dict) -> None:
    record.figure("models", found)
    if found:
        tables(record, found, lab)
        charts(record, found, lab)
    record.symbol("RTT", "round-trip time: from sending a request to having its response.")
    record.symbol("σ", "standard deviation: how far single round trips lie from their mean; the chapter's jitter.")
    record.symbol("exit", "the CPU leaves the guest because the hypervisor has to act. An exit to user space goes on to duet, "
                  "and is the dearest; a kick ends in the host's kernel, which wakes a thread.")
    record.symbol("kick", "the guest's write to a doorbell. vhost-net's kicks go to the host's kernel and duet does not see "
                  "them: there they are among the guest entries only.")
    confounders(record, found, lab)
    claims(record, found, lab)


def tables(record, found: dict, lab: ExperimentLab) -> None:
    rows = []
    for name, result in found.items():
        plain = result["off"]
        rows.append([name, f"{plain['user_exits']:.2f}", f"{plain['kicks']:.2f}",
                     "–" if plain["guest_entries"] is None else f"{plain['guest_entries']:.1f}",
                     si(plain["host"]), si(plain["guest_kernel"])])
    record.table("What a round trip costs, offloads and coalescing off",
                 ["model", "exits to user space", "kicks", "guest entries", "host instructions",
                  "guest kernel's instructions"], rows)
    rows = [[name, words, *(f"{result[state]['times'][key] / 1000:.0f}" for key in TIMES), result[state]["times"]["lost"]]
            for name, result in found.items() for state, words in (("off", "off"), ("on", "on"))]
    record.table("Round-trip times in µs", ["model", "offloads and coalescing", "mean", "standard deviation σ", "p99", "lost"],
                 rows, emulated=lab.counts)
    if "e1000" in found:
        plain = found["e1000"]["off"]
        shown = plain["registers"] or plain["accesses"]
        record.table("e1000: which accesses a round trip makes", ["access", "for each round trip"],
                     [[name, f"{value:.2f}"] for name, value in shown.items() if value >= 0.05])
    rows = [[name, words, f"{result[key]['user_exits']:.0f}", f"{result[key]['kicks']:.0f}", si(result[key]["host"])]
            for name, result in found.items() for key, words in (("stream_off", "off"), ("stream_on", "on"))]
    record.table("What offloads hide: a TCP transfer from the guest, for each MiB",
                 ["model", "offloads", "exits to user space", "kicks", "host instructions"], rows)


def charts(record, found: dict, lab: ExperimentLab) -> None:
    names = list(found)
    costs = [result["off"]["user_exits"] for result in found.values()]
    kicked = [result["off"]["kicks"] for result in found.values()]
    record.chart("Exits for each round trip", "; ".join(f"{name}: {a:.1f} exits to user space and {b:.1f} kicks"
                 for name, a, b in zip(names, costs, kicked, strict=True)),
                 "An emulated card's registers are touched many times for each packet, and every touch leaves the guest. "
                 "virtio needs one kick.",
                 [{"name": "exits to user space", "style": "bars", "x": names, "y": costs},
                  {"name": "kicks", "style": "bars", "x": names, "y": kicked}], y_label="for each round trip")
    if lab.counts:
        record.chart("Host instructions for each round trip",
                     "; ".join(f"{name}: {si(result['off']['host'])}" for name, result in found.items()),
                     "All that the host executes, kernel and duet, from request to response; the peer's share is in each bar "
                     "and is the same.", [{"name": "host instructions", "style": "bars", "x": names,
                                           "y": [result["off"]["host"] for result in found.values()]}],
                     y_label="instructions")
    record.chart("How round-trip times spread",
                 "For each model the share of round trips that took no longer than a given time.",
                 "A curve further left is faster; a steeper one has less jitter.",
                 [{"name": name, "style": "line", "x": [value / 1000 for value in result["off"]["times"]["percentiles_ns"]],
                   "y": [2 * i for i in range(51)]} for name, result in found.items()],
                 x_label="round-trip time, µs", y_label="% of the round trips", log_x=True, emulated=lab.counts)


def confounders(record, found: dict, lab: ExperimentLab) -> None:
    usual_confounders(record, lab, next((result["pinned"] for result in found.values()), ""))
    record.confounder("Interrupt coalescing", "controlled",
                      "the driver's InterruptThrottleRate=0 for e1000 (its ITR); virtio-net has none here; both settings are in the tables")
    record.confounder("Offloads", "controlled",
                      "checksums, scatter-gather, TSO, GSO and GRO are switched off in the guest, and on again for the second rows")
    record.confounder("Other load", "not controlled" if lab.counts else "not applicable",
                      "the machine below the lab runs other programs: times suffer, counts take the undisturbed tenth of "
                      "the round trips" if lab.counts else "run it on an idle machine")


def claims(record, found: dict, lab: ExperimentLab) -> None:
    emulated = " (emulated times)" if lab.counts else ""
    old, new = found.get("e1000"), found.get("virtio-net")
    m1 = ("M1", "Emulating a real card needs no change in the guest, but every access to a register is a costly exit.",
          "exits for each packet = accesses to registers that the driver makes")
    m2 = ("M2", "virtio-net leaves the guest far less often than e1000, and so its latency and its jitter σ are lower.",
          "cost of a round trip ≈ its exits × the cost of one exit + the work both share")
    if not old or not new:
        missing = "e1000" if not old else "virtio-net"
        for words in (m1, m2):
            record.claim(*words, "–", "not measured", f"{missing} could not be measured here; the reason is under Skipped.")
        return
    exits_old, exits_new = old["off"]["user_exits"], new["off"]["user_exits"] + new["off"]["kicks"]
    first = next(iter(old["off"]["registers"] or old["off"]["accesses"]), "none")
    record.claim(*m1, f"{exits_old:.1f} exits to user space for each round trip (two packets), most often {first}",
                 "yes" if exits_old > 2 else "no",
                 "Debian's own e1000 driver runs unmodified. Each round trip sends one packet and receives one, and the "
                 "registers it needs are read and written through duet, one exit each.")
    fewer = exits_old / exits_new if exits_new else float("inf")
    times_old, times_new = old["off"]["times"], new["off"]["times"]
    calmer = times_new["mean_ns"] < times_old["mean_ns"], times_new["sd_ns"] < times_old["sd_ns"]
    record.claim(*m2, f"{fewer:.1f} times fewer exits and kicks; host instructions {si(old['off']['host'])} → {si(new['off']['host'])}; "
                 f"mean {times_old['mean_ns'] / 1000:.0f} → {times_new['mean_ns'] / 1000:.0f} µs, "
                 f"σ {times_old['sd_ns'] / 1000:.0f} → {times_new['sd_ns'] / 1000:.0f} µs{emulated}",
                 "yes" if fewer > 1 and all(calmer) else "partly" if fewer > 1 else "no",
                 ("Fewer exits, less work, and a shorter and steadier round trip." if all(calmer) else
                  "Exits and work fall as claimed" + (", the mean too, but not σ" if calmer[0] else ", σ too, but not the mean"
                  if calmer[1] else ", but neither mean nor σ") + ": "
                  + ("times in the lab carry the load of the machine below it." if lab.counts else "look at the spread of the times.")))


def selftest(lab: ExperimentLab, record) -> None:
    """Ten register accesses against one kick, and half the time: both claims hold."""
    def model(exits: float, kicked: float, slowness: int) -> dict:
        times = {"mean_ns": slowness * 1e6, "sd_ns": slowness * 4e5, "p99_ns": slowness * 3e6, "lost": 0,
                 "percentiles_ns": [slowness * (5e5 + 1e4 * i) for i in range(51)]}
        counts = (5 * exits, 1e4 * exits + 6e4, 1.5e4) if lab.counts else (None, None, None)
        trip = {"times": times, "user_exits": exits, "kicks": kicked, "accesses": {"net0 registers": exits},
                "registers": {"ICR read": exits} if exits else {}} | dict(zip(("guest_entries", "host", "guest_kernel"), counts, strict=True))
        stream = {"user_exits": 700 * exits, "kicks": 90 * kicked, "host": counts[1]}
        return {"off": trip, "on": trip, "stream_off": stream, "stream_on": stream, "pinned": "vcpu0 on CPU 1"}

    tell(lab, record, {"e1000": model(10, 0, 2), "virtio-net": model(0, 1, 1)})
    first, second = record.data["claims"]
    assert first["agrees"] == "yes" and "most often ICR read" in first["measured"]
    assert second["agrees"] == "yes" and second["measured"].startswith("10.0 times fewer")
