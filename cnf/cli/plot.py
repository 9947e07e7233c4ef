"""`cnf plot`: the pictures of a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from cnf.cli.kinds import as_text
from cnf.cli.mixed import mixed_table
from cnf.cli.options import SolverOptions, optional
from cnf.cli.pictures import REPORT, check_shown, draw, draw_table
from cnf.cli.runs import open_run, source_of
from cnf.cli.table_runs import is_table_run, open_table_run
from cnf.cli.usage import UsageError, check_numbers, chosen_columns
from cnf.data.reading import read_file

Folder = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]


@dataclass
class Plot(SolverOptions):
    """Draw the pictures of a trained model again, and write its report page.

    Args:
        folder: Folder that `cnf fit` wrote.
        out: Folder for the pictures.
        data: File of the data, if it was moved.
        columns: Columns to show in corner.png, separated by commas.
    """

    folder: Positional[Folder]
    out: Annotated[Path | None, optional("FOLDER", "the folder of the model")] = None
    data: Annotated[str | None, optional("DATA", "where it was in training")] = None
    columns: Annotated[str, optional("COLUMNS", "the first 8")] = ""

    def __call__(self) -> None:
        check_numbers(self)
        if is_table_run(self.folder):
            self._wrote(self._of_table())
            return
        flow, about = open_run(self.folder)
        flow = self.solved(flow)
        columns = chosen_columns(self.columns, about["columns"])
        source = source_of(about, self.data)
        check_shown(columns, flow, source)
        self._wrote(paths := draw(flow, source, self.out or self.folder, columns=columns, folder=self.folder))
        if not any(path.name != REPORT for path in paths):
            raise SystemExit(1)

    def _wrote(self, paths: Sequence[Path]) -> None:
        for path in paths:
            print(f"wrote {path}")
        if not paths:
            raise SystemExit(1)

    def _of_table(self) -> list[Path]:
        """The report page of a run of a table, and its training curves."""
        if self.columns:
            raise UsageError("--columns chooses what corner.png shows, which is drawn of real numbers: leave it out")
        flow, about = open_table_run(self.folder)
        path = self.data or about["data"]
        reading = read_file(path, header=about["header"], sheet=about["sheet"] or None, text=as_text(flow.schema))
        table = mixed_table(path, reading, flow.schema, context=about["context"], weights="", seed=about["seed"])
        train, test = table.rows(table.fitted), table.rows(table.parts.test)
        out = self.out or self.folder
        return draw_table(flow, train, test, out, name=Path(path).name, notes=reading.notes, folder=self.folder)
