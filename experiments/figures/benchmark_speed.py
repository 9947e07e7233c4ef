"""The figure of `benchmark_speed`, and its table as text."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from cnf.plotting import BLUE, INK, style_axes
from experiments.paper import Paper
from experiments.parts.race import TASKS
from experiments.parts.work import Case

CASES = {
    "toy2d": Case(2, (64, 64, 64), 512),
    "tab8": Case(8, (128, 128, 128), 512),
    "tab43": Case(43, (256, 256, 256), 512, exact=False, peers_exact=False),
    "exact43": Case(43, (256, 256), 512),
    "exact784": Case(784, (1024, 1024), 200, peers_exact=False),
    "large batch": Case(43, (128, 128), 8192, exact=False, peers_exact=False),
    "wide": Case(43, (1024, 1024), 512, exact=False, peers_exact=False),
    "smoke": Case(2, (8, 8), 16),
}
TITLES = {"train": "training step", "evaluate": "evaluation", "sample": "sampling"}
OURS = ("cnf", "cnf (compiled)")


def table(case: str, rows: dict[str, Any]) -> str:
    """A line for each competitor: milliseconds, their ratios to ours (plain, compiled), and proof of equal work."""
    titles = "".join(f"{TITLES[task] + ', ms':>17}{'÷ cnf':>8}{'÷ comp.':>8}" for task in TASKS)
    lines = [f"\n{case:16}{titles}{'NLL':>11}{'|gradient|':>11}{'evaluations':>13}{'MB':>7}"]
    for name, row in rows.items():
        cells = [f"{name:16}"]
        for task in TASKS:
            part = row.get(task, {})
            cells.append(f"{part['milliseconds'][1]:17.1f}" if "milliseconds" in part else f"{'–':>17}")
            ratios = part.get("ratios", {})
            cells += [f"{ratios[ours][1]:8.2f}" if ours in ratios else " " * 8 for ours in OURS]
        best = row.get("train", row.get("evaluate", {}))
        cells += [f"{best[key]:11.5f}" if key in best else " " * 11 for key in ("nll", "gradient_norm")]
        counts = "/".join(f"{row[task]['evaluations']:.0f}" for task in TASKS if task in row)
        cells.append(f"{counts:>13}" + (f"{best['megabytes']:7.1f}" if "megabytes" in best else " " * 7))
        lines.append("".join(cells) + (f"  ({row['skipped']})" if "skipped" in row else ""))
    return "\n".join(lines)


COLOURS = {"cnf": INK, "cnf (compiled)": BLUE}


def figure(results: dict[str, Any]) -> Figure:
    panels = results["seeds"][0]["cases"]
    places = [
        (case, name)
        for case, rows in panels.items()
        for name in ("", *(name for name, row in rows.items() if name not in OURS and set(row) & set(TASKS)))
    ]
    picture = Figure(figsize=(9.5, 1.1 + 0.15 * len(places)), layout="constrained")
    for axes, task in zip(picture.subplots(1, 3, sharey=True), TASKS, strict=True):
        for y, (case, name) in enumerate(places):
            draw(axes, panels[case].get(name, {}).get(task, {}), y)
        dress(axes, TITLES[task])
    left = picture.axes[0]
    left.set_ylim(len(places) - 0.4, -0.8)
    left.set_yticks(range(len(places)), [name or headline(case) for case, name in places], fontsize=7)
    for label, (_, name) in zip(left.get_yticklabels(), places, strict=True):
        label.set_weight("normal" if name else "bold")
    shown = [ours for ours in OURS if any(ours in rows and "train" in rows[ours] for rows in panels.values())]
    handles = [Line2D([], [], color=COLOURS[ours], marker="o", ms=4, label=f"÷ {ours}") for ours in shown]
    picture.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return picture


def headline(case: str) -> str:
    sizes = CASES[case]
    return f"{case}: D = {sizes.dim}, {len(sizes.hidden)} × {sizes.hidden[0]}"


def draw(axes: Any, row: dict[str, Any], y: float) -> None:
    """The medians of the ratios with the middle 80 per cent."""
    for shift, (ours, (low, middle, high)) in enumerate(row.get("ratios", {}).items()):
        place = y + 0.3 * shift - 0.15 * (len(row["ratios"]) - 1)
        axes.plot([low, high], [place, place], color=COLOURS[ours], lw=1)
        axes.plot(middle, place, "o", color=COLOURS[ours], ms=3.5)


def dress(axes: Any, title: str) -> None:
    axes.axvline(1, color="0.5", lw=1)
    axes.set(xscale="log", xlabel="their time ÷ ours")
    low, high = axes.get_xlim()
    axes.set(title=title, xlim=(min(low, 0.25), max(high, 4)))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color="0.9", lw=0.6)
    axes.set_axisbelow(True)
    style_axes(axes)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


PAPER = Paper(
    "", "", "How long do peers take for the very same work?", "measured",
    "One machine, two threads. Ratios are medians of rounds in which all took turns; peers that win are said to.",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """The ratio of training steps, peer to ours, and where a peer is faster at anything."""
    cases = results["seeds"][0]["cases"]
    peers = ("zuko", "FFJORD's recipe", "torchdyn", "diffrax")
    texts = [f"{peer} {' / '.join(ratio(rows.get(peer, {}), 'train') for rows in cases.values())}" for peer in peers]
    wins = [
        f"{case}, {TITLES[task]}: {name} {ratio(row, task)}"
        for case, rows in cases.items()
        for name, row in rows.items()
        for task in TASKS
        if name not in (*OURS, "matrix products", "cnf (probe)") and float(ratio(row, task).replace("–", "nan")) < 1
    ]
    faster = ", ".join(wins) or "none"
    return f"training step ÷ `cnf`, {' / '.join(cases)}: {'; '.join(texts)}. Peers that are faster: {faster}"


def ratio(row: dict[str, Any], task: str) -> str:
    ratios = row.get(task, {}).get("ratios", {})
    return f"{ratios['cnf'][1]:.2g}" if "cnf" in ratios else "–"
