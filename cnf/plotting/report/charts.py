"""Small charts as SVG within the page: light, sharp at any size, in the page's type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cnf.plotting.report.markup import Html, element
from cnf.plotting.report.numbers import number, ticks


@dataclass(frozen=True)
class Frame:
    """A chart's plane: what is drawn at which place.

    Attributes:
        x: The two ends of the horizontal axis.
        y: Those of the vertical one.
        size: Width and height in units of the drawing.
        margins: Left and right, above and below the axes.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    size: tuple[float, float] = (180, 104)
    margins: tuple[float, float, float, float] = (4, 4, 4, 18)

    def across(self, x: np.ndarray | float) -> np.ndarray:
        """Horizontal places."""
        left, right, _, _ = self.margins
        place: np.ndarray = left + (np.asarray(x, dtype=float) - self.x[0]) / (self.x[1] - self.x[0]) * (
            self.size[0] - left - right
        )
        return place

    def down(self, y: np.ndarray | float) -> np.ndarray:
        """Vertical places, counted from above."""
        _, _, above, below = self.margins
        place: np.ndarray = (
            self.size[1]
            - below
            - (np.asarray(y, dtype=float) - self.y[0]) / (self.y[1] - self.y[0]) * (self.size[1] - above - below)
        )
        return place

    def drawing(self, alt: str, *parts: Html | None) -> Html:
        """The chart; `alt` says in words what it shows."""
        width, height = self.size
        return element("svg", *parts, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=alt)

    def line(self, x: np.ndarray, y: np.ndarray, class_: str = "line") -> Html:
        """A line through points; it is interrupted where a value is not finite."""
        return element("path", d=_path(self.across(x), self.down(y)), class_=class_)

    def dots(self, x: np.ndarray, y: np.ndarray, class_: str = "dots") -> Html:
        """Points, in few bytes: strokes of no length with round ends."""
        places = zip(self.across(x), self.down(y), strict=True)
        return element("path", d="".join(f"M{a:.0f} {b:.0f}h0" for a, b in places), class_=class_)

    def steps(self, heights: np.ndarray, edges: np.ndarray, class_: str) -> Html:
        """The outline of a histogram, from the axis and back to it."""
        x, y = np.repeat(edges, 2), np.concatenate(([0.0], np.repeat(heights, 2), [0.0]))
        return element("path", d=_path(self.across(x), self.down(y)), class_=class_)

    def band(self, low: float, high: float) -> Html:
        """The strip between two heights."""
        top, bottom = float(self.down(high)), float(self.down(low))
        left, right = (float(self.across(end)) for end in self.x)
        return element(
            "rect",
            x=f"{left:g}",
            y=f"{top:.1f}",
            width=f"{right - left:g}",
            height=f"{bottom - top:.1f}",
            class_="band",
        )

    def axis(self, labels: Sequence[tuple[float, str]] | None = None) -> Html:
        """The horizontal axis with a few numbers."""
        given = [(place, number(place)) for place in ticks(*self.x)] if labels is None else labels
        bottom = self.size[1] - self.margins[3]
        marks = "".join(f"M{self.across(place):.1f} {bottom:g}v3" for place, _ in given)
        left, right = (float(self.across(end)) for end in self.x)
        texts = (_text(label, float(self.across(place)), bottom + 13, self.size[0]) for place, label in given)
        return element("g", element("path", d=f"M{left:g} {bottom:g}H{right:g}{marks}", class_="axis"), *texts)

    def side(self, most: int = 4) -> Html:
        """The vertical axis with a few numbers."""
        left = self.margins[0]
        places = ticks(*self.y, most)
        marks = "".join(f"M{left:g} {self.down(place):.1f}h-3" for place in places)
        top, bottom = self.margins[2], self.size[1] - self.margins[3]
        texts = (
            element(
                "text", number(place), x=f"{left - 6:g}", y=f"{float(self.down(place)) + 3.5:.1f}", text_anchor="end"
            )
            for place in places
        )
        return element("g", element("path", d=f"M{left:g} {top:g}V{bottom:g}{marks}", class_="axis"), *texts)


def _text(label: str, x: float, y: float, width: float) -> Html:
    """A label below its place, within the drawing."""
    half = 2.9 * len(label)
    anchor = "start" if x < half else "end" if x > width - half else "middle"
    x = 0 if anchor == "start" and x < 8 else width if anchor == "end" and x > width - 8 else x
    return element("text", label, x=f"{x:.1f}", y=f"{y:g}", text_anchor=anchor)


def _path(x: np.ndarray, y: np.ndarray) -> str:
    finite = np.isfinite(x) & np.isfinite(y)
    commands, pen = [], "M"
    for a, b, known in zip(x, y, finite, strict=True):
        commands.append(f"{pen}{a:.1f} {b:.1f}" if known else "")
        pen = "L" if known else "M"
    return "".join(commands)


def panel(name: str, chart: Html, remark: str = "") -> Html:
    """A chart under its name."""
    return element(
        "figure",
        element("figcaption", name, element("small", remark) if remark else None),
        chart,
    )


def grid(panels: Iterable[Html], size: str = "") -> Html:
    """Panels side by side, as many as fit."""
    return element("div", *panels, class_=f"grid {size}".strip())


def key(*entries: tuple[str, str]) -> Html:
    """The legend of a grid: a class of mark, and what it stands for."""
    return element("div", *(element("span", element("i", class_=mark), words) for mark, words in entries), class_="key")
