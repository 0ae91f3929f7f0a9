# SPDX-License-Identifier: Apache-2.0
"""M9: pages of equal content, found blindly or by what guests name; and what a burst of writes into them costs.

2 and 4 guests of one image: pages that KSM looks at for each that it merges, and copy-on-write faults."""

import contextlib
import json
import math
import time

from duetlab.experiment.knobs import chosen
from duetlab.experiment.lab import HOME, ExperimentLab
from duetlab.experiment.model import si
from duetlab.experiment.record import Skipped, attempt, usual_confounders
from duetlab.experiment.subject import Subject

ORDER = 9
MECHANISMS = {"M9": "Page sharing with hints"}
TITLE = "Sharing: pages that guests name"
WHAT = ("Guests of one image run the same programs, and each holds data of its own. The host's KSM looks for equal pages, in all of "
        "their memory or only where the guests say that it is worth it, and keeps one copy. Who writes to it gets a copy of his own.")

COUNTS = (2, 4)
MEMORY_MIB, DATA_MIB = 256, 128
REGION = 512  # pages that a burst writes into: M
WRITES = (128, 512, 1024, 2048)
LIBRARY = REGION * len(WRITES) * len(COUNTS)  # pages: a burst finds none that another wrote to
TARGET = 0.9
LIMIT = 150  # seconds, of one search
KSM = "/sys/kernel/mm/ksm"
# By a rate that follows what is offered, as duetd's (src/duetd/policies/sharing.c) but QUICKER; and as the kernel would for
# all: by its advisor.
QUICKER = 4
HINTED = {"advisor_mode": "none", "sleep_millisecs": "100"}
SCAN_S = 10  # the advisor's aim for a pass, 200 usually: how fast it looks is not what is compared
BLIND = {"advisor_mode": "scan-time", "sleep_millisecs": "20", "advisor_target_scan_time": str(SCAN_S)}
PASS_BATCHES, PAGES_LEAST, PAGES_MOST = 300, 32, 2048
RATIO = 0.25
SIGMAS = 3

WATCH = """
cd {ksm}; echo 1 >run
read -r pid _ <<END
$(pgrep -x ksmd)
END
i=0; before=0; still=0; read -r pass <full_scans
while [ $i -lt {rounds} ] && [ $still -lt 2 ]; do
	read -r scanned <pages_scanned; read -r shared <pages_shared; read -r sharing <pages_sharing
	read -r ran _ </proc/$pid/schedstat; read -r now <full_scans
	merged=$((shared + sharing))
	echo $i $scanned $merged $ran
	if [ $now != $pass ]; then
		if [ $merged -gt 0 ] && [ $((merged - before)) -le $((before / 100)) ]; then still=$((still + 1)); else still=0; fi
		pass=$now; before=$merged
	fi
	sleep {nap}; i=$((i + 1))
done
"""  # until two passes in a row have brought no hundredth more
NAP = 0.25


class Sharer(Subject):
    def __init__(self, lab: ExperimentLab, number: int):
        self.socket = f"{HOME}/sharing{number}.sock"
        super().__init__(lab, "--api-sock", self.socket, memory=f"{MEMORY_MIB}M", kit=True, pin=False)

    def begin(self) -> None:
        self.command(f"workload library /library {LIBRARY}; duet-guestd & true")

    def ctl(self, *words: str) -> str:
        return self.lab.shell(f"{HOME}/duet ctl {self.socket} {' '.join(words)}")

    def sharing(self) -> dict:
        return json.loads(self.ctl("get", "/duet/sharing"))


def set_knobs(lab: ExperimentLab, knobs: dict[str, str]) -> None:
    lab.shell("set -e; " + "; ".join(f"echo {value} >{KSM}/{name}" for name, value in knobs.items()))


def read(lab: ExperimentLab, name: str) -> int:
    return int(lab.shell(f"cat {KSM}/{name}"))


