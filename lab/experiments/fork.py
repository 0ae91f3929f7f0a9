# SPDX-License-Identifier: Apache-2.0
"""M14: fork() of a large heap by copy-on-write, by a bulk copy in the guest, and by the host's.

Heaps of 4 to 512 MiB of which a part is written afterwards."""

from duetlab.experiment.lab import KERNEL, ExperimentLab
from duetlab.experiment.model import si
from duetlab.experiment.record import Skipped, usual_confounders
from duetlab.experiment.subject import Subject
from duetlab.guest import kit

ORDER = 14
MECHANISMS = {"M14": "Fork with the hypervisor's help"}
TITLE = "Fork: a bulk copy by the host against copy-on-write"
WHAT = ("A program in the guest fills a heap of W MiB, forks, and then writes to a part phi of its pages while the child "
        "holds its copy. With ordinary memory each first write is a fault that copies one page; with the kit's heap "
        "device all pages are copied at the fork, by the guest itself or by the host.")

MEMORY, PAGE = "1536M", 4096
SIZES, SIZES_IN_LAB = (4, 16, 64, 256, 512), (4, 16, 64, 256)
PARTS = (0, 25, 50, 100)
LARGE, PARTS_OF_LARGE = 256, (50, 100)  # heaps from there on take the lab half a minute for each figure
WAYS = {"copy-on-write": "private", "guest's copy": "heap", "host's copy": "heap"}
CALIBRATION = (4, 32)  # MiB: what a page costs is the difference between the two
REPEATS = 3
RUNS = 2  # of each point in the lab, whose host has timers and other work of its own
WITHIN = 0.2  # of the model


class KitSubject(Subject):
    """A guest with the kit's module loaded."""

    def __init__(self, lab: ExperimentLab):
        super().__init__(lab, "--coop", memory=MEMORY, files=kit.files(KERNEL))

    def by(self, way: str) -> None:
        if way != "copy-on-write":
            value = "Y" if way == "host's copy" else "N"
            self.command(f"echo {value} >/sys/module/duet/parameters/heap_by_host")

    def last_fork(self) -> dict[str, int]:
        words = self.command("cat /sys/class/misc/duet-heap/last_fork").split()
        return {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}


def all_of(counts: dict | None) -> int | None:
    return sum(counts[name] for name in ("host", "guest_high", "guest_low")) if counts else None


def point(subject: KitSubject, way: str, size: int, percent: int) -> dict:
    """The instructions of the writes and of the host are parts of `instructions`, `write_ns` is one of `ns`."""
    subject.by(way)
    found = subject.counted(f"workload fork {WAYS[way]} {size} {percent}")
    answer, counts = found["answer"], found["counts"]
    return {"way": way, "mib": size, "phi": percent / 100, "instructions": all_of(counts),
            "write_instructions": all_of(counts["steps"][-1]) if counts else None,
            "host_instructions": counts["host"] if counts else None,
            "entries": counts["vmruns"] if counts else None, "ns": answer["fork_ns"] + answer["write_ns"], **answer}


def undisturbed(subject: KitSubject, way: str, size: int, percent: int, unit: str) -> dict:
    runs = RUNS if unit == "instructions" else 1
    return min((point(subject, way, size, percent) for _ in range(runs)), key=lambda found: found[unit])


def parts_of(size: int) -> tuple[int, ...]:
    return PARTS if size < LARGE else PARTS_OF_LARGE


def per_page(measure) -> float:
    """MEASURE(MiB) is a cost; what it grows by with a page, the least disturbed of some runs."""
    small, large = (min(measure(size) for _ in range(REPEATS)) for size in CALIBRATION)
    return (large - small) / ((CALIBRATION[1] - CALIBRATION[0]) << 8)


def copying(subject: KitSubject, size: int, unit: str) -> int:
    found = subject.counted(f"workload copy {size}")
    return all_of(found["counts"]) if unit == "instructions" else found["answer"]["copy_ns"]


def parts(subject: KitSubject, size: int, unit: str) -> tuple[int, int]:
    """A fork by the host's copy: that copy, which in the lab is all that the host does meanwhile; and the rest."""
    found = point(subject, "host's copy", size, 0)
    copy = found["host_instructions"] if unit == "instructions" else subject.last_fork()["copy_ns"]
    return copy, found[unit] - copy


