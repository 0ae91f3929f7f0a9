# SPDX-License-Identifier: Apache-2.0
"""M4: a disk request through IDE (PIO, DMA) and virtio-blk.

4 KiB at several depths; write amplification; IOPS on throttled disks against min(C, N)."""

from duetlab.experiment.lab import ExperimentLab
from duetlab.experiment.model import bounded_iops, si
from duetlab.experiment.record import attempt, usual_confounders
from duetlab.experiment.subject import Subject, each, summed

ORDER = 3
MECHANISMS = {"M4": "Disks: IDE and virtio-blk"}
TITLE = "Disk: IDE against virtio-blk"
WHAT = ("The guest reads and writes blocks of 4 KiB at random places of a disk, without its page cache, with a fixed "
        "number of requests under way (the depth). The disk is a file of the host, opened for direct I/O; a second set "
        "of disks lets only so many requests a second through, to see the device as the bottleneck.")

BLOCK = 4096
DISK_MIB = 32
DEPTHS = (1, 4, 32)
COUNTS = {"IDE PIO": 96, "IDE DMA": 240, "virtio-blk": 480}
LIMITS = {"virtio-blk": (20, 60, 200, 600, 2000, 8000), "IDE DMA": (20, 80, 600), "IDE PIO": (20, 80, 600)}
LIMIT_SECONDS = 2  # of requests at the limit, so that its burst does not count
LIMITED_MOST = 480
LIMITED_DEPTH = 32


def disk_options(lab: ExperimentLab, model: str) -> list[str]:
    """One disk without a limit, then those with limits, in the order of LIMITS."""
    kind = "virtio" if model == "virtio-blk" else "ide"
    options = []
    for number, limit in enumerate((0, *LIMITS[model])):
        path = lab.disk(f"{kind}-{number}", DISK_MIB)
        options += ["--disk", f"path={path},model={kind},cache=direct" + (f",iops={limit}" if limit else "")]
    return options


def host_writes(lab: ExperimentLab, path: str) -> dict:
    """Write requests and bytes that the device below PATH has completed so far."""
    text = lab.shell(f"sync; cat /sys/dev/block/$(stat -c '%Hd:%Ld' {path})/stat").split()
    return {"requests": int(text[4]), "bytes": int(text[6]) * 512}


def guest_disk(model: str, number: int) -> str:
    return f"/dev/{'vd' if model == 'virtio-blk' else 'sd'}{chr(ord('a') + number)}"


def io_stats(found: dict, total: int) -> dict:
    """Counters for each request: TOTAL of them went out, the warm-up included."""
    kicks = sum(summed(grown, "kicks") for grown in found["devices"].values())
    interrupts = sum(summed(grown, "interrupts") for grown in found["devices"].values()
                     if grown.get("type") in ("virtio-block", "virtio-blk", "ide"))
    return {"user_exits": found["user_exits"] / total, "registers": sum(found["accesses"].values()) / total, "kicks": kicks / total,
            "interrupts": interrupts / total, "accesses": {name: n / total for name, n in found["accesses"].items()}}


def requests(subject: Subject, model: str, way: str, depth: int, count: int, number: int = 0) -> dict:
    found = subject.measure(f"workload disk {guest_disk(model, number)} {way} {depth} {count} {BLOCK}")
    answer = found["answer"]
    result = {"depth": depth, "way": way, "iops": count / answer["ns"] * 1e9, **io_stats(found, count + answer["warmup"])}
    if one := each(found):
        result |= {"host": one["host"], "guest_kernel": one["guest_high"], "guest_entries": one["vmruns"]}
    return result


def amplification(lab: ExperimentLab, subject: Subject, model: str, path: str) -> dict:
    """What the guest's writes became below the host's file system."""
    count = COUNTS[model]
    before = host_writes(lab, path)
    result = requests(subject, model, "write", 1, count)
    after = host_writes(lab, path)
    total = count + 32
    return result | {"host_requests": (after["requests"] - before["requests"]) / total,
                     "host_bytes": (after["bytes"] - before["bytes"]) / (total * BLOCK)}


def limited(subject: Subject, model: str) -> list[dict]:
    """IOPS at each of the limits."""
    points = []
    for number, limit in enumerate(LIMITS[model], start=1):
        count = max(40, min(LIMITED_MOST, LIMIT_SECONDS * limit))
        point = requests(subject, model, "read", LIMITED_DEPTH if model == "virtio-blk" else 1, count, number)
        points.append({"limit": limit, "iops": point["iops"]})
    return points