@contextlib.contextmanager
def ksm(lab: ExperimentLab):
    """Put back at the end."""
    names = ("pages_to_scan", "sleep_millisecs", "smart_scan", "advisor_target_scan_time", "advisor_mode", "run")
    before = {}
    for name in names:
        text = lab.shell(f"cat {KSM}/{name} 2>/dev/null || true").strip()
        if not text:
            raise Skipped(f"the host's KSM has no {name}: Linux 6.8 or later has it")
        before[name] = chosen(text)
    set_knobs(lab, {"smart_scan": "1"})
    try:
        yield
    finally:
        set_knobs(lab, {"run": "2", "advisor_mode": "none"})  # an advisor lets nobody else set the rate
        if before["advisor_mode"] != "none":
            del before["pages_to_scan"]
        set_knobs(lab, before)


def rate(pages: int) -> int:
    """Pages that KSM looks at in a batch, by duetd's rule."""
    found = PAGES_LEAST
    while found < pages / PASS_BATCHES and found < PAGES_MOST:
        found *= 2
    return found


def wait_until(question, holds, what: str):
    end = time.monotonic() + LIMIT
    while not holds(found := question()):
        if time.monotonic() > end:
            raise Skipped(f"{what}: not within {LIMIT} s: {found}")
        time.sleep(0.5)
    return found


def offer(guests: list[Sharer], way: str) -> int:
    """Nothing is merged; all offer as WAY says. The pages."""
    lab = guests[0].lab
    set_knobs(lab, {"run": "2"})
    for guest in guests:
        guest.ctl("sharing", "off")
        guest.ctl("sharing", way)
    if way == "hinted":
        for guest in guests:
            wait_until(guest.sharing, lambda found: found["offered_bytes"] > 0, "the guest's answer")
    return sum(guest.sharing()["offered_bytes"] for guest in guests) // 4096


def samples(text: str) -> list[dict]:
    rows = [[int(word) for word in line.split()] for line in text.strip().splitlines()]
    first = rows[0]
    return [{"s": row[0] * NAP, "scanned": row[1] - first[1], "merged": row[2], "cpu_ns": row[3] - first[3]} for row in rows]


def search(guests: list[Sharer], way: str) -> dict:
    """From nothing merged until no more comes; what could be is counted first. The rest is of the moment at which nine tenths
    of that were merged."""
    lab = guests[0].lab
    offered = offer(guests, way)
    pids = ",".join(str(guest.guest.pid) for guest in guests)
    could = json.loads(lab.shell(f"{HOME}/workload shareable {pids}"))
    set_knobs(lab, BLIND if way == "blind" else HINTED | {"pages_to_scan": str(QUICKER * rate(offered))})
    series = samples(lab.shell(WATCH.format(ksm=KSM, rounds=int(LIMIT / NAP), nap=NAP)))
    return {"way": way, "vms": len(guests), "offered": offered, "could": could, "series": series} | at_target(series)


def at_target(series: list[dict]) -> dict:
    final = series[-1]["merged"]
    found = next(sample for sample in series if sample["merged"] >= TARGET * final)
    return found | {"final": final, "per_page": found["scanned"] / max(found["merged"], 1)}


def merged_of(guest: Sharer) -> int:
    """By its page tables: KSM's own counts stand still until it looks again."""
    return int(guest.lab.shell(f"awk '/^KSM:/ {{ print $2 }}' /proc/{guest.guest.pid}/smaps_rollup")) // 4


def bursts(guests: list[Sharer], first: int) -> list[dict]:
    """In one guest; KSM merges nothing anew meanwhile. All that is offered was looked at three times before."""
    lab, guest = guests[0].lab, guests[0]
    set_knobs(lab, {"pages_to_scan": str(PAGES_MOST)})
    passes = read(lab, "full_scans")
    wait_until(lambda: read(lab, "full_scans"), lambda now: now >= passes + 3, "three looks at what is offered")
    set_knobs(lab, {"run": "0"})
    found = []
    for number, writes in enumerate(WRITES):
        before = merged_of(guest)
        said = guest.command(f"workload burst /library {first + number * REGION} {REGION} {writes}")
        distinct = json.loads(next(line for line in said.splitlines() if line.startswith("{")))["distinct"]
        found.append({"vms": len(guests), "w": writes, "distinct": distinct, "faults": before - merged_of(guest)})
    return found


