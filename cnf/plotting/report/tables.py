"""The report of a `TableFlow`: columns of any kind, with empty cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnf.arguments import checked
from cnf.plotting.report.calibration import calibration_section
from cnf.plotting.report.columns import Pair, columns_section
from cnf.plotting.report.curve import curve_section
from cnf.plotting.report.marginals import independent_log_prob
from cnf.plotting.report.markup import Html
from cnf.plotting.report.numbers import with_error
from cnf.plotting.report.page import Section, tiles, write_page
from cnf.plotting.report.pairs import pairs_section
from cnf.plotting.report.schema import schema_section
from cnf.plotting.report.scores import Score, scores_section
from cnf.plotting.report.unusual import MOST, Unusual, unusual_section
from cnf.plotting.report.use import table_code, table_commands, use_section
from cnf.tables import Schema, TableFlow, read, to_numbers

if TYPE_CHECKING:
    import polars as pl

SCORED = 500  # held-out rows whose likelihood is shown
SHOWN = 2_000  # samples beside as many rows
JUDGED, DRAWS = 100, 50  # rows of the calibration, and draws of each of their cells
FITTED = 20_000


@checked
def table_report(
    model: TableFlow,
    train: Any,
    test: Any,
    path: str | Path,
    *,
    name: str = "table",
    notes: Sequence[str] = (),
    history: Sequence[Mapping[str, float]] = (),
    numbers: Mapping[str, Any] = {},
    folder: str | Path | None = None,
) -> Path:
    """Write what there is to know of a trained `TableFlow` as one HTML page, which needs no network; see `flow_report`.

    Args:
        model: The model.
        train: Rows that it was trained on, as `TableFlow.fit` takes them; simple densities are fitted to them.
        test: Rows that it has not seen, of the same columns.
        path: The file.
        name: Heading of the page.
        notes: What was understood when the table was read, a sentence each.
        history: `FitResult.history`; by default that of the model.
        numbers: Further results of `metrics.json`.
        folder: Where the model is saved, for the lines that load it; by default that of the page.

    Returns:
        The path.

    Example:
        >>> import tempfile, numpy as np, cnf
        >>> x = np.random.default_rng(0).normal(size=(60, 1)).round(3)
        >>> model = cnf.TableFlow(steps=1).fit(x[:50])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(table_report(model, x[:50], x[50:], f"{folder}/report.html").name)
        report.html
    """
    path = Path(path)
    history = history or (model.result.history if model.result is not None else ())
    page = _Page(model, read(train).frame, read(test).frame, history, numbers, str(folder or path.parent))
    lead = f"The density of {len(model.schema.columns)} columns of any kind, learned by the model {model.model}."
    return write_page(path, name, lead, page.tiles, page.sections(notes))


class _Page:
    """The parts of a page; what several of them need is computed once."""

    def __init__(
        self,
        model: TableFlow,
        train: pl.DataFrame,
        test: pl.DataFrame,
        history: Sequence[Mapping[str, float]],
        numbers: Mapping[str, Any],
        folder: str,
    ) -> None:
        self.model, self.history, self.numbers, self.folder = model, history, numbers, folder
        self.train, self.all, self.rows = train, test, _some(test.height, SCORED)
        self.test = test[self.rows]

    def sections(self, notes: Sequence[str]) -> list[Section]:
        return [
            Section("Data", lambda: schema_section(self._seen(), notes)),
            Section("Likelihood", self._likelihood),
            Section("Training", lambda: curve_section(self.history)),
            Section("Columns", lambda: columns_section(self._pairs, self._shown)),
            Section("Pairs", lambda: pairs_section(self._pairs)),
            Section("Calibration", self._calibration),
            Section("Unusual rows", self._unusual),
            Section("Use", self._use),
        ]

    @property
    def tiles(self) -> Html:
        numbers = self.numbers
        facts = [("rows", f"{self.train.height + self.all.height:,}", f"{self.all.height:,} of them held out")]
        if "test_nll" in numbers:
            nll = with_error(numbers["test_nll"], numbers.get("test_nll_standard_error") or np.nan)
            facts.insert(0, ("test NLL, nats a row", nll, self.model.likelihood))
        if "training_seconds" in numbers:
            facts.append(("training", f"{numbers['training_seconds']:.0f} s", f"{numbers['steps']:,} steps"))
        facts.append(("parameters", f"{sum(part.numel() for part in self.model.flow.parameters()):,}", ""))
        return tiles(facts)

    @property
    def said(self) -> str:
        few = self.test.height < self.all.height
        return f"{self.test.height:,} of {self.all.height:,}" if few else f"all {self.all.height:,}"

    @cached_property
    def log_prob(self) -> np.ndarray:
        return self.model.log_prob(self.test)

    @cached_property
    def _pairs(self) -> list[Pair]:
        """Columns of held-out rows, and of training rows where those are few, beside samples."""
        import polars as pl

        frame = pl.concat([self.all, self.train], how="vertical_relaxed")[:SHOWN]
        schema = self.model.schema
        samples = read(self.model.sample(len(frame))).frame
        both = to_numbers(frame, schema).T, to_numbers(samples, schema).T
        return [Pair(*each) for each in zip(schema.columns, *both, strict=True)]

    @property
    def _shown(self) -> str:
        shown = len(self._pairs[0].data)
        seen = ", those of the training among them," if shown > self.all.height else ""
        return f"Shown are {shown:,} rows{seen} and as many samples."

    def _seen(self) -> Schema:
        """The schema with the range of the training rows where a column has no ends of its own."""
        columns = self.model.schema.columns
        numbers = to_numbers(self.train, self.model.schema)
        ends = zip(np.nanmin(numbers, 0).tolist(), np.nanmax(numbers, 0).tolist(), strict=True)
        shown = [
            column if column.low is not None or column.levels else replace(column, low=low, high=high)
            for column, (low, high) in zip(columns, ends, strict=True)
        ]
        return Schema(tuple(shown), self.model.schema.left_out)

    def _likelihood(self) -> Html:
        schema = self.model.schema
        known = to_numbers(self.train[_some(self.train.height, FITTED)], schema)
        judged = np.arange(len(known)) % 5 == 0
        simple = independent_log_prob(schema, known[~judged], known[judged], to_numbers(self.test, schema))
        scores = [
            Score("this model", self.log_prob, self.model.likelihood, own=True),
            Score("independent columns", simple, remark="kernel densities, shares of levels"),
        ]
        measure = "Numbers count with the length of their axis, levels and whole numbers as such."
        return scores_section(scores, f"Compared on {self.said} test rows. {measure}")

    def _calibration(self) -> Html:
        rows = self.test[_some(self.test.height, JUDGED)]
        found = {
            column.name: self.model.predict(rows, column.name, draws=DRAWS).pit for column in self.model.schema.columns
        }
        how = f"From {rows.height} test rows and {DRAWS} draws of each cell; ties of levels are broken at random."
        return calibration_section({name: u for name, u in found.items() if u is not None}, how)

    def _unusual(self) -> Html:
        order = np.argsort(self.log_prob, kind="stable")[:MOST]
        usual = self._surprise(self.test[_some(self.test.height, JUDGED)])
        rows = self.test[order]
        with np.errstate(all="ignore"):
            surprise = self._surprise(rows) - np.nanmean(usual, 0)
        values = to_numbers(rows, self.model.schema)
        unusual = Unusual(self.rows[order].tolist(), values, self.log_prob[order], self.model.p_values(rows), surprise)
        words = f"Chosen from {self.said} test rows, which are counted from 0 among themselves."
        return unusual_section(unusual, self.model.schema.columns, words)

    def _surprise(self, rows: pl.DataFrame) -> np.ndarray:
        found = self.model.contributions(rows)
        return np.stack([found[name] for name in self.model.schema.names], 1)

    def _use(self) -> Html:
        return use_section(table_code(self.folder), table_commands(self.folder))


def _some(n: int, most: int) -> np.ndarray:
    """Numbers of at most so many rows, in their order."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(0).choice(n, most, replace=False))