def one_model(lab: ExperimentLab, model: str) -> dict:
    options = disk_options(lab, model)
    words = "libata.dma=0" if model == "IDE PIO" else ""
    with Subject(lab, *options, words=words) as subject:
        subject.command("modprobe -q sd_mod; modprobe -q ata_piix; n=0; "
                        f"until [ -b {guest_disk(model, len(LIMITS[model]))} ] || [ $n -ge 600 ]; do usleep 100000; n=$((n + 1)); done")
        depths = DEPTHS if model == "virtio-blk" else DEPTHS[:2]
        reads = [requests(subject, model, "read", depth, max(COUNTS[model], 32 * depth)) for depth in depths]
        return {"reads": reads, "write": amplification(lab, subject, model, lab.disks[-1 - len(LIMITS[model])]),
                "limited": limited(subject, model), "pinned": subject.pinned}


def run(lab: ExperimentLab, record) -> None:
    found = {}
    for model in COUNTS:
        result = attempt(record, model, one_model, lab, model)
        if result:
            found[model] = result
    tell(lab, record, found)


def tell(lab: ExperimentLab, record, found: dict) -> None:
    for result in found.values():
        result["cpu_bound"] = max(point["iops"] for point in result["reads"])
        for point in result["limited"]:
            point["model"] = bounded_iops(point["limit"], result["cpu_bound"])
    record.figure("models", found)
    record.symbol("IOPS", "input and output operations (requests) completed in a second.")
    record.symbol("N", "the device's bound: how many requests a second the throttled disk lets through.")
    record.symbol("C", "the CPU's bound: how many requests a second the guest reaches on a disk without a limit; "
                  "the more exits each needs, the lower.")
    record.symbol("write amplification", "what the host writes for each write of the guest, in requests and in bytes; 1 is none.")
    if found:
        tables(record, found, lab)
        charts(record, found, lab)
    usual_confounders(record, lab, next((result["pinned"] for result in found.values()), ""))
    record.confounder("Caches", "controlled", "direct I/O in the guest and in the host: every request reaches the host's device")
    record.confounder("The host's file system", "not controlled",
                      "its journal may add a write of its own now and then; it is in the write amplification")
    record.confounder("Interrupt coalescing", "not applicable", "neither IDE nor this virtio-blk has any to switch off; interrupts "
                      "for each request are counted")
    claim(record, found, lab)


def tables(record, found: dict, lab: ExperimentLab) -> None:
    rows = [[model, point["depth"], f"{point['registers']:.2f}", f"{point['user_exits']:.2f}", f"{point['kicks']:.2f}", f"{point['interrupts']:.2f}",
             si(point.get("guest_entries")), si(point.get("host")), si(point.get("guest_kernel"))]
            for model, result in found.items() for point in result["reads"]]
    record.table("A read of 4 KiB", ["model", "depth", "register accesses", "exits to user space", "kicks", "interrupts", "guest entries",
                                     "host instructions", "guest kernel's instructions"], rows)
    rows = [[model, f"{result['write']['user_exits']:.2f}", f"{result['write']['kicks']:.2f}",
             f"{result['write']['host_requests']:.2f}", f"{result['write']['host_bytes']:.2f}"] for model, result in found.items()]
    record.table("A write of 4 KiB: write amplification", ["model", "exits to user space", "kicks", "host writes for each",
                                                           "bytes written for each byte"], rows)
    rows = [[model, si(point["limit"]), f"{point['iops']:.0f}", f"{point['model']:.0f}"]
            for model, result in found.items() for point in result["limited"]]
    record.table("IOPS on a throttled disk", ["model", "N, the device's bound", "IOPS measured", "min(C, N)"], rows,
                 emulated=lab.counts)


def charts(record, found: dict, lab: ExperimentLab) -> None:
    names = list(found)
    first = [result["reads"][0] for result in found.values()]
    record.chart("Exits for each read of 4 KiB, depth 1",
                 "; ".join(f"{name}: {point['user_exits']:.1f} to user space, {point['kicks']:.1f} kicks"
                           for name, point in zip(names, first, strict=True)),
                 "PIO moves every word of the data through the disk's data register (KVM hands over several words of a string instruction "
                 "at once when reading), DMA leaves a few registers to write, virtio-blk one kick.",
                 [{"name": "exits to user space", "style": "bars", "x": names, "y": [p["user_exits"] for p in first]},
                  {"name": "kicks", "style": "bars", "x": names, "y": [p["kicks"] for p in first]}],
                 y_label="for each request", log_y=True)
    if lab.counts:
        record.chart("Host instructions for each read of 4 KiB, depth 1",
                     "; ".join(f"{name}: {si(point['host'])}" for name, point in zip(names, first, strict=True)),
                     "The work of the host for the same 4 KiB.",
                     [{"name": "host instructions", "style": "bars", "x": names, "y": [p["host"] for p in first]}],
                     y_label="instructions", log_y=True)
    series = []
    for model, result in found.items():
        limits = [point["limit"] for point in result["limited"]]
        series += [{"name": f"{model}, measured", "style": "points", "x": limits, "y": [p["iops"] for p in result["limited"]]},
                   {"name": f"{model}, min(C, N)", "style": "line", "x": limits, "y": [p["model"] for p in result["limited"]]}]
    record.chart("IOPS against the device's bound", "Measured IOPS follow the device's bound N at first and level off at each "
                 "model's CPU bound C.", "On the slope the disk is the bottleneck and the model of the card does not matter. "
                 "Where a line turns level the CPU is: it spends its time on exits. Fewer exits lift that level.", series,
                 x_label="N, requests a second that the disk lets through", y_label="IOPS", log_x=True, log_y=True,
                 emulated=lab.counts)


