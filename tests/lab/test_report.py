# SPDX-License-Identifier: Apache-2.0
"""The experiments' arithmetic and the report, on recorded figures: nothing here runs a guest."""

import copy
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

REPO = Path(__file__).resolve().parents[2]
RECORDS = Path(__file__).parent / "records"
sys.path.insert(0, str(REPO / "lab"))

from duetlab.base.errors import LabError  # noqa: E402
from duetlab.bench import aims, profile  # noqa: E402
from duetlab.bench.report import Report  # noqa: E402
from duetlab.experiment import catalogue, model, rates, run, subject  # noqa: E402
from duetlab.experiment.record import Record, Skipped, attempt  # noqa: E402
from duetlab.report import document  # noqa: E402

VOID = {"meta", "br", "img", "link", "hr", "input"}


# The model


def points(c, hypercall, interrupt):
    """Costs just as the chapter's formula has them."""
    return [{"kicks": 1 / k, "interrupts": rate, "cost": c + hypercall / k + interrupt * rate}
            for k in (1, 2, 4, 16, 64, 256) for rate in (0, 1 / k)]


def test_the_fit_finds_h_and_i_and_the_crossover():
    found = model.kick_model(points(3000, 13000, 4600))
    assert found["c"] == pytest.approx(3000)
    assert found["H"] == pytest.approx(13000)
    assert found["I"] == pytest.approx(4600)
    assert found["crossover"] == pytest.approx(13000 / 4600)
    assert found["r2"] == pytest.approx(1)


def test_the_fit_says_when_the_formula_does_not_hold():
    wrong = [{**point, "cost": 1000 if nth % 4 < 2 else 9000} for nth, point in enumerate(points(1, 1, 1))]
    assert model.kick_model(wrong)["r2"] < 0.5


def test_no_crossover_without_a_cost_of_interrupts():
    assert model.kick_model(points(3000, 13000, 0))["crossover"] is None
    assert model.kick_model(points(3000, 13000, -500))["crossover"] is None


def test_points_that_cannot_tell_the_factors_apart_are_refused():
    with pytest.raises(ValueError, match="tell the factors apart"):
        model.least_squares([([1, 2, 2], 5), ([1, 3, 3], 7), ([1, 4, 4], 9)])


def test_throughput_is_the_smaller_bound():
    assert model.bounded_iops(100, 400) == 100
    assert model.bounded_iops(4000, 400) == 400


@pytest.mark.parametrize(("value", "words"), [(0, "0"), (0.0156, "0.0156"), (999, "999"), (12345, "12.3 k"),
                                              (999999, "1 M"), (2.5e6, "2.5 M"), (None, "–"), (-4630, "-4.63 k")])
def test_numbers_as_people_write_them(value, words):
    assert model.si(value) == words


# Counting


def test_what_disturbs_a_step_does_not_count():
    steps = [{"host": 100, "guest_high": 10, "vmruns": 1}] * 5 + [{"host": 900, "guest_high": 50, "vmruns": 7}] * 45
    assert subject.undisturbed(steps) == {"host": 100, "guest_high": 10, "vmruns": 1}


def test_steps_in_a_row_count_as_one():
    steps = [{"host": nth, "guest_high": 1} for nth in range(7)]
    assert subject.together(steps, 3) == [{"host": 3, "guest_high": 3}, {"host": 12, "guest_high": 3}]


def statistics(reads, writes, hlt, interrupted, kicks):
    return {"exits": {"by_device": {"net0": {"reads": reads, "writes": writes}, "serial": {"reads": 10 * reads, "writes": 1}},
                      "by_cause": {"port": 5, "mmio": 7, "hlt": hlt, "interrupted": interrupted, "total": 99}},
            "devices": [{"name": "net0", "type": "virtio-net", "bytes": 10 * kicks, "queues": {"queue1": {"kicks": kicks}}}]}