def calibrate(subject: KitSubject, unit: str) -> dict:
    """t0, beta, gamma and tu, of heaps smaller than those that the model is held against; costs, and bytes for each."""
    copy = max(1, per_page(lambda size: copying(subject, size, unit)))
    fault = per_page(lambda size: point(subject, "copy-on-write", size, 100)[f"write_{unit}"])
    bulk, rest = (per_page(lambda size, part=part: parts(subject, size, unit)[part]) for part in (0, 1))
    return {"t0": fault - copy, "beta": PAGE / copy, "gamma": PAGE / bulk, "tu": rest}


def advantage(phi: float, terms: dict) -> float:
    """The chapter's S."""
    return phi * (terms["t0"] / PAGE + 1 / terms["beta"]) / (1 / terms["gamma"] + terms["tu"] / PAGE)


def unit_of(lab: ExperimentLab) -> str:
    return "instructions" if lab.counts else "ns"


def run(lab: ExperimentLab, record) -> None:
    with KitSubject(lab) as subject:
        if "heap is there" not in subject.command("depmod; modprobe duet; ls /dev/duet-heap && echo heap is there || true"):
            raise Skipped("the module duet has no heap device here")
        terms = calibrate(subject, unit_of(lab))
        points = [undisturbed(subject, way, size, percent, unit_of(lab)) for size in (SIZES_IN_LAB if lab.counts else SIZES)
                  for percent in parts_of(size) for way in WAYS]
        pinned = subject.pinned
    tell(lab, record, points, terms, pinned)


def of(points: list[dict], way: str, size: int, phi: float) -> dict:
    return next(p for p in points if p["way"] == way and p["mib"] == size and p["phi"] == phi)


def phis_of(points: list[dict], size: int) -> list[float]:
    return sorted({p["phi"] for p in points if p["mib"] == size})


def gain(points: list[dict], size: int, phi: float, unit: str) -> float:
    return of(points, "copy-on-write", size, phi)[unit] / of(points, "host's copy", size, phi)[unit]


def crossover(points: list[dict], unit: str) -> int | None:
    """The smallest heap, written as a whole, at which the host's copy wins."""
    sizes = sorted({p["mib"] for p in points})
    return next((size for size in sizes if gain(points, size, 1, unit) > 1), None)


def tell(lab: ExperimentLab, record, points: list[dict], terms: dict, pinned: str) -> None:
    unit = unit_of(lab)
    record.figure("points", points)
    record.figure("terms", terms)
    symbols(record, terms, unit)
    tables(record, points, terms, unit, lab)
    chart(record, points, terms, unit)
    usual_confounders(record, lab, pinned)
    record.confounder("Page size", "controlled", "4 KiB for all ways: no transparent huge pages in the guest")
    record.confounder("The guest's free memory", "not controlled", "pages that the host has not given yet cost a nested "
                      "fault at their first use, whoever uses them")
    verdict(record, points, terms, unit)


def symbols(record, terms: dict, unit: str) -> None:
    record.symbol("W", "size of the heap in MiB.")
    record.symbol("φ", "the part of its pages that is written after the fork.")
    record.symbol("t0", f"what a fault after a fork costs but for the copy of its page. Measured: {si(terms['t0'])} {unit}.")
    record.symbol("β", f"copying in the guest, page by page, as its kernel does: {PAGE / terms['beta']:.0f} {unit} a page.")
    record.symbol("γ", f"the host's bulk copy, calls included: {PAGE / terms['gamma']:.0f} {unit} a page.")
    record.symbol("tu", f"what a page costs at the fork but for its copy: allocating, protecting, mapping: {terms['tu']:.0f} {unit}.")
    record.symbol("S", "how many times cheaper the host's copy is than copy-on-write: φ (t0/p + 1/β) / (1/γ + tu/p), "
                  f"p = {PAGE} bytes.")


def tables(record, points: list[dict], terms: dict, unit: str, lab: ExperimentLab) -> None:
    record.table("What a fork and the writes after it cost", ["W, MiB", "φ", "way", f"{unit}", "guest entries", "faults"],
                 [[p["mib"], f"{p['phi']:g}", p["way"], si(p[unit]), "–" if p["entries"] is None else si(p["entries"]), p["faults"]]
                  for p in points], emulated=unit == "ns" and lab.counts)
    record.table("Times in µs", ["W, MiB", "φ", "way", "fork()", "writes", "16 writes, the slowest"],
                 [[p["mib"], f"{p['phi']:g}", p["way"], *(f"{p[name] / 1000:.0f}" for name in ("fork_ns", "write_ns", "worst_ns"))]
                  for p in points], emulated=lab.counts)
    rows = [[size, f"{phi:g}", f"{gain(points, size, phi, unit):.2f}", f"{advantage(phi, terms):.2f}", f"{gain(points, size, phi, 'ns'):.2f}"]
            for size in sorted({p["mib"] for p in points}) for phi in phis_of(points, size)]
    record.table("S, measured and by the model", ["W, MiB", "φ", f"S of {unit}", "model", "S of times"], rows)


