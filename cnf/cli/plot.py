"""`cnf plot`: the pictures of a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from cnf.cli.options import SolverOptions, optional
from cnf.cli.pictures import REPORT, check_shown, draw
from cnf.cli.runs import open_run, source_of
from cnf.cli.table_runs import is_table_run
from cnf.cli.usage import UsageError, check_numbers, chosen_columns

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
            raise UsageError(f"cnf plot draws flows of numbers, and {self.folder} holds one of a table of other kinds")
        flow, about = open_run(self.folder)
        flow = self.solved(flow)
        columns = chosen_columns(self.columns, about["columns"])
        source = source_of(about, self.data)
        check_shown(columns, flow, source)
        paths = draw(flow, source, self.out or self.folder, columns=columns, folder=self.folder)
        for path in paths:
            print(f"wrote {path}")
        if not any(path.name != REPORT for path in paths):
            raise SystemExit(1)
