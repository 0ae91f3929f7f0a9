# SPDX-License-Identifier: Apache-2.0
"""M3: what a packet's notification costs when k packets share a kick.

k from 1 to 256, with and without interrupts; fits H, I and c; the same with `poll=on`."""

from duetlab.experiment.lab import ExperimentLab
from duetlab.experiment.model import kick_model, si
from duetlab.experiment.record import attempt, usual_confounders
from duetlab.experiment.subject import Subject, summed, undisturbed

ORDER = 2
MECHANISMS = {"M3": "Shared rings and batching"}
TITLE = "Batching: one kick for k packets"
WHAT = ("A program in the guest takes Linux's driver off a virtio-net device and drives its transmit ring "
        "itself: it puts exactly k packets into the ring, kicks once, and waits until the device has used "
        "them. Once the device is told not to interrupt, once it interrupts for what it has completed.")

TAP, ADDRESS = "exp0", "10.77.1.1"
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCHES_MOST, BATCHES_LEAST, PACKETS = 200, 60, 8192


def batches(k: int) -> int:
    return max(BATCHES_LEAST, min(BATCHES_MOST, PACKETS // k))


def point(subject: Subject, device: str, k: int, mode: str) -> dict:
    found = subject.measure(f"workload rings {device} {k} {batches(k)} {mode}")
    answer, counts = found["answer"], found["counts"]
    packets = answer["packets"]
    kicks_seen = sum(summed(grown, "kicks") for grown in found["devices"].values())
    # Host and, of the guest, its kernel: the guest's program only waits.
    if counts:
        batch = undisturbed(counts["steps"])
        cost, exits = (batch["host"] + batch["guest_high"]) / k, batch["vmruns"] / k
    else:
        cost, exits = answer["ns"] / packets, None
    return {"k": k, "mode": mode, "packets": packets, "kicks": answer["kicks"] / packets,
            "interrupts": answer["interrupts"] / packets, "cost": cost,
            "exits": exits, "kicks_seen": kicks_seen,
            "ns": answer["ns"] / packets}


def sweep(lab: ExperimentLab, *options: str, modes: tuple[str, ...] = ("poll", "interrupt")) -> tuple[list[dict], str]:
    """All points under one guest, and how it was pinned."""
    tap = lab.tap(TAP, ADDRESS)
    with Subject(lab, "--net", ",".join((f"tap,ifname={tap}", *options))) as subject:
        subject.command("echo 2 >/proc/sys/vm/nr_hugepages")
        device = subject.command("basename $(readlink -f /sys/class/net/eth0/device/..)").strip()
        return [point(subject, device, k, mode) for k in BATCH_SIZES for mode in modes], subject.pinned


def run(lab: ExperimentLab, record) -> None:
    points, pinned = sweep(lab)
    tell(lab, record, points, pinned, attempt(record, "a polling device (poll=on)", polling, lab))


def tell(lab: ExperimentLab, record, points: list[dict], pinned: str, polled: list[dict] | None) -> None:
    unit = "instructions" if lab.counts else "ns"
    model = kick_model(points)
    record.figure("points", points)
    record.figure("model", model)
    record.figure("unit", unit)
    symbols(record, model, unit)
    chart(record, points, model, unit)
    table(record, points, model, unit)
    if polled:
        record.figure("polling", polled)
        record.table("The same with poll=on: the device looks into the ring by itself, and the guest is told not to kick",
                     ["k", "kicks for each batch", "guest entries for each batch"],
                     [[p["k"], f"{p['kicks'] * p['k']:.2f}", "–" if p["exits"] is None else f"{p['exits'] * p['k']:.1f}"]
                      for p in polled])
    usual_confounders(record, lab, pinned)
    record.confounder("Interrupt coalescing", "controlled", "the program decides by the ring's flag whether there "
                      "are interrupts, and each is counted")
    record.confounder("Offloads", "controlled", "the program negotiates none; every packet is one 64-byte frame")
    record.confounder("The host's timer ticks", "controlled" if lab.counts else "not controlled",
                      "batches are counted one by one and the cheapest tenth is taken: what disturbs a batch only adds to it" if lab.counts else "part of the times")
    verdict(record, points, model, unit)


def polling(lab: ExperimentLab) -> list[dict]:
    return sweep(lab, "poll=on", modes=("heed",))[0]


def symbols(record, model: dict, unit: str) -> None:
    record.symbol("k", "how many packets the guest puts into the ring before it kicks.")
    record.symbol("H", f"what one kick costs: the guest's write to the doorbell, the exit to the hypervisor, and waking "
                  f"the thread that serves the ring. Measured: {si(model['H'])} {unit}.")
    record.symbol("I", f"what one interrupt costs: injecting it and the guest's handler. Measured: {si(model['I'])} {unit}.")
    record.symbol("c", f"what a packet costs however it is announced: reading it from the ring and handing it to the host's "
                  f"network. Measured: {si(model['c'])} {unit}.")


def curve(model: dict, k: int, interrupts: float = 0) -> float:
    return model["c"] + model["H"] / k + model["I"] * interrupts


def chart(record, points: list[dict], model: dict, unit: str) -> None:
    def of(mode):
        chosen = [p for p in points if p["mode"] == mode]
        return [p["k"] for p in chosen], [p["cost"] for p in chosen]

    ks = list(BATCH_SIZES)
    series = [{"name": "measured, no interrupts", "style": "points", "x": of("poll")[0], "y": of("poll")[1]},
              {"name": "measured, with interrupts", "style": "points", "x": of("interrupt")[0], "y": of("interrupt")[1]},
              {"name": "model c + H/k", "style": "line", "x": ks, "y": [curve(model, k) for k in ks]},
              {"name": "model c + (H + I)/k", "style": "dashed", "x": ks, "y": [curve(model, k, 1 / k) for k in ks]}]
    record.chart("Cost of a packet against the batch size",
                 f"Cost of a packet falls from {si(points[0]['cost'])} {unit} at k = 1 to {si(points[-1]['cost'])} at "
                 f"k = {points[-1]['k']}, along the curve c + H/k.",
                 "Each point is one run. The more packets share a kick, the less of the kick each one pays; what is left "
                 "at the right is c, the work on the packet itself.", series,
                 x_label="k, packets for each kick", y_label=f"{unit} for each packet", log_x=True, log_y=True,
                 emulated=not unit == "instructions")
    if not model["crossover"]:
        return  # no lines that could cross
    ratio = model["crossover"]
    record.chart("Notification alone: shared kick against an interrupt for each packet",
                 f"The falling line H/k crosses the level line I at k = {ratio:.1f}.",
                 "The chapter compares H/k, a kick shared by k packets, with I, an interrupt for every packet. Where the "
                 "lines cross, k = H/I, batching begins to win.",
                 [{"name": "H/k", "style": "line", "x": ks, "y": [model["H"] / k for k in ks]},
                  {"name": "I", "style": "dashed", "x": ks, "y": [model["I"]] * len(ks)},
                  {"name": "measured, less c", "style": "points",
                   "x": [p["k"] for p in points if p["mode"] == "poll" and p["cost"] > model["c"]],
                   "y": [p["cost"] - model["c"] for p in points if p["mode"] == "poll" and p["cost"] > model["c"]]}],
                 x_label="k, packets for each kick", y_label=f"{unit} for each packet", log_x=True, log_y=True)


def table(record, points: list[dict], model: dict, unit: str) -> None:
    rows = []
    for p, predicted in zip(points, model["predicted"], strict=True):
        rows.append([p["k"], "yes" if p["mode"] == "interrupt" else "no", f"{p['kicks']:.4g}", f"{p['interrupts']:.4g}",
                     "–" if p["exits"] is None else f"{p['exits']:.3g}", si(p["cost"]), si(predicted)])
    record.table("For each packet", ["k", "interrupts", "kicks", "interrupts seen", "guest entries",
                                     f"cost, {unit}", "model"], rows)


def verdict(record, points: list[dict], model: dict, unit: str) -> None:
    ratio = model["crossover"]
    good = model["r2"] > 0.95 and ratio is not None
    one = next(p["cost"] for p in points if p["k"] == 1 and p["mode"] == "poll")
    last = next(p["cost"] for p in points if p["k"] == BATCH_SIZES[-1] and p["mode"] == "poll")
    record.claim(
        "M3", "When k packets share one kick that costs H, each pays H/k; an interrupt for each packet costs I each time. "
        "Batching wins once k is above H/I.",
        "cost of a packet = c + H · kicks + I · interrupts, fitted to all points by least squares",
        f"H = {si(model['H'])}, I = {si(model['I'])} {unit}, crossover k = H/I = {si(ratio, 2)}; "
        f"the model explains {100 * model['r2']:.1f} % of the differences",
        "yes" if good else "partly" if model["r2"] > 0.8 else "no",
        f"From k = 1 to k = {BATCH_SIZES[-1]} a packet's cost falls {one / last:.0f}-fold, from {si(one)} to {si(last)} {unit}, "
        + ("as the formula says. With the H and I of this machine, "
           + ("already a batch of two is cheaper than an interrupt for each packet." if ratio < 2 else
              f"batches of more than {ratio:.1f} packets beat an interrupt for each.") if good else "but the formula does not describe it well here: see the table."))


def selftest(lab: ExperimentLab, record) -> None:
    """Points just as the formula has them: it finds H, I and the crossover again."""
    def made(k: int, mode: str) -> dict:
        rate = 1 / k if mode == "interrupt" else 0
        return {"k": k, "mode": mode, "kicks": 1 / k, "interrupts": rate, "cost": 3000 + 12000 / k + 4000 * rate,
                "exits": (1 / k + rate) if lab.counts else None}

    polled = [made(k, "heed") | {"kicks": 0} for k in BATCH_SIZES]
    tell(lab, record, [made(k, mode) for k in BATCH_SIZES for mode in ("poll", "interrupt")], "vcpu0 on CPU 1", polled)
    claim, = record.data["claims"]
    assert claim["agrees"] == "yes" and "H = 12 k, I = 4 k" in claim["measured"] and "k = H/I = 3;" in claim["measured"]