def on_model(found: dict) -> tuple[int, int]:
    """How many points lie within a fifth of min(C, N), and of how many."""
    points = [point for result in found.values() for point in result["limited"]]
    return sum(abs(point["iops"] / point["model"] - 1) <= 0.2 for point in points), len(points)


def claim(record, found: dict, lab: ExperimentLab) -> None:
    words = ("M4", "virtio-blk needs far fewer exits than an emulated IDE disk and amplifies writes less; throughput is the smaller "
             "of what the CPU can do (inverse to its exits) and what the device can do.", "IOPS = min(C, N)")
    paravirtual = found.get("virtio-blk")
    emulated = {name: result for name, result in found.items() if name != "virtio-blk"}
    if not paravirtual or not emulated:
        record.claim(*words, "–", "not measured", "Both sides are needed to compare; the reason is under Skipped.")
        return
    cost = {name: result["reads"][0]["user_exits"] + result["reads"][0]["kicks"] for name, result in found.items()}
    writes = {name: result["write"]["host_requests"] for name, result in found.items()}
    fewer = all(cost[name] > 2 * cost["virtio-blk"] for name in emulated)
    written = {name: result["write"]["user_exits"] + result["write"]["kicks"] for name, result in found.items()}
    amplified = all(writes[name] > 1.2 * writes["virtio-blk"] for name in emulated)
    near, points = on_model(found)
    fits = near >= 0.8 * points
    faster = all(paravirtual["cpu_bound"] > result["cpu_bound"] for result in emulated.values())
    parts = [f"Exits and kicks fall as claimed, and the CPU's bound {'rises' if faster else 'does not rise'} with that."
             if fewer else "Exits do not fall as claimed.",
             "IDE writes more on the host than virtio-blk." if amplified else
             "Write amplification does not differ as the chapter expects: duet's IDE controller gathers a command's sectors and "
             "writes them at once, so that the host sees the guest's own requests."
             if max(writes.values()) < 1.3 * min(writes.values()) else
             "Write amplification differs, but not for all of the IDE modes.",
             f"On throttled disks {near} of {points} points lie within a fifth of min(C, N)."
             + ("" if fits or not lab.counts else " The throttle paces requests by a timer and lets few make up for one that "
                "came late; in the lab, whose clock runs on while the emulator waits for a CPU, timers do come late.")]
    good = (fewer, amplified, fits and faster)
    record.claim(*words, "exits and kicks a read: " + ", ".join(f"{name} {value:.1f}" for name, value in cost.items())
                 + "; a write: " + ", ".join(f"{name} {value:.1f}" for name, value in written.items())
                 + "; host writes a write: " + ", ".join(f"{name} {value:.2f}" for name, value in writes.items())
                 + "; C: " + ", ".join(f"{name} {result['cpu_bound']:.0f}" for name, result in found.items())
                 + (" IOPS (emulated)" if lab.counts else " IOPS"),
                 "yes" if all(good) else "partly" if any(good) else "no", " ".join(parts))


def selftest(lab: ExperimentLab, record) -> None:
    """IDE with many exits and slow, virtio-blk with one kick: exits and the bounds are as claimed, and
    writes are not amplified."""
    def model(name: str, exits: float, kicked: float, iops: int) -> dict:
        counts = {"guest_entries": exits + 3, "host": 1e4 * exits + 4e4, "guest_kernel": 2e4} if lab.counts else {}
        reads = [{"depth": depth, "registers": exits, "user_exits": exits, "kicks": kicked, "interrupts": 1,
                  "iops": iops} | counts for depth in DEPTHS]
        write = {"user_exits": exits, "kicks": kicked, "host_requests": 1.01, "host_bytes": 1.02}
        limited = [{"limit": limit, "iops": 0.95 * min(limit, iops)} for limit in LIMITS[name]]
        return {"reads": reads, "write": write, "limited": limited, "pinned": ""}

    tell(lab, record, {"IDE PIO": model("IDE PIO", 1042, 0, 100), "IDE DMA": model("IDE DMA", 26, 0, 300),
                       "virtio-blk": model("virtio-blk", 0, 1, 2000)})
    claim, = record.data["claims"]
    assert claim["agrees"] == "partly" and "12 of 12 points" in claim["words"]
    assert "virtio-blk 1.0; a write: IDE PIO 1042.0" in claim["measured"]