def test_only_what_grew_between_two_statistics_counts_and_nothing_of_typing():
    before, after = statistics(1, 2, 0, 0, 4), statistics(5, 2, 3, 2, 10)
    assert subject.accesses(before, after) == {"net0": 4, "hlt": 3}
    grown = subject.devices(before, after)["net0"]
    assert grown["bytes"] == 60
    assert subject.summed(grown, "kicks") == 6


def test_one_exit_may_bring_many_accesses():
    before, after = statistics(0, 0, 0, 0, 0), statistics(1, 0, 0, 2, 0)
    after["exits"]["by_cause"]["total"] += 50
    # 50 exits, of which two were our signals and ten were typing.
    assert subject.user_exits(before, after) == 50 - 2 - 10


def test_a_device_that_counts_for_the_first_time():
    before, after = statistics(0, 0, 0, 0, 0), statistics(3, 1, 0, 0, 2)
    del before["exits"]["by_device"]["net0"]
    before["devices"] = []
    assert subject.accesses(before, after)["net0"] == 4
    assert subject.devices(before, after)["net0"]["queues"]["queue1"]["kicks"] == 2


@pytest.mark.parametrize(("limit", "rate"), [(200, 200), ("200", 200), ("10/10ms", 1000), ("1/500ms", 2)])
def test_limits_by_the_second(limit, rate):
    assert rates.a_second(limit) == rate


def test_a_limit_that_is_never_met_is_not_judged():
    slow, kept = {"got": None, "limit": 1000, "unit": "requests", "free": 1400, "windows": []}, {"got": 96.0, "limit": 100}
    assert "less than 1.5 times 1000" in rates.too_slow(slow)
    assert rates.judged([slow, kept]) == [kept]
    assert rates.off(kept) == pytest.approx(-0.04)


def test_windows_in_which_the_host_stood_still_are_not_judged():
    calm = {"got": None, "limit": 100, "free": 900, "windows": []}
    rates.judge(calm, [(97, 2.0), (40, 3.5), (99, 2.1), (60, 2.3), (98, 2.05)])
    assert calm["got"] == 98
    busy = {"got": None, "limit": 100, "free": 900, "windows": []}
    rates.judge(busy, [(97, 2.0), (40, 3.5), (99, 2.9), (60, 2.3), (98, 2.05)])
    assert busy["got"] is None
    assert "only 2 of 5 windows" in rates.too_slow(busy)


def test_functions_are_found_by_the_objects_they_come_from(tmp_path):
    """Of two functions of one name the right one, and what lies beside it."""
    (tmp_path / "one.c").write_text("static int same(int x) { return x * 3; }\nint one(int x) { return same(x) + same(x + 1); }\n")
    (tmp_path / "other.c").write_text("static int same(int x) { return x * 5; }\nint one(int);\n"
                                      "int main(int c, char **v) { (void)v; return one(c) + same(c) + same(c + 1); }\n")
    for name in ("one", "other"):
        subprocess.run(["gcc", "-O0", "-c", f"{name}.c"], cwd=tmp_path, check=True)
    subprocess.run(["gcc", "-no-pie", "-o", "program", "one.o", "other.o"], cwd=tmp_path, check=True)
    places = profile.places_of(tmp_path / "program", [tmp_path / "one.o"])
    assert len(places) == 2
    inside = next(place.start for place, name in places.items() if name == "one")
    beyond = max(place.stop for place in places)
    assert profile.instructions_at([(False, inside, 5), (True, inside, 7), (False, beyond, 11)], places) == {"one": 5}
    assert inside // 4096 in profile.others_pages(tmp_path / "program", places, 4096)


def test_a_refusal_is_told_from_a_guest_that_died():
    assert subject.refused("duet: --device vfio,host=1: not there\n") == "--device vfio,host=1: not there"
    assert subject.refused("duet-guest: user space\nduet: the guest panicked\n") is None
    assert subject.refused("") is None


# Records


def test_a_part_that_cannot_be_measured_is_skipped_aloud():
    record = Record("x", "X", "what")

    def impossible():
        raise Skipped("no such device")

    assert attempt(record, "the part", impossible) is None
    assert record.data["skipped"] == [{"part": "the part", "reason": "no such device"}]
    data = {**record.data, "environment": "lab", "seconds": 1}
    assert run.summary(data) == "x: ok, ; skipped the part (no such device) (lab, 1 s)"


