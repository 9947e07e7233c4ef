"""Pictures of inference: calibration of posteriors, coverage of their regions, and importance weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cnf.arguments import Size, checked, inside
from cnf.inference import Coverage, Evidence
from cnf.plotting.style import BLUE, GREY, INK, VERMILION, as_numpy, short_name, tidy

COLOURS = (BLUE, VERMILION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK, "0.4")  # of Okabe and Ito
BAND = "0.9"


@checked
def ranks_figure(
    ranks: Tensor | np.ndarray,
    draws: Size | None = None,
    *,
    columns: Sequence[str] | None = None,
    level: Annotated[float, inside(0, 1)] = 0.95,
) -> Figure:
    """Draw the distribution function of ranks minus that of uniform ones, with the band they should stay in.

    A posterior that is too narrow rises on the left and falls on the right; one that is too wide does the opposite; one
    that is shifted stays on one side. The band holds the whole curve of uniform ranks with the given probability, by
    the inequality of Dvoretzky, Kiefer and Wolfowitz.

    Args:
        ranks: `(N,)` or `(N, D)`: of `cnf.inference.sbc_ranks`, 0 to `draws`, or, without `draws`, numbers in [0, 1]
            such as probability integral transforms.
        draws: Of each posterior.
        columns: Names of the D parameters.
        level: Probability of the band.

    Raises:
        ValueError: No ranks, ranks outside the range, or another number of names.

    References:
        Säilynoja et al. 2022, Graphical test for discrete uniformity, arXiv 2103.10522; Massart 1990.

    Example:
        >>> import torch, cnf
        >>> figure = cnf.plotting.ranks_figure(torch.randint(0, 101, (300, 2)), 100, columns=["a", "b"])
        >>> [line.get_label() for line in figure.axes[0].get_lines()[1:]]
        ['a', 'b']
    """
    values = as_numpy(ranks)
    values = values[:, None] if values.ndim == 1 else values
    _check(values, draws, columns)
    points = np.linspace(0, 1, 201) if draws is None else np.arange(draws + 2) / (draws + 1)
    shares = values if draws is None else (values + 0.5) / (draws + 1)  # between two of the points
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    _plain(axes)
    width = math.sqrt(math.log(2 / (1 - level)) / (2 * len(values)))
    axes.fill_between(points, np.maximum(-width, -points), np.minimum(width, 1 - points), color=BAND, lw=0)
    axes.axhline(0, color=GREY, lw=0.6)
    names = [f"parameter {k + 1}" for k in range(values.shape[1])] if columns is None else columns
    for k, (name, column) in enumerate(zip(names, shares.T, strict=True)):
        below = np.searchsorted(np.sort(column), points, side="right") / len(column)
        axes.plot(points, below - points, color=COLOURS[k % len(COLOURS)], lw=1.2, label=short_name(name))
    axes.set(xlim=(0, 1))
    axes.set_xlabel("rank as a share of the draws" if draws else "probability", fontsize=8)
    axes.set_ylabel("distribution function minus uniform", fontsize=8)
    if len(names) > 1 or columns is not None:
        axes.legend(frameon=False, fontsize=7)
    return figure


def _check(values: np.ndarray, draws: int | None, columns: Sequence[str] | None) -> None:
    if values.ndim != 2 or not values.size:
        raise ValueError(f"ranks must be (N,) or (N, D) and not empty, got shape {values.shape}")
    highest = 1 if draws is None else draws
    if not ((values >= 0) & (values <= highest)).all():
        raise ValueError(f"ranks must be between 0 and {highest}: give draws, the number of draws they count")
    if columns is not None and len(columns) != values.shape[1]:
        raise ValueError(f"expected a name for each of {values.shape[1]} columns, got {len(columns)}")


def coverage_figure(coverages: Coverage | Mapping[str, Coverage]) -> Figure:
    """Draw how often regions hold the truth against how often they should, with two standard errors on both sides.

    A curve below the diagonal is that of regions that are too small: the posterior is too sure.

    Args:
        coverages: What `cnf.inference.coverage` or `tarp` returned; several by name.

    Raises:
        ValueError: There are none.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("maf", 1, 1, hidden=(8,))
        >>> found = cnf.inference.coverage(flow, torch.randn(50, 1), torch.randn(50, 1), draws=9)
        >>> cnf.plotting.coverage_figure({"flow": found}).axes[0].get_xlabel()
        'credible level'
    """
    named = {"": coverages} if isinstance(coverages, Coverage) else coverages
    if not named:
        raise ValueError("there are no coverages to draw")
    figure = Figure(figsize=(3.6, 3.4), layout="constrained")
    axes = figure.add_subplot(aspect="equal")
    _plain(axes)
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8)
    for k, (name, found) in enumerate(named.items()):
        levels, shares, errors = (as_numpy(part) for part in found[:3])
        color = COLOURS[k % len(COLOURS)]
        axes.fill_between(levels, shares - 2 * errors, shares + 2 * errors, color=color, alpha=0.2, lw=0)
        axes.plot(levels, shares, color=color, lw=1.2, label=short_name(name))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xlabel("credible level", fontsize=8)
    axes.set_ylabel("share of truths inside", fontsize=8)
    if any(named):
        axes.legend(frameon=False, fontsize=7)
    return figure


def weights_figure(evidence: Evidence) -> Figure:
    """Draw importance weights: how they are distributed, and which part of the total the largest carry.

    Good weights lie close to their mean; a long right tail means few draws that decide everything (k̂ above 0.7).

    Args:
        evidence: What `cnf.inference.importance` returned.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> evidence = cnf.inference.importance(flow, lambda x: -(x / 1.1).square().sum(1) / 2, 500)
        >>> [axes.get_xlabel() for axes in cnf.plotting.weights_figure(evidence).axes]
        ['log of weight over mean weight', 'share of the draws, largest weights first']
    """
    raw = as_numpy(evidence.log_weights)
    finite = raw[np.isfinite(raw)]
    relative = finite - finite.max()
    relative = relative - np.log(np.exp(relative).sum() / len(raw))
    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        _plain(axes)
    low = max(relative.min(), -12.0)
    left.hist(relative.clip(low), bins=60, color=BLUE, lw=0)
    left.axvline(0, color=GREY, lw=0.8)
    left.set_xlabel("log of weight over mean weight", fontsize=8)
    left.set_ylabel("draws", fontsize=8)
    carried = np.append(0, np.exp(np.sort(relative)[::-1]).cumsum() / len(raw))
    right.plot(np.arange(len(carried)) / len(raw), carried, color=BLUE, lw=1.2)
    right.plot([0, 1], [0, 1], color=GREY, lw=0.8)
    right.set(xlim=(0, 1), ylim=(0, 1.02))
    right.set_xlabel("share of the draws, largest weights first", fontsize=8)
    right.set_ylabel("share of the weight", fontsize=8)
    k_hat = "" if evidence.k_hat is None else f", Pareto k̂ {evidence.k_hat:.2f}"
    right.set_title(f"effective sample size {evidence.ess:.1%}{k_hat}", fontsize=8, color=INK)
    return figure


def _plain(axes: Axes) -> None:
    tidy(axes, 5)
    axes.spines[["top", "right"]].set_visible(False)
