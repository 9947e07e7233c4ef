"""What a report needs of the rows of a flow: bounded numbers of them, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnf.continuous.solvers import RungeKutta
from cnf.continuous.twins import cnfs_of, reconfigure
from cnf.data.rows import Rows
from cnf.data.sources import Source
from cnf.flows import Flow
from cnf.metrics import NormalMixture, cells_given_others, kernel_density, log_prob_of_rows, normal, normal_mixture
from cnf.plotting.report.columns import Pair
from cnf.plotting.report.scores import Score
from cnf.plotting.report.unusual import MOST, Unusual
from cnf.tables import Column, Schema

SCORED = 2_000  # held-out rows that densities are compared on
FITTED = 20_000  # rows that the simple densities are fitted to
SHOWN = 5_000  # rows and samples in a histogram
ENOUGH = 1_000  # test rows from which they alone are shown beside samples
DENSITIES = 40_000  # of the quadratures of a page
GRID = 48  # of them for each cell
MOST_COLUMNS = 24  # whose calibration is shown
TOLERANCE = 1e-3  # of the solver in these


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a part of the data.

    Attributes:
        x: `(N, D)`.
        context: `(N, C)` or None.
        numbers: Of the rows in the data.
        all: How many rows the part has.
    """

    x: Tensor
    context: Tensor | None
    numbers: Tensor
    all: int

    @property
    def joint(self) -> Tensor:
        """Data and context side by side, in float64."""
        parts = [self.x] if self.context is None else [self.x, self.context]
        return torch.cat(parts, 1).double()

    @property
    def said(self) -> str:
        """How many rows these are, in words."""
        return f"{len(self.x):,} of {self.all:,}" if len(self.x) < self.all else f"all {self.all:,}"


def part_of(rows: Rows, most: int) -> Part:
    """At most so many rows, drawn at random once and for all."""
    n = len(rows)
    chosen = np.arange(n) if n <= most else np.sort(np.random.default_rng(0).choice(n, most, replace=False))
    return Part(*rows.read(chosen.tolist()), n)


def quick(flow: Flow) -> Flow:
    """The flow with a looser tolerance, for pictures."""
    loose = RungeKutta("dopri5", rtol=TOLERANCE, atol=TOLERANCE)
    return reconfigure(flow, solver=loose) if cnfs_of(flow) else flow


def scored(flow: Flow, part: Part) -> np.ndarray:
    """Log-densities of rows, NaN where there are none."""
    log_prob: np.ndarray = (
        log_prob_of_rows(flow, part.x if part.context is None else (part.x, part.context)).double().numpy()
    )
    return log_prob


def schema_of_rows(source: Source) -> Schema:
    """The columns as the flow takes them: real numbers, with the range of some rows."""
    part = part_of(source.train, FITTED)
    described = [(name, "modelled as a real number") for name in source.columns]
    described += [(name, "a condition of the model") for name in source.context]
    ends = zip(part.joint.amin(0).tolist(), part.joint.amax(0).tolist(), strict=True)
    return Schema(
        tuple(
            Column(name, "real", why, low=low, high=high)
            for (name, why), (low, high) in zip(described, ends, strict=True)
        )
    )


def pairs_of(flow: Flow, source: Source) -> tuple[list[Pair], str]:
    """Columns of data and samples, and which rows these are."""
    fresh = len(source.test) >= ENOUGH
    parts = [source.test] if fresh else [source.train, source.validation, source.test]
    data = [part_of(rows, SHOWN) for rows in parts]
    x = torch.cat([part.x for part in data])[:SHOWN]
    context = (
        None
        if data[0].context is None
        else torch.cat([part.context for part in data if part.context is not None])[:SHOWN]
    )
    samples = quick(flow).sample(len(x), context, generator=torch.Generator().manual_seed(0))
    which = "held-out rows" if fresh else "rows, those of the training among them,"
    note = f"Shown are {len(x):,} {which} and {len(x):,} samples."
    columns = schema_of_rows(source).columns
    given = zip(columns, x.double().numpy().T, samples.double().numpy().T, strict=False)
    return [Pair(*each) for each in given], note


def scores_of(source: Source, test: Part, known: np.ndarray, likelihood: str) -> list[Score]:
    """The model, which gives the rows the log-densities `known`, and simple densities."""
    train, judged = part_of(source.train, FITTED), part_of(source.validation, SCORED)
    scale = train.joint.std(0).clamp(min=1e-300)
    x, v, rows = (part.joint / scale for part in (train, judged, test))
    log_scale, width = float(scale[: test.x.shape[1]].log().sum()), test.x.shape[1]
    generator = torch.Generator().manual_seed(0)
    alone = sum(kernel_density(x[:, [j]], v[:, [j]], generator=generator).log_prob(rows[:, [j]]) for j in range(width))
    mixture = normal_mixture(x, v, generator=generator)
    kernels = kernel_density(x, v, generator=generator)
    found = [
        ("independent columns", alone, "a kernel density of each column"),
        ("Gaussian", _given(normal(x), rows, width), "mean and covariance"),
        ("Gaussian mixture", _given(mixture, rows, width), f"{len(mixture.means)} components"),
        ("kernel density", _given(kernels, rows, width), f"Gaussian kernels of {len(kernels.means):,} rows"),
    ]
    kept = ~np.isnan(known)
    simple = [
        Score(name, (torch.as_tensor(values).numpy() - log_scale)[kept], remark=remark)
        for name, values, remark in found
    ]
    return [Score("this model", known[kept], likelihood, own=True), *simple]


def _given(density: NormalMixture, rows: Tensor, width: int) -> Tensor:
    """`log p(x | context)` of a joint density of both."""
    if rows.shape[1] == width:
        return density.log_prob(rows)
    context = range(width, rows.shape[1])
    return density.log_prob(rows) - density.marginal(context).log_prob(rows[:, width:])


@dataclass(frozen=True, eq=False)
class Judged:
    """Held-out rows whose cells were compared with the others of their rows.

    Attributes:
        pit: `(N, D)`.
        surprise: Mean of `−log p(x_j | x_−j)`, `(D,)`.
        rows: How many of how many, in words.
    """

    pit: np.ndarray
    surprise: np.ndarray
    rows: str


def judged_cells(flow: Flow, source: Source) -> Judged:
    """Calibration of some held-out rows, few enough to be quick."""
    width = min(len(source.columns), MOST_COLUMNS)
    part = part_of(source.test, int(np.clip(DENSITIES / (GRID * len(source.columns)), 50, 400)))
    cells = cells_given_others(quick(flow), part.x, part_of(source.train, SHOWN).x, part.context)
    return Judged(cells.pit.numpy()[:, :width], -np.nanmean(cells.log_prob.numpy(), 0), part.said)


def unusual_of(flow: Flow, source: Source, test: Part, log_prob: np.ndarray, usual: np.ndarray) -> Unusual:
    """The least likely test rows; `usual` is the mean of `−log p(x_j | x_−j)` over usual rows, `(D,)`."""
    order = np.argsort(np.nan_to_num(log_prob, nan=np.inf), kind="stable")[:MOST].tolist()
    x, context = test.x[order], None if test.context is None else test.context[order]
    cells = cells_given_others(quick(flow), x, part_of(source.train, SHOWN).x, context)
    judged = scored(flow, part_of(source.validation, SCORED))
    p_values = (1 + (judged <= log_prob[order][:, None]).sum(1)) / (len(judged) + 1)
    return Unusual(
        test.numbers[order].tolist(), x.double().numpy(), log_prob[order], p_values, -cells.log_prob.numpy() - usual
    )
