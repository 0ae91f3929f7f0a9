# SPDX-License-Identifier: Apache-2.0
"""M13: a guest that goes on where the TSC counts otherwise, and what its clocks say there.

Three lab hosts, apart in the frequency of their TSC; a guest is saved in one and goes on in the others."""

import contextlib
import os

from duetlab.experiment.lab import HOME, KERNEL, ExperimentLab, initrd_of_guest
from duetlab.experiment.record import Skipped, attempt
from duetlab.experiment.subject import Subject
from duetlab.guest import vm

ORDER = 13
MECHANISMS = {"M13": "PV clock and TSC scaling"}
TITLE = "Clocks: the TSC of another host"
WHAT = ("A guest is saved and goes on on a host whose TSC is slower or faster. A program in it watches its clocks all the time, and "
        "another asks the host's clock what time it is, twice with some seconds between: the difference is the guest's error in "
        "parts of a million.")

NTP_PPM = 500  # what NTP can steer against
NEAR_PPM = 500
SECONDS = 10
ADDRESS, GUEST, PORT = "192.168.79.1", "192.168.79.2", 37
RATIOS = (0.7, 1.4)
UNSCALED = "kvm_amd.tsc_scaling=0"
# By the guest: options of duet, words of its kernel.
GUESTS = {"raw": (("--profile", "migratable"), "clocksource=tsc tsc=reliable"),
          "pv": (("--profile", "migratable"), ""),
          "tsc": ((), "clocksource=tsc tsc=reliable")}
# By the way: its guest, and whether the host it goes to scales.
WAYS = {"raw TSC": ("raw", False), "PV clock": ("pv", False), "catch-up": ("tsc", False), "scaled TSC": ("tsc", True)}


@contextlib.contextmanager
def another_host(ratio: float, scales: bool):
    """A lab host of a TSC of its own, for whatever runs in the lab meanwhile."""
    name = os.environ.get("DUET_LAB_NAME", "")
    os.environ["DUET_LAB_NAME"] = f"{name}-clock".lstrip("-")
    try:
        place = ExperimentLab(vm.DUET, False, tsc_ratio=ratio, kernel_options=None if scales else UNSCALED)
        place.host.down()
        with place as lab:
            yield lab
    finally:
        if name:
            os.environ["DUET_LAB_NAME"] = name
        else:
            del os.environ["DUET_LAB_NAME"]


def teller(lab: ExperimentLab):
    """Tells the host's time to a guest on a tap."""
    lab.tap("duetclock", ADDRESS)
    return lab.background(f"{HOME}/workload", "tell-time", ADDRESS, str(PORT), ready="telling")


def ask(subject: Subject) -> dict:
    return subject.told(f"workload ask-time {ADDRESS} {PORT}")


def ppm(first: dict, second: dict) -> float:
    """How much faster than the host's clock the guest's goes."""
    return ((second["monotonic"] - first["monotonic"]) / (second["host"] - first["host"]) - 1) * 1e6


def rate(subject: Subject) -> float:
    first = ask(subject)
    subject.command(f"sleep {SECONDS}")
    return ppm(first, ask(subject))


def save(lab: ExperimentLab, name: str, folder: str) -> float:
    """A guest of GUESTS that watches its clocks, as a snapshot; its error where it began."""
    options, words = GUESTS[name]
    sock = f"{HOME}/{name}.sock"
    with Subject(lab, "--net", "tap,ifname=duetclock", "--api-sock", sock, "--allow", folder, *options, words=words, memory="128M",
                 pin=False) as subject:
        subject.command(f"ip addr add {GUEST}/24 dev eth0 && ip link set eth0 up")
        subject.command("rm -f /tmp/stop; (workload watch-clocks /tmp/stop >/tmp/watched &) ; "
                        "until grep -q watching /tmp/watched; do sleep 0.1; done")
        error = rate(subject)
        lab.shell(f"{HOME}/duet ctl {sock} snapshot {folder}/{name} >/dev/null")
    return error


class Restored(Subject):
    """The guest of a snapshot. It says nothing by itself that it is there."""

    def __init__(self, lab: ExperimentLab, folder: str):
        self.lab, self.pinned, self._pin = lab, "", False
        lab.shell(f"rm -rf {HOME}/snapshot; cp -r {folder} {HOME}/snapshot")
        self.guest = vm.Guest(kernel=KERNEL, initrd=initrd_of_guest(), direct=not lab.counts,
                              peer=lambda _kernel, _initrd: [f"{HOME}/duet", "run", "--restore", f"{HOME}/snapshot"])

    def _start(self) -> None:
        self.command("true")


def go_on(lab: ExperimentLab, folder: str) -> dict:
    with Restored(lab, folder) as subject:
        subject.command("true")
        error = rate(subject)
        watched = subject.told("touch /tmp/stop; until grep -q back_ns /tmp/watched; do sleep 0.1; done; tail -n 1 /tmp/watched")
        source = subject.command("cat /sys/devices/system/clocksource/clocksource0/current_clocksource").strip().splitlines()[-1]
    return {"ppm": error, "source": source} | watched


def refusal(lab: ExperimentLab, folder: str) -> str:
    """What duet says of a machine that it does not let go on here."""
    found = lab.shell(f"rm -rf {HOME}/snapshot; cp -r {folder} {HOME}/snapshot; "
                      f"{HOME}/duet run --restore {HOME}/snapshot 2>&1 </dev/null || true")
    return found.strip().splitlines()[-1].removeprefix("duet: ")


