"""What a folder of `cnf fit` knows about its data: their origin, and which rows were trained on."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnf.checkpoints import load
from cnf.cli.claim import CHECKPOINT
from cnf.cli.usage import UsageError, note, use_threads
from cnf.data.image_sets import LABEL, is_image_set, one_hot
from cnf.data.reading import is_table
from cnf.data.rows import Rows, as_rows
from cnf.data.sketch import Seen, seen_rows, sketch_of
from cnf.data.sources import Source, open_source, reading_notes
from cnf.data.table import take
from cnf.data.tabular import OpenTable, open_table
from cnf.errors import CheckpointError, DataError
from cnf.files import read_json, write_bytes, write_json
from cnf.flows import Flow

DATA, TRAINED_ON = "data.json", "trained_on.npy"
KEYS = ("data", "columns", "context", "seed", "data_root")


def describe(folder: Path, trained: Iterable[np.ndarray], about: dict[str, Any], *, resume: bool) -> None:
    """Write the description of a run's data and model; a run that is resumed must have the same description.

    Args:
        folder: Of the run.
        trained: Keys of the training rows, some at a time.
        about: The description.
        resume: Whether the run is resumed.

    Raises:
        UsageError: The run in the folder has another description.
    """
    if resume:
        before = read_json(folder / DATA)
        differing = [
            f"{key} {before.get(key)!r} → {value!r}" for key, value in about.items() if before.get(key) != value
        ]
        if differing:
            raise UsageError(f"{folder} holds another run ({'; '.join(differing)}): resume it with its own arguments")
        return
    write_json(folder / DATA, about)
    file = io.BytesIO()
    np.save(file, sketch_of(trained))
    write_bytes(folder / TRAINED_ON, file.getvalue())


def open_run(folder: Path) -> tuple[Flow, dict[str, Any]]:
    """The flow of a folder and the description of its data.

    Raises:
        CheckpointError: There is no trained model, or a file is damaged.
    """
    check_ended(folder)
    flow = load(folder)
    use_threads(flow)
    about = read_json(folder / DATA)
    check_about(folder, about)
    return flow, about


def check_ended(folder: Path) -> None:
    """Raise a `CheckpointError` if a run has left a checkpoint and no model."""
    if not (folder / "model.json").exists() and (folder / CHECKPOINT).exists():
        raise CheckpointError(
            f"{folder} holds a run that has not ended: end it by its own cnf fit command with "
            "--resume, or train another one"
        )


def check_about(folder: Path, about: dict[str, Any]) -> None:
    """Raise a `CheckpointError` if this is not the description of a run's data."""
    missing = [key for key in KEYS if key not in about]
    if missing:
        raise CheckpointError(f"{folder / DATA} was not written by cnf fit: it has no {', '.join(missing)}")
    if not all(isinstance(about[key], list) for key in ("columns", "context")):
        raise CheckpointError(f"{folder / DATA} is damaged: columns and context must be lists of names")


def source_of(about: dict[str, Any], name: str | None = None) -> Source:
    """The data that a run was trained on, or other data with the same split."""
    return open_source(
        name or about["data"], context=about["context"], root=about["data_root"], seed=about["seed"],
        header=about.get("header"), sheet=about.get("sheet"), bits=about.get("bits"),
    )  # fmt: skip


def condition(flow: Flow, about: dict[str, Any], values: Tensor | None) -> Tensor | None:
    """The context of a model from the values of its context columns; a label becomes one number for each class.

    Raises:
        UsageError: No class of the model.
    """
    if values is None or about["columns"] or about["context"] != [LABEL]:
        return values
    classes, label = flow.transform.context_dim or 0, int(values)
    if label != values or not 0 <= label < classes:
        raise UsageError(f"--given {LABEL}=… takes a class from 0 to {classes - 1}, got {values.item():g}")
    return one_hot(torch.tensor([label, classes - 1]))[0]


def seen_in(folder: Path, keys: Iterable[np.ndarray]) -> Seen | None:
    """How many rows the model was trained on; None if the folder does not tell.

    Raises:
        CheckpointError: The file with the hashes of the training rows is damaged.
    """
    path = folder / TRAINED_ON
    if not path.exists():
        return None
    try:
        sketch = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy reads the head of the file as Python, which can fail in any way
        raise CheckpointError(
            f"{path} is damaged: {error}; remove it to score without a comparison with the training rows"
        ) from error
    if sketch.dtype != np.uint64 or sketch.ndim != 1 or not len(sketch):
        raise CheckpointError(
            f"{path} is damaged: expected hashes of 64 bits; remove it to score without a comparison with the "
            "training rows"
        )
    return seen_rows(keys, sketch)


def rows_for(
    flow: Flow, about: dict[str, Any], name: str, header: bool | None = None, sheet: str | None = None
) -> Rows:
    """Rows of a table or of a built-in set, in the columns of the model."""
    if is_table(name) and not is_image_set(name):
        return as_rows(_of_table(flow, about, name, open_table(name, header=header, sheet=sheet)), flow.base.dtype)
    source = open_source(
        name, context=about["context"], root=about["data_root"], seed=about["seed"], bits=about.get("bits")
    )
    if source.event_shape != tuple(flow.event_shape):
        raise DataError(
            f"{name} has rows of shape {source.event_shape}, the model was trained on {about['data']}, whose rows "
            f"have shape {tuple(flow.event_shape)}: give data of that kind"
        )
    return source.test


def _of_table(flow: Flow, about: dict[str, Any], name: str, opened: OpenTable) -> Any:
    """The columns that the model needs, found by name, or by place if the table has no names."""
    width = flow.event_shape.numel()
    modelled = about["columns"] or [f"x{i}" for i in range(width)]
    wanted, columns = [*modelled, *about["context"]], opened.columns
    for text in reading_notes(name, opened):
        note(text)
    if not opened.named:
        wanted = _by_place(name, wanted, columns, about["context"])
    ignored = [column for column in columns if column not in wanted]
    if ignored and not set(wanted) - set(columns):
        note(f"{name}: the model does not need {', '.join(ignored[:8])}{', …' if len(ignored) > 8 else ''}")
    table = opened.table(wanted)
    x = take(table.values, list(range(len(modelled)))).reshape(-1, *flow.event_shape)
    return (x, take(table.values, list(range(len(modelled), len(wanted))))) if about["context"] else x


def context_of_table(path: str, columns: Sequence[str]) -> Tensor:
    """The context columns of a table, `(N, C)`."""
    return torch.from_numpy(open_table(path).table(columns).values).float()


def _by_place(name: str, wanted: list[str], columns: tuple[str, ...], context: list[str]) -> list[str]:
    """Names `x0, x1, …` for a table without names, if the order of the columns is clear."""
    if len(columns) != len(wanted):
        raise DataError(
            f"{name} has no header and {len(columns)} columns, the model needs {len(wanted)}: {', '.join(wanted)}; "
            "give a table whose first row names the columns"
        )
    if set(wanted) == set(columns):
        return wanted
    if context:
        raise DataError(
            f"{name} has no header, so it does not say which columns are the context {', '.join(context)}; "
            "give a table whose first row names the columns"
        )
    return list(columns)
