# SPDX-License-Identifier: Apache-2.0
"""The page that tells a student what the experiments found: build/report/index.html."""

import html
import importlib.util
import json
import os
import re
import sys
from pathlib import Path

from ..base import debian
from ..base.cache import write_atomically
from ..base.errors import LabError
from ..experiment import catalogue
from . import charts

WORDS = {"yes": "agrees", "partly": "agrees in part", "no": "disagrees", "not measured": "not measured"}
SIGNS = {"yes": "✓", "partly": "◐", "no": "✗", "not measured": "–"}
REQUIRED = ("name", "title", "what", "date", "environment", "where", "versions", "figures", "claims",
            "tables", "charts", "confounders", "skipped", "symbols")
DEBIAN_PYTHON = "/usr/bin/python3"
STYLE = Path(__file__).with_name("style.css")


def write(source: Path, target: Path) -> Path:
    """The page from all records in SOURCE, in the directory TARGET; its path."""
    _need_matplotlib()
    path = target / "index.html"
    write_atomically(path, page(records(source)).encode())
    return path


def _need_matplotlib() -> None:
    """Debian's package serves Debian's Python: start again under that one if this is another."""
    if importlib.util.find_spec("matplotlib"):
        return
    debian.install_missing(["python3-matplotlib"])
    if sys.executable == DEBIAN_PYTHON:
        importlib.invalidate_caches()
        return
    os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, *sys.argv])


def records(source: Path) -> list[dict]:
    """What the experiments wrote, in the order of the mechanisms."""
    found = []
    for path in sorted(source.glob("*.json")):
        try:
            record = json.loads(path.read_text())
            missing = [name for name in REQUIRED if name not in record]
        except (ValueError, TypeError) as error:
            raise LabError(f"{path}: not an experiment's record ({error}); run lab/lab experiment {path.stem}") from error
        if missing:
            raise LabError(f"{path}: lacks {', '.join(missing)}; run lab/lab experiment {path.stem} again")
        found.append(record)
    if not found:
        raise LabError(f"{source}: no records there; run lab/lab experiment all first")
    order = catalogue.names()
    return sorted(found, key=lambda r: order.index(r["name"]) if r["name"] in order else len(order))


def page(found: list[dict]) -> str:
    mechanisms = catalogue.mechanisms()
    sections = (_section(record, mechanisms) for record in found)
    body = [_header(found), _summary(found, mechanisms), _guide(found), *sections, _footer()]
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark"><title>duet: the I/O spectrum, measured</title>'
            f"<style>{STYLE.read_text()}</style></head><body><main>{''.join(body)}</main></body></html>\n")


def text(words) -> str:
    return html.escape(str(words))


def _header(found: list[dict]) -> str:
    lab = any(record["environment"] == "lab" for record in found)
    note = ("<p class='banner'><strong>Measured in the nested lab.</strong> The whole host runs inside an emulator. "
            "Counts (exits, instructions, requests, bytes) are those of a real host and are the figures to trust. "
            "Times are <span class='emulated'>emulated</span>: they say nothing about hardware, only their order may be "
            "compared.</p>" if lab else "<p class='banner'><strong>Measured on hardware.</strong></p>")
    return ("<header><p class='kicker'>duet · experiments</p><h1>The I/O spectrum, measured</h1>"
            "<p class='lead'>A virtual machine can reach its disk and network in three ways: the hypervisor imitates a real "
            "device (<em>emulation</em>), guest and hypervisor share a purpose-made one (<em>paravirtualization</em>), or the guest "
            "gets a piece of the real device (<em>passthrough</em>). The textbook says what each costs. "
            f"Here is what they cost on this machine.</p>{note}</header>")


def _summary(found: list[dict], mechanisms: dict[str, tuple[str, str]]) -> str:
    rows = []
    for mechanism, (title, shown_by) in mechanisms.items():
        claims = [claim for record in found for claim in record["claims"] if claim["mechanism"] == mechanism]
        if not claims:
            claims = [{"claim": "–", "measured": f"not run yet: lab/lab experiment {shown_by}", "agrees": "not measured"}]
        for claim in claims:
            rows.append(f"<tr><th scope='row'><span class='tag'>{mechanism}</span> {text(title)}</th>"
                        f"<td data-label='The chapter claims'>{text(claim['claim'])}</td>"
                        f"<td data-label='Measured'>{text(claim['measured'])}</td>"
                        f"<td data-label='Agrees?'>{_badge(claim['agrees'])}</td></tr>")
    return ("<section><h2>At a glance</h2><table class='summary'><thead><tr><th>Mechanism</th><th>The chapter claims</th>"
            f"<th>Measured</th><th>Agrees?</th></tr></thead><tbody>{''.join(rows)}</tbody></table></section>")