def model(writes: int, pages: int = REGION) -> float:
    return pages * (1 - (1 - 1 / pages) ** writes)


def spread(writes: int, pages: int = REGION) -> float:
    """Standard deviation of the number of pages that so many writes, drawn by chance, find."""
    one, two = (1 - 1 / pages) ** writes, (1 - 2 / pages) ** writes
    return math.sqrt(pages * (pages - 1) * two + pages * one - (pages * one) ** 2)


def measure(lab: ExperimentLab) -> dict:
    found = {"searches": [], "bursts": [], "idle": None}
    with ksm(lab), contextlib.ExitStack() as stack:
        guests: list[Sharer] = []
        for stage, count in enumerate(COUNTS):
            fresh = [Sharer(lab, number) for number in range(len(guests), count)]  # they start together
            for guest in fresh:
                stack.enter_context(guest)
                guest.begin()
            guests += fresh
            if stage == 0:
                found["idle"] = search(guests, "blind")
            for guest in fresh:
                guest.command(f"workload data {DATA_MIB}")
            found["searches"] += [search(guests, way) for way in ("blind", "hinted")]
            found["bursts"] += bursts(guests, stage * len(WRITES) * REGION)
    return found


def run(lab: ExperimentLab, record) -> None:
    found = attempt(record, "sharing", measure, lab)
    if found:
        tell(lab, record, found)
    else:
        record.claim(*CLAIM, "–", "not measured", "It could not be run here; the reason is under Skipped.")


CLAIM = ("M9", "The search for equal pages is efficient when guests name what is worth it, and a burst of w writes into M shared pages "
         "makes b faults.", "b = M (1 − (1 − 1/M)^w), whatever the number of VMs")


def pair(found: dict, count: int) -> tuple[dict, dict]:
    """Blind and hinted, of COUNT guests."""
    return tuple(next(s for s in found["searches"] if s["vms"] == count and s["way"] == way) for way in ("blind", "hinted"))


def off_by(point: dict) -> float:
    """From the model, in standard deviations of the draw."""
    return abs(point["faults"] - model(point["w"])) / spread(point["w"])


def tell(lab: ExperimentLab, record, found: dict) -> None:
    record.figure("sharing", found)
    record.symbol("M", f"pages that are shared and written into: {REGION}.")
    record.symbol("w", "writes, each to one of them by chance.")
    record.symbol("b", "copy-on-write faults: pages of the guest that are not merged any more after the burst.")
    rows = [(f"{found['idle']['vms']}, without data", found["idle"])] + [(str(search["vms"]), search) for search in found["searches"]]
    record.table(f"Until {100 * TARGET:.0f} % of what is merged in the end are",
                 ["guests", "way", "pages offered", "with an equal one", "merged in the end", "looked at", "looked at for each merged", "ksmd, ms", "s"],
                 [[name, search["way"], search["offered"], search["could"]["same"], search["final"], si(search["scanned"]),
                   f"{search['per_page']:.1f}", f"{search['cpu_ns'] / 1e6:.0f}", f"{search['s']:.1f}"] for name, search in rows], emulated=lab.counts)
    record.table("Faults of a burst of writes", ["guests", "w", "b", "pages drawn", "model", "off by, standard deviations"],
                 [[p["vms"], p["w"], p["faults"], p["distinct"], f"{model(p['w']):.0f}", f"{off_by(p):.1f}"] for p in found["bursts"]])
    charts(record, found)
    usual_confounders(record, lab, "")
    record.confounder("What guests have in common", "controlled", f"a file of {LIBRARY // 256} MiB that a program maps, one image's kernel "
                      f"and programs; and {DATA_MIB} of {MEMORY_MIB} MiB that each has for itself. The blind way costs the more the less "
                      "there is in common: without data of their own it is in the table too")
    record.confounder("KSM", "controlled", f"smart scan; blind by the kernel's scan-time advisor, whose aim is set to a pass in {SCAN_S} s "
                      f"(not 200, for the lab); hinted at {QUICKER} times duetd's rate")
    claim(record, found)


