"""What `cnf fit` does with a table of any kinds of columns."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnf.cli.claim import METRICS
from cnf.cli.pictures import draw_table
from cnf.cli.table_runs import SCHEMA, seeded
from cnf.cli.usage import use_threads
from cnf.data.keys import row_keys
from cnf.data.reading import Reading
from cnf.data.splits import Split, split
from cnf.errors import DataError
from cnf.files import write_bytes, write_json
from cnf.metrics import mean_and_error
from cnf.tables import Schema, TableFlow, to_numbers
from cnf.tables.schema import check_names

if TYPE_CHECKING:
    import polars as pl

    from cnf.training import FitConfig

ANY = "any_cnf"  # the model that takes any cells as given
FEWEST = 30  # rows, of which one in ten judges training and one in ten is kept for the test


@dataclass(frozen=True, eq=False)
class MixedTable:
    """A table of any kinds of columns, in three parts.

    Attributes:
        path: Its file.
        reading: What was read.
        schema: Of the columns.
        context: Names of the columns that are conditions.
        weights: Of the rows; None if all count alike.
        parts: Numbers of the rows for training and for the test; those that judge training are among the former.
        keys: A number for each row, equal for equal rows.
    """

    path: str
    reading: Reading
    schema: Schema
    context: tuple[str, ...]
    weights: np.ndarray | None
    parts: Split
    keys: np.ndarray

    def rows(self, numbers: np.ndarray) -> pl.DataFrame:
        """Some rows of the table, without the columns that are left out."""
        return self.reading.frame.select(self.schema.names)[numbers]

    @property
    def fitted(self) -> np.ndarray:
        """Numbers of the rows that are not for the test."""
        return np.sort(np.concatenate((self.parts.train, self.parts.validation)))

    def about(self) -> dict[str, Any]:
        """What later commands need to know of the table."""
        style = asdict(self.reading.style)
        rows = {"train and validation": len(self.fitted), "test": len(self.parts.test)}
        return {"columns": list(self.schema.names), "context": list(self.context), "rows": rows} | style


def mixed_table(
    path: str, reading: Reading, schema: Schema, *, context: list[str], weights: str, seed: int
) -> MixedTable:
    """The table with its split, in which copies of a row are on one side.

    Raises:
        DataError: Too few rows, unknown columns, or cells that do not fit the schema.
    """
    frame = reading.frame
    if frame.height < FEWEST:
        raise DataError(
            f"{path}: expected at least {FEWEST} rows, got {frame.height}: one in ten is kept for validation and one "
            "for the test; add rows"
        )
    check_names(context, schema.names, "--context")
    if set(context) >= set(schema.names):
        raise DataError("expected a column to model, got all as context; leave one out of --context")
    try:
        keys = row_keys(to_numbers(frame, schema))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    parts = split(frame.height, seed=seed, copies=keys)
    return MixedTable(path, reading, schema, tuple(context), weights_of(reading, weights), parts, keys)


def weights_of(reading: Reading, name: str) -> np.ndarray | None:
    """The column with the weights of rows; None without a name.

    Raises:
        DataError: There is no such column, or it has empty cells, text or negative numbers.
    """
    if not name:
        return None
    check_names([name], reading.frame.columns, "--weights")
    if name in reading.mixed:
        raise reading.mixed[name]
    cells = reading.frame[name]
    if not cells.dtype.is_numeric() or cells.null_count():
        came = f"{cells.null_count()} empty cells" if cells.dtype.is_numeric() else repr(cells.drop_nulls()[0])
        raise DataError(f"--weights {name}: expected a number in each row, got {came}")
    values: np.ndarray = cells.to_numpy().astype(np.float64)
    return values


def train_table(
    table: MixedTable, config: FitConfig, *, model: str, options: Mapping[str, Any], out: Path, resume: bool,
    threads: int | None,
) -> TableFlow:  # fmt: skip
    """Train a flow on the rows that are not for the test."""
    flow = TableFlow(model, seed=config.seed)
    weights = None if table.weights is None else table.weights[table.fitted]
    frame = table.rows(table.fitted)
    flow.fit(frame, schema=table.schema, weights=weights, options=options, config=config, folder=out, resume=resume)
    use_threads(flow.flow, threads)
    assert flow.result is not None
    if flow.result.stopped == "interrupted":
        print(f"Interrupted at step {flow.result.steps}; continue with the same command and --resume")
        raise SystemExit(128 + (flow.result.signal or signal.SIGINT))  # as shells count
    return flow


def report_table(flow: TableFlow, table: MixedTable, out: Path) -> None:
    """Write the flow, its schema, the test results, the picture of training and the report page."""
    log_prob = seeded(flow, flow.seed, 0).log_prob(table.rows(table.parts.test), given=table.context)
    if table.context:
        flow.validation = log_prob  # p-values compare densities given the same columns
    flow.save(out)
    write_bytes(out / SCHEMA, table.schema.to_json().encode())
    numbers = measure_table(flow, log_prob)
    write_json(out / METRICS, numbers | {"rows": table.about()["rows"]})
    print(summary_of_table(numbers, out), flush=True)
    train, test = table.rows(table.fitted), table.rows(table.parts.test)
    draw_table(flow, train, test, out, name=Path(table.path).name, notes=table.reading.notes)


def measure_table(flow: TableFlow, log_prob: np.ndarray) -> dict[str, Any]:
    """The content of `metrics.json`, but for the numbers of rows."""
    import torch

    result, known = flow.result, np.isfinite(log_prob)
    assert result is not None
    nll = mean_and_error(-torch.from_numpy(log_prob[known]))
    numbers = {
        "test_nll": nll.mean,
        "test_nll_standard_error": nll.standard_error,
        "unit": "nats a row, in the units of the numbers and of probabilities for levels and whole numbers",
        "likelihood": flow.likelihood,
        "training_seconds": result.seconds,
        "steps": result.steps,
        "stopped": result.stopped,
        "best_step": result.best_step,
        "parameters": sum(parameter.numel() for parameter in flow.flow.parameters()),
    }
    if not known.all():
        numbers["test_rows_of_probability_0"] = int((~known).sum())
    return numbers


def summary_of_table(numbers: Mapping[str, Any], out: Path) -> str:
    """The numbers as `cnf fit` prints them."""
    lines = [
        f"test NLL {numbers['test_nll']:.4f} ± {numbers['test_nll_standard_error']:.4f} nats "
        f"(from {numbers['likelihood']} of the log-density)"
        if numbers["likelihood"] != "exact"
        else f"test NLL {numbers['test_nll']:.4f} ± {numbers['test_nll_standard_error']:.4f} nats (exact)"
    ]
    if zeros := numbers.get("test_rows_of_probability_0"):
        lines.append(f"{zeros} test rows have values that no training row has, and probability 0; they are left out")
    early = ", ended early by --patience: validation did not improve" if numbers["stopped"] == "patience" else ""
    lines.append(f"{numbers['training_seconds']:.0f} s of training{early}; everything is in {out}/")
    return "\n".join(lines)