def test_a_verdict_is_one_of_four_words():
    with pytest.raises(ValueError, match="maybe"):
        Record("x", "X", "").claim("M1", "", "", "", "maybe", "")


# Experiments: whatever file is in lab/experiments


def lab_lab(*words):
    return subprocess.run([sys.executable, str(REPO / "lab/lab"), *map(str, words)], capture_output=True, text=True,
                          check=False, timeout=300)


def told(name: str, counts: bool) -> dict:
    """The complete record of an experiment's own test."""
    module = catalogue.load(name)
    found = Record(name, module.TITLE, module.WHAT)
    module.selftest(SimpleNamespace(counts=counts, governor=lambda: "performance"), found)
    return found.data | {"date": "today", "environment": "lab" if counts else "hardware", "where": "here", "versions": {}}


@pytest.mark.parametrize("counts", [True, False], ids=["lab", "hardware"])
@pytest.mark.parametrize("name", catalogue.files())
def test_an_experiment_makes_of_made_up_figures_what_it_should(name, counts):
    claims = told(name, counts)["claims"]
    assert {claim["mechanism"] for claim in claims} <= set(catalogue.mechanisms())


@pytest.mark.parametrize("name", aims.EXPERIMENTS.values())
def test_an_experiment_that_the_bench_runs_says_what_its_figures_are_to_be(name):
    said = told(name, True)["aims"]
    assert [aim for aim in said if aim["target"] is not None]
    names = [aim["name"] for aim in said]
    assert len(names) == len(set(names))


def test_the_bench_tells_aims_and_what_was_not_measured(capsys):
    record, report = Record("x", "X", "what"), Report()
    record.aim("a share", 0.2, 0.25)
    record.aim("another", 1, 1, below=True)
    record.aim("a time", 12, unit="us")
    record.skip("a part", "no such device")
    aims.tell(record.data, report)
    assert [row["met"] for row in report.rows] == [True, False, None] and report.missed == 1
    assert "skipped a part: no such device" in capsys.readouterr().out
    aims.tell(Record("y", "Y", "what").data, report)
    assert "Nothing was measured" in capsys.readouterr().out


@pytest.mark.parametrize("counts", [True, False], ids=["lab", "hardware"])
def test_the_page_shows_any_experiment(tmp_path, counts):
    for name in catalogue.files():
        (tmp_path / f"{name}.json").write_text(json.dumps(told(name, counts)))
    result = lab_lab("report", "--input", tmp_path, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "index.html").read_text()
    assert re.findall(r"<section id='([\w-]+)'>", text) == catalogue.names()
    assert "not run yet" not in text


