"""The command line: `cnf fit`, `score`, `sample`, `plot` and `list`.

A folder that `cnf fit` leaves holds the model (`model.json`, `model.safetensors`), where its data came from
(`data.json`), its numbers (`metrics.json`), the curves of training (`log.csv`), a checkpoint to resume from, and
pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from cnf.cli.apply import Plot, Sample, Score
from cnf.cli.fit import Fit
from cnf.cli.listing import List
from cnf.errors import CnfError


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command `cnf`."""
    names = {"fit": Fit, "score": Score, "sample": Sample, "plot": Plot, "list": List}
    command = tyro.extras.subcommand_cli_from_dict(dict(names.items()), args=arguments, prog="cnf", description=__doc__)
    try:
        command()
    except (ValueError, OSError, CnfError) as error:
        raise SystemExit(f"cnf: {error}") from error
