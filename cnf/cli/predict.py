"""`cnf predict`: one column of a table given the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import tyro
from tqdm import tqdm
from tyro.conf import Positional

from cnf.arguments import Count, Seed
from cnf.cli.frames import check_writable, write_frames
from cnf.cli.options import ReadingOptions, optional
from cnf.cli.table_runs import blocks, known_part, named, need_table_run, open_for, open_table_run, seeded
from cnf.cli.usage import UsageError, check_numbers
from cnf.errors import DataError
from cnf.metrics import interval_coverage, mean_and_error
from cnf.tables import Column, Schema, TableFlow, to_frame

if TYPE_CHECKING:
    import polars as pl

    from cnf.tables.prediction import Prediction

Folder = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the quantiles
ROWS = 512  # predicted together
CENTRAL = 0.9  # probability of the interval whose coverage is counted


@dataclass
class Predict(ReadingOptions):
    """Predict one column of a table given the other cells of each row, and compare with its values where it has some.

    Args:
        folder: Folder that `cnf fit` wrote.
        data: A table with columns of the training data.
        column: The column to predict.
        out: A file for the prediction of each row: mean and quantiles of numbers, probabilities of levels, and where
            the table has a value, its probability integral transform (PIT) and its CRPS.
        draws: Samples of each row.
        seed: Random seed.
        progress: Show a progress bar.
    """

    folder: Positional[Folder]
    data: Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]]
    column: Annotated[str, tyro.conf.arg(metavar="COLUMN")]
    out: Annotated[Path | None, optional("FILE")] = None
    draws: Count = 200
    seed: Seed = 0
    progress: bool = True

    def __call__(self) -> None:
        check_numbers(self)
        check_writable(self.out)
        need_table_run(self.folder, "predict")
        flow, _ = open_table_run(self.folder)
        if self.column not in flow.schema.names:
            raise UsageError(
                f"--column {self.column}: there is no such column in the model; it has {', '.join(flow.schema.names)}"
            )
        pieces = open_for(flow, self.data, header=self.header_given(), sheet=self.sheet)
        found = Found(flow.schema[self.column])
        frames = self._frames(flow, blocks(pieces, rows=ROWS), found, pieces.rows)
        if self.out is None:
            for _ in frames:
                continue
        else:
            write_frames(self.out, frames, pieces.reading.style)
        print(found.summary())
        if self.out is not None:
            print(f"wrote {self.out}")

    def _frames(
        self, flow: TableFlow, parts: Iterator[tuple[int, pl.DataFrame]], found: Found, rows: int
    ) -> Iterator[pl.DataFrame]:
        with tqdm(total=rows, desc="rows", unit="row", unit_scale=True, disable=not self.progress) as bar:
            for first, frame in parts:
                part = known_part(frame, flow.schema)
                try:
                    prediction = seeded(flow, self.seed, first).predict(part, self.column, draws=self.draws)
                except DataError as error:
                    raise named(self.data, first, error) from error
                yield found.add(prediction, part[self.column] if self.column in part.columns else None)
                bar.update(frame.height)


@dataclass
class Found:
    """The predictions of all rows so far, as far as the summary needs them.

    Args:
        column: What is predicted.
    """

    column: Column
    pit: list[np.ndarray] = field(default_factory=list)
    crps: list[np.ndarray] = field(default_factory=list)
    right: list[np.ndarray] = field(default_factory=list)
    squares: list[np.ndarray] = field(default_factory=list)
    rows: int = 0

    def add(self, prediction: Prediction, cells: pl.Series | None) -> pl.DataFrame:
        """The rows of the file for a prediction."""
        import polars as pl

        columns: dict[str, Any] = {}
        known = cells is not None and cells.null_count() < len(cells)
        if known and cells is not None:
            columns[self.column.name] = cells
        self.rows += prediction.samples.shape[1]
        if self.column.levels:
            columns |= self._levels(prediction, cells if known else None)
        else:
            columns |= self._numbers(prediction, cells if known else None)
        return pl.DataFrame(columns)

    def _levels(self, prediction: Prediction, cells: pl.Series | None) -> dict[str, Any]:
        assert prediction.probabilities is not None
        levels = [str(level) for level in self.column.levels]
        best = [levels[place] for place in prediction.probabilities.argmax(1)]
        if cells is not None:
            pairs = zip(best, cells.to_list(), strict=True)
            self.right.append(np.array([guess == str(cell) for guess, cell in pairs if cell is not None]))
        shares = {f"p({level})": prediction.probabilities[:, place] for place, level in enumerate(levels)}
        return {"prediction": best} | shares

    def _numbers(self, prediction: Prediction, cells: pl.Series | None) -> dict[str, Any]:
        assert prediction.mean is not None
        quantiles = prediction.quantiles(SHARES)
        columns: dict[str, Any] = {"mean": self._cells(prediction.mean)}
        columns |= {
            f"q{share:.2f}"[0:1] + f"{share:.2f}"[2:]: self._cells(quantiles[:, i]) for i, share in enumerate(SHARES)
        }
        columns |= {name: np.full(len(prediction.mean), np.nan) for name in ("pit", "crps")}
        if prediction.pit is not None and prediction.crps is not None and cells is not None:
            columns |= {"pit": prediction.pit, "crps": prediction.crps}
            there = np.isfinite(prediction.pit)
            self.pit.append(prediction.pit[there])
            self.crps.append(prediction.crps[there])
            if self.column.kind != "date":
                truth = cells.cast(float).to_numpy()[there]
                self.squares.append((prediction.mean[there] - truth) ** 2)
        return columns

    def _cells(self, numbers: np.ndarray) -> Any:
        """Days as dates, other numbers as they are."""
        if self.column.kind != "date":
            return numbers
        schema = Schema((self.column,))
        return to_frame(numbers[:, None], schema)[self.column.name]

    def summary(self) -> str:
        """How good the predictions are, where they can be compared."""
        name = self.column.name
        if not self.right and not self.pit:
            return f"{self.rows} rows predicted; the table has no values of {name} to compare with"
        if self.right:
            right = np.concatenate(self.right).astype(float)
            share = mean_and_error(torch.from_numpy(right))
            return f"{name}: accuracy {share.mean:.4f} ± {share.standard_error:.4f} over {len(right)} rows with a value"
        pit, crps = torch.from_numpy(np.concatenate(self.pit)), torch.from_numpy(np.concatenate(self.crps))
        covered, score = interval_coverage(pit, CENTRAL), mean_and_error(crps)
        squares = np.concatenate(self.squares) if self.squares else np.empty(0)
        error = f"RMSE of the mean {np.sqrt(squares.mean()):.6g}, " if len(squares) else ""
        return (
            f"{name}: {error}CRPS {score.mean:.6g} ± {score.standard_error:.2g}, the {CENTRAL:.0%} interval covers "
            f"{covered.mean:.3f} ± {covered.standard_error:.3f} (PIT mean {pit.mean():.3f}, which should be 0.5) over "
            f"{len(pit)} rows with a value"
        )