def test_experiments_are_listed_in_order():
    lines = lab_lab("experiment", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == catalogue.names()
    assert all(len(line.split()) > 2 for line in lines)
    words = lab_lab("experiment", "--help").stdout
    assert all(name in words for name in catalogue.names())


MINE = '''
"""Mine: what it is about."""
ORDER = 1000000
MECHANISMS = {"M3": "another title", "M99": "Mine alone"}
TITLE, WHAT = "Mine", "what"
run = selftest = print
'''


def test_a_new_experiment_is_one_file(tmp_path, monkeypatch):
    known, titles = catalogue.names(), catalogue.mechanisms()
    for name in known:
        shutil.copy(catalogue.EXPERIMENTS / f"{name}.py", tmp_path)
    monkeypatch.setattr(catalogue, "EXPERIMENTS", tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    assert catalogue.names() == [*known, "mine"]
    assert re.search("^mine +Mine: what it is about.$", catalogue.listing(), re.MULTILINE)
    assert catalogue.mechanisms() == titles | {"M99": ("Mine alone", "mine")}
    record = {**Record("mine", "Mine", "what").data, "date": "", "environment": "lab", "where": "", "versions": {}}
    (tmp_path / "mine.json").write_text(json.dumps(record))
    page = document.page(document.records(tmp_path))
    assert "<section id='mine'>" in page
    assert "Mine alone" in page


@pytest.mark.parametrize(("text", "says"), [
    ("ORDER = 1/0", "does not load: ZeroDivisionError"),
    ("ORDER = (", "does not load: SyntaxError"),
    (MINE.replace("selftest = ", ""), "lacks selftest: docs/experiments.md"),
    (MINE.replace('"""Mine', 'words = """Mine'), "lacks __doc__"),
])
def test_an_experiment_that_is_none_is_named(tmp_path, monkeypatch, text, says):
    monkeypatch.setattr(catalogue, "EXPERIMENTS", tmp_path)
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(LabError, match=f"{tmp_path}/mine.py {says}"):
        catalogue.names()


@pytest.mark.parametrize("words", [[], ["bogus"]])
def test_an_experiment_must_be_named(words):
    result = lab_lab("experiment", *words)
    assert result.returncode == 2
    assert result.stderr.startswith("lab: experiment")


# The page


@pytest.fixture(scope="module")
def recorded():
    return document.records(RECORDS)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Written by the program itself, which finds a Python with matplotlib."""
    target = tmp_path_factory.mktemp("report")
    result = lab_lab("report", "--input", RECORDS, "--output", target)
    assert result.returncode == 0, result.stderr
    return (target / "index.html").read_text()


class Checker(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.svgs = [], [], [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section" and "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if tag == "svg":
            self.svgs.append(given)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"


def test_the_page_is_well_formed_and_its_links_lead_somewhere(page):
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    assert {link.removeprefix("#") for link in checker.links} == set(checker.ids)


def test_every_mechanism_is_in_the_table_on_top(page, recorded):
    top = page[:page.index("How to read this")]
    for mechanism in catalogue.mechanisms():
        assert f"<span class='tag'>{mechanism}</span>" in top
    for record in recorded:
        for claim in record["claims"]:
            assert document.text(claim["measured"]) in top


def test_every_chart_is_there_with_words_for_those_who_do_not_see_it(page, recorded):
    charts = [chart for record in recorded for chart in record["charts"]]
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawn) == len(charts) > 0
    for text, chart in zip(drawn, charts, strict=True):
        root = ElementTree.fromstring(text)
        assert root.get("aria-label") == chart["alt"]
        assert root.get("role") == "img"


def test_charts_take_their_colours_from_the_page(page):
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert "var(--series-1)" in drawn
    assert "currentColor" in drawn
    assert not re.search(r"fill: #(?!ffffff)", drawn)


def test_emulated_times_are_marked(page, recorded):
    for record in recorded:
        for table in record["tables"]:
            if table["emulated"]:
                assert f"<h3>{document.text(table['title'])} <span class='emulated'>" in page
    assert "Measured in the nested lab" in page


def test_what_was_skipped_is_shown_with_its_reason(page, recorded):
    skipped = [item for record in recorded for item in record["skipped"]]
    assert skipped, "one of the recorded experiments skipped a part"
    for item in skipped:
        assert document.text(item["reason"]) in page


def test_markup_in_a_record_stays_text(recorded):
    hostile = copy.deepcopy(recorded[:1])
    hostile[0]["charts"] = []
    hostile[0]["claims"][0]["measured"] = "<script>alert(1)</script>"
    assert "<script>" not in document.page(hostile)


def test_a_mechanism_nobody_measured_is_said_to_be_so(recorded):
    alone = [{**recorded[0], "charts": []}]
    assert "not run yet: lab/lab experiment" in document.page(alone)


def test_a_broken_record_is_named(tmp_path):
    (tmp_path / "latency.json").write_text("{")
    with pytest.raises(LabError, match=r"latency\.json: not an experiment's record"):
        document.records(tmp_path)
    (tmp_path / "latency.json").write_text(json.dumps({"name": "latency"}))
    with pytest.raises(LabError, match=r"latency\.json: lacks title"):
        document.records(tmp_path)
    (tmp_path / "latency.json").unlink()
    with pytest.raises(LabError, match="experiment all first"):
        document.records(tmp_path)