def chart(record, points: list[dict], terms: dict, unit: str) -> None:
    phis = sorted({p["phi"] for p in points})
    sizes = sorted({p["mib"] for p in points})
    record.chart("S against φ", f"S grows with φ; for {sizes[-1]} MiB and φ = 1 it is {gain(points, sizes[-1], 1, unit):.1f}.",
                 "Above 1 the host's bulk copy is cheaper than a fault for each page that is written.",
                 [{"name": f"measured, {size} MiB", "style": "points", "x": phis_of(points, size),
                   "y": [gain(points, size, phi, unit) for phi in phis_of(points, size)]}
                  for size in sizes] + [{"name": "model", "style": "line", "x": phis, "y": [advantage(phi, terms) for phi in phis]}],
                 x_label="φ", y_label=f"S of {unit}")


def off_by(points: list[dict], terms: dict, size: int, phi: float, unit: str) -> float:
    """How far the model is from what was measured."""
    return abs(advantage(phi, terms) / gain(points, size, phi, unit) - 1)


def verdict(record, points: list[dict], terms: dict, unit: str) -> None:
    size = max(p["mib"] for p in points)
    all_written, half = (gain(points, size, phi, unit) for phi in (1, 0.5))
    close = all(off_by(points, terms, size, phi, unit) <= WITHIN for phi in (1, 0.5))
    wins, first = all_written > 1, crossover(points, unit)
    for words, phi, most in ((f"{size} MiB, all written", 1, 1 / 3), (f"{size} MiB, half written", 0.5, 1 / 1.5)):
        record.aim(f"{words}: by the host's copy, of copy-on-write", 1 / gain(points, size, phi, unit), most)
        record.aim(f"{words}: how far the model is off", off_by(points, terms, size, phi, unit), WITHIN)
        for way in WAYS:
            found = of(points, way, size, phi)
            record.aim(f"{words}, {way}: fork()", found["fork_ns"] / 1000, unit="us")
            record.aim(f"{words}, {way}: the parent's worst pause", found["worst_ns"] / 1000, unit="us")
    record.claim("M14", "When much of a heap is written after a fork, one bulk copy by the hypervisor is cheaper than a fault "
                 "for each page.", "S = φ (t0/p + 1/β) / (1/γ + tu/p)",
                 f"{size} MiB: {all_written:.2f} times fewer {unit} when all is written, {half:.2f} when half is; model "
                 f"{advantage(1, terms):.2f} and {advantage(0.5, terms):.2f}; wins from W = {first if first else '–'} MiB",
                 "yes" if wins and close else "partly" if wins or close else "no",
                 ("The bulk copy wins" if wins else "The bulk copy does not win here")
                 + (", and the model is within 20 %." if close else "; the model is off by more than 20 %."))


def selftest(lab: ExperimentLab, record) -> None:
    """Costs just as the formula has them."""
    terms = {"t0": 2000, "beta": 4, "gamma": 8, "tu": 300}
    points = []
    for size in SIZES_IN_LAB:
        pages = size * 256
        for percent in parts_of(size):
            for way in WAYS:
                cow = pages * percent / 100 * (terms["t0"] + PAGE / terms["beta"])
                bulk = pages * (PAGE / terms["gamma"] + terms["tu"]) * (1 if way == "host's copy" else 1.5)
                cost = cow if way == "copy-on-write" else bulk
                points.append({"way": way, "mib": size, "phi": percent / 100, "instructions": cost if lab.counts else None,
                               "write_instructions": cost if lab.counts else None,
                               "entries": 5 if lab.counts else None, "ns": cost, "fork_ns": cost, "write_ns": 0, "worst_ns": 9, "faults": 1})
    tell(lab, record, points, terms, "vcpu0 on CPU 1")
    claim, = record.data["claims"]
    assert claim["agrees"] == "yes" and "model 3.72 and 1.86;" in claim["measured"] and "wins from W = 4 MiB" in claim["measured"], claim
