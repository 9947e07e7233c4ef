"""Pairs of columns: those that depend most on each other, and any other on demand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import numpy as np

from cnf.plotting.report.charts import Frame, grid, key
from cnf.plotting.report.columns import Pair
from cnf.plotting.report.markup import Html, element, joined, paragraph
from cnf.plotting.report.numbers import cell, number, ticks
from cnf.plotting.windows import limits_of, thin

SHOWN = 6  # pairs that are drawn at once
POINTS = 400  # of data and of samples each, in a panel
MOST_NUMBERS = 24_000  # that the page carries for the choice of pairs
SIDE = 1_000  # steps that these numbers count along an axis
SCRIPT = """
(function () {
  var box = document.currentScript.parentNode, all = JSON.parse(box.querySelector("script[type]").textContent);
  var choice = box.querySelectorAll("select"), chart = box.querySelector("svg");
  var dots = chart.querySelectorAll("path.dots"), texts = chart.querySelectorAll("text");
  function draw() {
    var x = choice[0].value, y = choice[1].value;
    ["data", "samples"].forEach(function (name, part) {
      var across = all[name][x], up = all[name][y];
      dots[part].setAttribute("d", across.map(function (a, i) {
        return a === null || up[i] === null ? "" : "M" + (46 + a * 0.27) + " " + (280 - up[i] * 0.27) + "h0";
      }).join(""));
    });
    all.ends[x].concat(all.ends[y]).forEach(function (text, i) { texts[i].textContent = text; });
    var names = [choice[1], choice[0]].map(function (select) { return select.selectedOptions[0].text; });
    chart.setAttribute("aria-label", "Scatter plot of " + names.join(" over ") + ", data and samples.");
  }
  choice.forEach(function (select) { select.addEventListener("change", draw); });
  draw();
})();
"""


def pairs_section(pairs: Sequence[Pair], seed: int = 0) -> Html | None:
    """Scatter plots of the pairs that depend most on each other, and a choice of any pair.

    Args:
        pairs: The columns; with fewer than two there is no section.
        seed: Of the noise that spreads levels and whole numbers.
    """
    if len(pairs) < 2:
        return None
    places = [_spread(pair, np.random.default_rng(seed)) for pair in pairs]
    chosen = _dependent([pair.data for pair in pairs])[:SHOWN]
    few = len(chosen) < SHOWN
    panels = [_panel(pairs[i], pairs[j], places[i], places[j]) for i, j in chosen]
    words = "All pairs." if few else f"The {SHOWN} pairs of columns whose ranks are most correlated."
    spread = " Levels and whole numbers are spread a little." if any(pair.column.discrete for pair in pairs) else ""
    return joined(
        paragraph(words, " Samples should cover the data and nothing else.", spread),
        key(("dot", "data"), ("dot red", "samples")),
        grid(panels, "large"),
        _choice(pairs, places) if not few else None,
    )


def _spread(pair: Pair, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Data and samples with some noise where they are discrete, at most `POINTS` of each, and the ends of the axis."""
    ends = (-0.5, len(pair.column.levels) - 0.5) if pair.column.levels else limits_of(pair.data[~np.isnan(pair.data)])
    parts = [thin(values, POINTS) for values in (pair.data, pair.samples)]
    if pair.column.discrete:
        parts = [part + generator.uniform(-0.3, 0.3, len(part)) for part in parts]
    return parts[0], parts[1], ends


