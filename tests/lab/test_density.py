# SPDX-License-Identifier: Apache-2.0
"""What the experiment density computes on: nothing here runs a guest."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

from duetlab.experiment import arrivals, knobs  # noqa: E402
from duetlab.experiment.catalogue import load  # noqa: E402
from duetlab.experiment.rivals import RIVALS, Slot  # noqa: E402
from duetlab.guest import vm  # noqa: E402

# Two requests to each of two guests; the last was never answered.
TOLD = {"late_ns": 9, "wrong": 0, "marks": 7, "requests": [[0, 0, 2, 40], [1, 1, 3, 50], [0, 4, 6, 60], [1, 5, -1, -1]]}


def mark(executed: int, number: int = 22, in_guest: bool = False) -> dict:
    """The guests' CPU had executed so much, the other one anything."""
    quiet = dict.fromkeys(arrivals.KINDS, 0)
    return {"id": number, "in_guest": in_guest, "vcpus": [quiet | {"host_user": 10**9}, quiet | {"host_kernel": executed - 1, "guest_low": 1, "vmruns": 7}]}


def test_a_request_takes_what_the_guests_cpu_executes_until_its_answer():
    marks = [mark(executed) for executed in (100, 130, 180, 300, 400, 410, 490)]
    strangers = [mark(1, number=20), mark(2, in_guest=True)]
    assert arrivals.by_instructions(TOLD, strangers + marks) == [80, 170, 90, arrivals.LOST]
    assert arrivals.by_time(TOLD) == [40, 50, 60, arrivals.LOST]


def test_marks_that_are_not_all_there_are_no_measurement():
    with pytest.raises(vm.GuestFailure, match="7 marks were made, the plugin saw 1"):
        arrivals.by_instructions(TOLD, [mark(1)])


@pytest.mark.parametrize(("count", "share", "found"), [(100, 0.99, 99), (100, 0.5, 50), (101, 0.99, 100), (1, 0.99, 1), (60, 0.99, 60)])
def test_percentiles_are_figures_that_were_measured(count, share, found):
    assert arrivals.percentile([float(one) for one in range(count, 0, -1)], share) == found


def test_what_was_never_answered_is_slower_than_all():
    assert arrivals.percentile([1.0] * 98 + [math.inf] * 2, 0.99) == math.inf
    assert arrivals.percentile([1.0] * 99 + [math.inf], 0.99) == 1.0


def test_a_setting_is_the_word_in_brackets_where_there_are_some():
    assert knobs.chosen("always [madvise] never") == "madvise"
    assert knobs.chosen("0") == "0"


def test_settings_are_put_back_and_those_that_are_not_there_left_out():
    files, said = {"/a": "always [never]", "/b": "1"}, []

    def shell(script):
        if script.startswith("cat"):
            return files.get(script.split()[1], "")
        said.append(script)
        return ""

    with knobs.turned(SimpleNamespace(shell=shell), {"/a": "always", "/b": "0", "/c": "7"}):
        assert said == ["set -e; echo always >/a; echo 0 >/b; :"]
    assert said[1:] == ["set -e; echo never >/a; echo 1 >/b; :"]


def steps(*p99):
    return [{"vms": nth, "p99": one} for nth, one in enumerate(p99, 1)]


@pytest.mark.parametrize(("points", "bound", "count"), [
    (steps(10, 12, 31), 30, 2), (steps(10, 31, 12), 30, 1), (steps(10, 12, None), 30, 2), (steps(40), 30, 0), (steps(10, 20), 30, 2)])
def test_density_is_where_it_is_in_time_for_the_last_time_in_a_row(points, bound, count):
    assert load("density").held(points, bound) == count


def test_at_equal_p99_all_are_held_to_the_strictest_bound():
    density = load("density")
    found = {"hints": {"points": steps(10, 20, 29, 33)}, "qemu": {"points": steps(20, 40, 50, 70)}}
    for name, median in (("hints", 3), ("qemu", 6)):
        found[name]["points"][0]["p50"] = median
    assert density.densities(found) == {"hints": {"own": 3, "equal": 3}, "qemu": {"own": 3, "equal": 1}}


class Fleet:
    """Of which each further VM needs so many windows until it is in time."""

    def __init__(self, needs):
        self.needs, self.addresses, self.windows = needs, ["one"], 0


def test_a_newcomer_gets_some_windows_until_all_are_in_time(monkeypatch):
    density = load("density")

    def window(fleet, _windows):
        fleet.windows += 1
        return {"vms": 2, "p99": 10 if fleet.windows >= fleet.needs else 99}

    monkeypatch.setattr(density, "ask", lambda _fleet: None)
    monkeypatch.setattr(density, "point", window)
    assert density.among(Fleet(3), 30) == {"vms": 2, "p99": 10, "tried": 3}
    assert density.among(Fleet(density.TRIES + 1), 30) == {"vms": 2, "p99": 99, "tried": density.TRIES}


def test_each_monitor_gets_the_same_guest():
    slot = Slot("exp3", "02:77:20:00:00:03", "/scratch/disk", 192)
    for rival in RIVALS.values():
        words = " ".join(rival.peer(slot)("a kernel", "an initrd"))
        assert rival.program in words
        assert all(part in words for part in ("exp3", "02:77:20:00:00:03", "/scratch/disk", "192", "/vmlinux", "/initrd"))