def _badge(agrees: str) -> str:
    return f"<span class='badge {agrees.replace(' ', '-')}'>{SIGNS[agrees]} {WORDS[agrees]}</span>"


def _guide(found: list[dict]) -> str:
    links = "".join(f"<li><a href='#{text(record['name'])}'>{text(record['title'])}</a></li>" for record in found)
    return ("<section><h2>How to read this</h2><p>Every time the guest does something that the hypervisor must handle, the CPU leaves "
            "the guest: an <em>exit</em>. Exits are what virtual I/O is paid in. Some end in the host's kernel, the dearest go on to "
            "the hypervisor's program. Each part below gives the chapter's claim, its model (the formula), what was measured, "
            f"and whether they agree, and tells what could have spoiled the figures.</p><ul class='contents'>{links}</ul></section>")


def _section(record: dict, mechanisms: dict[str, tuple[str, str]]) -> str:
    parts = [f"<section id='{text(record['name'])}'><h2>{text(record['title'])}</h2><p>{text(record['what'])}</p>",
             _skipped(record), *(_claim(claim, mechanisms) for claim in record["claims"]), _symbols(record),
             "<div class='charts'>", *map(_chart, record["charts"]), "</div>",
             *(_table(table) for table in record["tables"]), _confounders(record), _versions(record), "</section>"]
    return "".join(parts)


def _skipped(record: dict) -> str:
    items = "".join(f"<li><strong>{text(item['part'])}</strong>: {text(item['reason'])}</li>" for item in record["skipped"])
    return f"<div class='skipped'><h3>Skipped</h3><ul>{items}</ul></div>" if items else ""


def _claim(claim: dict, mechanisms: dict[str, tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{name}</dt><dd>{text(claim[key])}</dd>" for name, key in
                   (("The chapter", "claim"), ("Model", "model"), ("Measured", "measured"), ("In words", "words")))
    title, _ = mechanisms.get(claim["mechanism"], ("", ""))
    return (f"<article class='claim'><h3><span class='tag'>{text(claim['mechanism'])}</span> "
            f"{text(title)} {_badge(claim['agrees'])}</h3><dl>{rows}</dl></article>")


def _symbols(record: dict) -> str:
    rows = "".join(f"<dt>{text(item['symbol'])}</dt><dd>{text(item['words'])}</dd>" for item in record["symbols"])
    return f"<h3>What the letters mean</h3><dl class='symbols'>{rows}</dl>" if rows else ""


def _mark(emulated: bool) -> str:
    return " <span class='emulated'>emulated times</span>" if emulated else ""


def _chart(chart: dict) -> str:
    return (f"<figure><h3>{text(chart['title'])}{_mark(chart.get('emulated', False))}</h3>{charts.svg(chart)}"
            f"<figcaption>{text(chart['words'])}</figcaption></figure>")


def _table(table: dict) -> str:
    kinds = [" class='number'" if all(_number(row[nth]) for row in table["rows"]) else ""
             for nth in range(len(table["columns"]))]
    head = "".join(f"<th{kind}>{text(column)}</th>" for column, kind in zip(table["columns"], kinds, strict=True))
    rows = "".join("<tr>" + "".join(f"<td{kind}>{text(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
                   for row in table["rows"])
    return (f"<h3>{text(table['title'])}{_mark(table.get('emulated', False))}</h3><div class='scroll'>"
            f"<table class='figures'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>")


def _number(cell) -> bool:
    return re.fullmatch(r"[-–]?[\d.]*( [kMG%])?", str(cell)) is not None


def _confounders(record: dict) -> str:
    rows = "".join(f"<tr><td>{text(item['name'])}</td><td class='{text(item['state']).replace(' ', '-')}'>{text(item['state'])}</td>"
                   f"<td>{text(item['how'])}</td></tr>" for item in record["confounders"])
    return ("<details><summary>What could have spoiled the figures</summary><div class='scroll'><table><thead><tr><th>Influence</th>"
            f"<th>State</th><th>How</th></tr></thead><tbody>{rows}</tbody></table></div></details>")


def _versions(record: dict) -> str:
    items = "".join(f"<li>{text(name.replace('_', ' '))}: {text(value)}</li>" for name, value in record["versions"].items())
    return (f"<details><summary>Where and when</summary><p>{text(record['where'])} {text(record['date'])}, "
            f"{text(record.get('seconds', '?'))} s.</p><ul>{items}</ul></details>")


def _footer() -> str:
    return ("<footer><h2>No best point</h2><p>The chapter ends on trade-offs: emulation runs any guest and is slow; passthrough is "
            "fast and ties the guest to a device; paravirtualization lies between and keeps the hypervisor in control. "
            "The figures above are the price list of this machine; which to buy depends on what the guest needs.</p>"
            "<p>Raw figures: build/experiments/*.json. Repeat them with <code>lab/lab experiment all</code>, then "
            "<code>make report</code>.</p></footer>")
