"""Fit densities to data with continuous normalizing flows.

`cnf fit` trains a model and writes a folder. `cnf score`, `cnf sample`, `cnf impute`, `cnf predict` and `cnf plot` read
that folder. `cnf list` lists the models and the built-in data sets, `cnf --version` prints the version.

The folder holds the model (`model.json`, `model.safetensors`), the origin of its data (`data.json`), hashes of the
training rows (`trained_on.npy`), test results (`metrics.json`), the training curves (`log.csv`), a checkpoint to resume
from, pictures, and a page that shows all of it (`report.html`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO

import tyro

from cnf.cli.fit import Fit
from cnf.cli.impute import Impute
from cnf.cli.listing import List
from cnf.cli.plot import Plot
from cnf.cli.predict import Predict
from cnf.cli.sample import Sample
from cnf.cli.score import Score
from cnf.cli.usage import note
from cnf.errors import CnfError, DataWarning, FailedRowsWarning
from cnf.version import installed_version

COMMANDS: dict[str, Callable[..., Any]] = {
    "fit": Fit,
    "score": Score,
    "sample": Sample,
    "impute": Impute,
    "predict": Predict,
    "plot": Plot,
    "list": List,
}
INTERRUPTED, TERMINATED, BROKEN_PIPE = 130, 143, 141  # 128 and the number of the signal, as shells count


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command `cnf`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--version"]:
        print(f"cnf {installed_version()}")
        return
    try:
        with _termination_noted(), warnings.catch_warnings():
            warnings.showwarning = _show
            tyro.extras.subcommand_cli_from_dict(COMMANDS, args=given, prog="cnf", description=__doc__)()
    except BrokenPipeError:  # of a reader such as `head`, which has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(BROKEN_PIPE) from None
    except KeyboardInterrupt as error:
        _end(TERMINATED if isinstance(error, Terminated) else INTERRUPTED)
    except (ValueError, OSError, CnfError) as error:
        raise SystemExit(f"cnf: {error}") from error


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show warnings about data as one line, as errors are shown; other warnings with their place in the code."""
    if issubclass(category, (DataWarning, FailedRowsWarning)):
        note(f"warning: {message}")
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=file or sys.stderr)


def _end(code: int) -> None:
    """End without a traceback; further Ctrl-C are ignored meanwhile."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    note("terminated" if code == TERMINATED else "interrupted")
    raise SystemExit(code)


@contextmanager
def _termination_noted() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does, so that no lock and no temporary file is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