def charts(record, found: dict) -> None:
    both = pair(found, COUNTS[-1])
    record.chart(f"Pages merged against pages looked at, {COUNTS[-1]} guests",
                 "; ".join(f"{search['way']}: {search['merged']} of {search['final']} after {search['scanned']}" for search in both),
                 "The first look at a page only notes what is in it: nothing is merged before the second.",
                 [{"name": search["way"], "style": "line", "x": [s["scanned"] for s in search["series"]],
                   "y": [s["merged"] for s in search["series"]]} for search in both], x_label="pages looked at", y_label="pages merged")
    writes = list(range(0, WRITES[-1] + 1, 64))
    record.chart(f"Faults of w writes into {REGION} shared pages", "Few writes find a page each; many find all of them.",
                 "The pages of one guest alone decide: with more guests a copy is no dearer and no more are made.",
                 [{"name": f"{count} guests", "style": "points", "x": [p["w"] for p in found["bursts"] if p["vms"] == count],
                   "y": [p["faults"] for p in found["bursts"] if p["vms"] == count]} for count in COUNTS]
                 + [{"name": "model", "style": "line", "x": writes, "y": [model(w) for w in writes]}], x_label="w", y_label="b")


def claim(record, found: dict) -> None:
    blind, hinted = pair(found, COUNTS[-1])
    ratio = hinted["per_page"] / blind["per_page"]
    few = ratio <= RATIO
    worst = max(off_by(point) for point in found["bursts"])
    alike = worst <= SIGMAS
    kept = hinted["final"] / max(blind["final"], 1)
    record.aim("pages looked at for each merged with hints, of the blind search's", ratio, RATIO)
    record.aim("pages merged in the end with hints, of the blind search's", kept)
    record.claim(*CLAIM, f"{COUNTS[-1]} guests: {hinted['per_page']:.1f} pages looked at for each merged, blindly {blind['per_page']:.1f}: "
                 f"{ratio:.2f} of it; {100 * kept:.0f} % of the pages that the blind way merges. Bursts: b at most {worst:.1f} standard "
                 f"deviations off, for {' and '.join(str(count) for count in COUNTS)} guests alike",
                 "yes" if few and alike else "partly" if few or alike else "no",
                 ("What guests name is worth at least four times the looking. " if few else "Hints save less than three quarters of the looking. ")
                 + ("The faults are the model's, whatever the number of guests." if alike else "The faults are not the model's."))


def selftest(lab: ExperimentLab, record) -> None:
    """Hinted a tenth of the looking; bursts as the model has them."""
    def one(way: str, count: int, scanned: int, merged: int) -> dict:
        series = [{"s": 0.1 * part, "scanned": scanned * part // 100, "merged": merged * (2 * part - 100) // 100, "cpu_ns": 5_000_000}
                  for part in (50, 95, 100)]
        return {"way": way, "vms": count, "offered": scanned // 2, "could": {"pages": scanned // 2, "distinct": 9, "same": merged},
                "series": series} | at_target(series)

    searches = [one(way, count, *numbers) for count in COUNTS for way, numbers in
                {"blind": (100_000 * count, 5_000 * count), "hinted": (8_000 * count, 4_000 * count)}.items()]
    found = {"searches": searches, "idle": one("blind", 2, 40_000, 10_000),
             "bursts": [{"vms": count, "w": w, "distinct": round(model(w)), "faults": round(model(w))} for count in COUNTS for w in WRITES]}
    tell(lab, record, found)
    verdict, = record.data["claims"]
    assert verdict["agrees"] == "yes" and "0.10 of it; 80 % of the pages" in verdict["measured"], verdict
    assert round(model(512)) == 324 and 6 < spread(512) < 8 and rate(8000) == 32 and rate(16000) == 64
