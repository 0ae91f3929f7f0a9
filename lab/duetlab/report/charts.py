# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG that takes its colours from the page, light or dark."""

import io
import re

from ..experiment.model import si

# Colours that no plot uses otherwise, and what the page's style sheet puts in their place.
FOREGROUND, GRID = "#010203", "#040506"
SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
MARKERS = "osD^vP"
SIZE = (5.6, 3.7)  # inches of 72 points: about a phone's width, so that type stays readable there


def svg(chart: dict) -> str:
    """CHART as an <svg> element with its alternative text."""
    plt = _pyplot(chart["title"])
    figure, axes = plt.subplots(figsize=SIZE)
    try:
        if any(series["style"] == "bars" for series in chart["series"]):
            _bars(axes, chart)
        else:
            _lines(axes, chart)
        _dress(axes, chart)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    finally:
        plt.close(figure)
    return _for_page(text.getvalue(), chart)


def _pyplot(salt: str):
    import matplotlib  # not needed by anything but the report

    matplotlib.use("svg")
    matplotlib.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 10, "axes.titlesize": 10, "legend.frameon": False,
        "text.color": FOREGROUND, "axes.labelcolor": FOREGROUND, "axes.edgecolor": GRID, "xtick.color": FOREGROUND,
        "ytick.color": FOREGROUND, "grid.color": GRID, "grid.linewidth": 0.7, "axes.spines.top": False,
        "axes.spines.right": False, "legend.fontsize": 9})
    import matplotlib.pyplot

    return matplotlib.pyplot


def _bars(axes, chart: dict) -> None:
    width = 0.8 / len(chart["series"])
    for nth, series in enumerate(chart["series"]):
        places = [x + (nth - (len(chart["series"]) - 1) / 2) * width for x in range(len(series["x"]))]
        heights = [value or 0 for value in series["y"]]
        bars = axes.bar(places, heights, width * 0.92, color=SERIES[nth], label=series["name"])
        axes.bar_label(bars, [si(value) for value in series["y"]], fontsize=9, padding=2, color=FOREGROUND)
    axes.set_xticks(range(len(chart["series"][0]["x"])), chart["series"][0]["x"])
    axes.margins(y=0.12)


def _lines(axes, chart: dict) -> None:
    for nth, series in enumerate(chart["series"]):
        # Points and the curve that is to run through them share a colour when their names begin alike.
        colour = SERIES[_colour(chart["series"], nth) % len(SERIES)]
        if series["style"] == "points":
            axes.plot(series["x"], series["y"], MARKERS[nth % len(MARKERS)], color=colour, label=series["name"], markersize=6)
        else:
            axes.plot(series["x"], series["y"], "--" if series["style"] == "dashed" else "-", color=colour,
                      label=series["name"], linewidth=1.8)


def _colour(all_series: list[dict], nth: int) -> int:
    first = [series["name"].split(",")[0] for series in all_series]
    seen = list(dict.fromkeys(first))
    return seen.index(first[nth]) if len(seen) > 1 and len(seen) < len(first) and "measured" not in seen else nth


def _dress(axes, chart: dict) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if chart.get(f"log_{name}"):
            getattr(axes, f"set_{name}scale")("log", base=2 if name == "x" and _powers_of_two(chart) else 10)
            if not (name == "x" and _powers_of_two(chart)):
                axis.set_major_locator(LogLocator(10))
            axis.set_minor_formatter(NullFormatter())
        if name == "y" or chart["series"][0]["style"] != "bars":
            axis.set_major_formatter(FuncFormatter(lambda value, _: si(value)))
    labels = {"x": chart.get("x_label", ""), "y": chart.get("y_label", "")}
    if chart.get("emulated"):
        labels["x" if "time" in labels["x"] else "y"] += " (emulated)"
    axes.set_xlabel(labels["x"])
    axes.set_ylabel(labels["y"])
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    if len(chart["series"]) > 1:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=2)


def _powers_of_two(chart: dict) -> bool:
    values = [x for series in chart["series"] for x in series["x"]]
    return all(isinstance(x, int) and x > 0 and x & (x - 1) == 0 for x in values)


def _for_page(text: str, chart: dict) -> str:
    text = text[text.index("<svg"):]
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px; font-family: inherit", text)
    text = text.replace(FOREGROUND, "currentColor").replace(GRID, "var(--line)")
    for number, colour in enumerate(SERIES, start=1):
        text = text.replace(colour, f"var(--series-{number})")
    return text.replace("<svg", f'<svg role="img" aria-label="{_attribute(chart["alt"])}"', 1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