def _dependent(columns: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Pairs of columns, those of the largest correlation of ranks first."""
    rows = thin(np.stack(columns, 1), 2_000)
    ranks = [np.where(np.isnan(column), 0.5, _ranks(column)) for column in rows.T]
    with np.errstate(all="ignore"):
        strength = np.nan_to_num(np.abs(np.corrcoef(ranks)))
    return sorted(itertools.combinations(range(len(ranks)), 2), key=lambda pair: -strength[pair])


def _ranks(column: np.ndarray) -> np.ndarray:
    """Mean ranks of ties, from 0 to 1."""
    order = np.sort(column[~np.isnan(column)])
    ranks: np.ndarray = (np.searchsorted(order, column) + np.searchsorted(order, column, "right")) / (
        2 * max(len(order), 1)
    )
    return ranks


def _panel(
    first: Pair,
    second: Pair,
    x: tuple[np.ndarray, np.ndarray, tuple[float, float]],
    y: tuple[np.ndarray, np.ndarray, tuple[float, float]],
) -> Html:
    frame = Frame(x[2], y[2], (300, 220), (46, 6, 6, 20))
    dots = [
        frame.dots(*_inside(frame, a, b), class_) for a, b, class_ in ((x[0], y[0], "dots"), (x[1], y[1], "dots red"))
    ]
    name = f"{second.column.name} over {first.column.name}"
    alt = f"Scatter plot of {name}: {len(x[0])} rows of the data, {len(x[1])} samples."
    chart = frame.drawing(alt, *dots, frame.axis(_labels(first, x[2])), _side(frame, second, y[2]))
    return element("figure", element("figcaption", name), chart)


def _inside(frame: Frame, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = (x >= frame.x[0]) & (x <= frame.x[1]) & (y >= frame.y[0]) & (y <= frame.y[1])  # no NaN is
    return x[kept], y[kept]


def _labels(pair: Pair, ends: tuple[float, float], most: int = 4) -> list[tuple[float, str]]:
    """Places along an axis and what is written there."""
    if pair.column.levels:
        step = -(-len(pair.column.levels) // most)
        return [(float(place), cell(place, pair.column)[:9]) for place in range(0, len(pair.column.levels), step)]
    if pair.column.kind == "date":
        return [(place, cell(np.floor(place), pair.column)) for place in ticks(*ends, 2)]
    return [(place, number(place)) for place in ticks(*ends, most)]


def _side(frame: Frame, pair: Pair, ends: tuple[float, float]) -> Html:
    labels = _labels(pair, ends)
    marks = "".join(f"M46 {frame.down(place):.1f}h-3" for place, _ in labels)
    texts = (
        element("text", label, x="41", y=f"{float(frame.down(place)) + 3.5:.1f}", text_anchor="end")
        for place, label in labels
    )
    return element("g", element("path", d=f"M46 6V200{marks}", class_="axis"), *texts)


def _choice(pairs: Sequence[Pair], places: Sequence[tuple[np.ndarray, np.ndarray, tuple[float, float]]]) -> Html:
    """Two menus and a chart that a few lines of script draw, from the numbers that the page carries."""
    rows = max(50, min(POINTS, MOST_NUMBERS // (2 * len(pairs))))
    facts = {
        "data": [_counted(x[0], x[2], rows) for x in places],
        "samples": [_counted(x[1], x[2], rows) for x in places],
        "ends": [[label for _, label in _first_and_last(pair, x[2])] for pair, x in zip(pairs, places, strict=True)],
    }
    names = [pair.column.name for pair in pairs]
    menus = [_menu(title, names, chosen) for title, chosen in (("horizontal", 0), ("vertical", 1))]
    corners = (("46", "296", "start"), ("316", "296", "end"), ("41", "280", "end"), ("41", "20", "end"))
    texts = (element("text", x=x, y=y, text_anchor=anchor) for x, y, anchor in corners)
    empty = (element("path", d="M0 0", class_=each) for each in ("dots", "dots red"))
    axes = element("path", d="M46 10V280H316", class_="axis")
    about = {"role": "img", "aria_label": "Scatter plot of the chosen columns.", "style": "max-width:440px"}
    drawn = element("svg", axes, *empty, *texts, viewBox="0 0 324 300", **about)
    data = Html(json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026"))
    scripts = element("script", data, type="application/json"), element("script", Html(SCRIPT))
    body = element("div", paragraph(*menus), drawn, *scripts)
    return element("details", element("summary", "Any other pair"), body, class_="choice")


def _first_and_last(pair: Pair, ends: tuple[float, float]) -> list[tuple[float, str]]:
    if pair.column.levels:
        return [(place, cell(place, pair.column)[:9]) for place in (0, len(pair.column.levels) - 1)]
    if pair.column.kind == "date":
        return [(end, cell(np.floor(end), pair.column)) for end in ends]
    return [(end, number(end, 3)) for end in ends]


def _counted(values: np.ndarray, ends: tuple[float, float], rows: int) -> list[int | None]:
    places = (values[:rows] - ends[0]) / (ends[1] - ends[0]) * SIDE
    return [None if not 0 <= place <= SIDE else round(place) for place in places]


def _menu(title: str, names: Sequence[str], chosen: int) -> Html:
    options = (
        element("option", name, value=place, selected="selected" if place == chosen else None)
        for place, name in enumerate(names)
    )
    return element("label", title, element("select", *options))