def on_host(ratio: float, scales: bool, folder: str) -> dict:
    """By the way: what its guest's clocks did."""
    found = {}
    with another_host(ratio, scales) as lab, teller(lab):
        for way, (guest, wants) in WAYS.items():
            if wants != scales:
                continue
            # Forwards only: a host whose TSC is faster cannot slow it down.
            if way == "catch-up" and ratio > 1:
                found[way] = {"refused": refusal(lab, f"{folder}/{guest}")}
            else:
                found[way] = go_on(lab, f"{folder}/{guest}")
    return found


def run(lab: ExperimentLab, record) -> None:
    if not lab.counts:
        record.skip("clocks of two hosts", "this machine is one host, with one frequency; the nested lab has others")
        record.claim("M13", CLAIM, MODEL, "not measured", "not measured", "It takes two hosts.")
        return
    found = {}
    with vm.workspace() as folder:
        with teller(lab):
            home = {name: attempt(record, f"{name}, at home", save, lab, name, str(folder)) for name in GUESTS}
        if None in home.values():
            raise Skipped("a guest could not be saved")
        for ratio in RATIOS:
            for scales in (False, True):
                part = f"a TSC of {ratio} times the frequency, {'scaled' if scales else 'not scaled'}"
                found.setdefault(str(ratio), {}).update(attempt(record, part, on_host, ratio, scales, str(folder)) or {})
    tell(lab, record, {"home": home, "away": found})


CLAIM = "A guest's clock goes at the right rate and never back on a host of another frequency, by the PV clock or a scaled TSC."
MODEL = "raw TSC: an error of f2/f1 - 1; PV clock and scaled TSC: none"


def row(way: str, ratio: str, one: dict) -> list:
    if "refused" in one:
        return [way, ratio, "refused", "", "", ""]
    return [way, ratio, one["source"], f"{one['ppm']:+.0f}", one["back_ns"], one["back_tsc"]]


def tell(lab: ExperimentLab, record, found: dict) -> None:
    record.figure("clock", found)
    away = found["away"]
    record.table("What a guest's clock says where it goes on",
                 ["way", "frequency, of the first host's", "clock source", "error, ppm", "largest step back, ns",
                  "largest step back of the TSC, cycles"],
                 [row(way, ratio, one) for ratio, ways in away.items() for way, one in ways.items()])
    for ratio, ways in away.items():
        for way, one in ways.items():
            if "refused" in one:
                record.skip(f"{way} at {ratio}", one["refused"])
    series = [{"name": way, "style": "points", "x": [float(ratio) for ratio in away if "ppm" in away[ratio].get(way, {})],
               "y": [max(abs(away[ratio][way]["ppm"]), 1) for ratio in away if "ppm" in away[ratio].get(way, {})]} for way in WAYS]
    record.chart("Error of a guest's clock after a move",
                 "; ".join(f"{one['name']}: {', '.join(f'{y:.0f} ppm at {x}' for x, y in zip(one['x'], one['y'], strict=True))}"
                           for one in series),
                 f"NTP can steer against {NTP_PPM} ppm.",
                 [one for one in series if one["x"]] + [{"name": "NTP's reach", "style": "line", "x": [min(RATIOS), max(RATIOS)],
                                                        "y": [NTP_PPM, NTP_PPM]}],
                 x_label="the host's TSC frequency, of the first host's", y_label="error in parts of a million", log_y=True)
    record.symbol("f1, f2", "frequencies of the TSC where the guest began and where it goes on.")
    record.confounder("The hosts' clocks", "controlled", "the clock asked is the host's own; "
                      f"where the guests began, their errors were {', '.join(f'{name} {value:+.0f} ppm' for name, value in found['home'].items())}")
    record.confounder("The way to the clock", "controlled", "the soonest of 32 answers counts")
    claim(record, away)


def percent(error: float) -> str:
    return f"{error / 1e4:+.0f} %"


def claim(record, away: dict) -> None:
    right = {way: [away[ratio][way] for ratio in away if "ppm" in away[ratio].get(way, {})] for way in WAYS}
    good = right["PV clock"] + right["scaled TSC"]
    raw = right["raw TSC"]
    worst = max((abs(one["ppm"]) for one in good), default=None)
    back = max((one["back_ns"] for one in good), default=None)
    if not good or not raw:
        record.claim("M13", CLAIM, MODEL, "not measured", "not measured", "A host was missing.")
        return
    agrees = "yes" if len(good) == 2 * len(away) and worst < NEAR_PPM and back == 0 else "partly" if worst < NEAR_PPM else "no"
    record.claim("M13", CLAIM, MODEL,
                 f"PV clock and scaled TSC within {worst:.0f} ppm (NTP reaches {NTP_PPM}), largest step back {back} ns; "
                 f"raw TSC {', '.join(percent(one['ppm']) for one in raw)}",
                 agrees, "The guest's clock is the hosts' affair, and need not be one crystal's."
                 if agrees == "yes" else "A clock went wrong on its way.")


def selftest(lab: ExperimentLab, record) -> None:
    """A raw TSC goes wrong by the ratio, the others do not."""
    def one(error: float) -> dict:
        return {"ppm": error, "source": "tsc", "back_ns": 0, "back_tsc": 0, "reads": 1}

    away = {str(ratio): {"raw TSC": one((ratio - 1) * 1e6), "PV clock": one(3), "catch-up": one(90) if ratio < 1 else {"refused": "no"},
                         "scaled TSC": one(-2)} for ratio in RATIOS}
    tell(lab, record, {"home": dict.fromkeys(GUESTS, 1.0), "away": away})
    assert record.data["claims"][0]["agrees"] == "yes"
    assert "raw TSC -30 %, +40 %" in record.data["claims"][0]["measured"]
