"""Tables written to files piece by piece."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from cnf.cli.usage import UsageError


def check_suffix(path: Path | None) -> None:
    """Refuse a path that cannot be written, before the work begins.

    Raises:
        UsageError: Another suffix than .csv and .npy, or a folder.
    """
    if path is not None and path.suffix.lower() not in (".csv", ".npy"):
        raise UsageError(f"cannot write {path}: known suffixes are .csv, .npy")
    if path is not None and path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder, give the name of a file")


def table_bytes(path: Path, pieces: Iterable[Tensor], rows: int, columns: Sequence[str]) -> Iterator[bytes]:
    """The content of a table's file, with one piece of it in memory."""
    if path.suffix.lower() == ".npy":
        return _npy(pieces, (rows, len(columns)))
    return (text.encode() for text in csv_text(pieces, columns))


def _npy(pieces: Iterable[Tensor], shape: tuple[int, ...]) -> Iterator[bytes]:
    for number, piece in enumerate(pieces):
        values = piece.numpy()
        if not number:
            header = io.BytesIO()
            descr = np.lib.format.dtype_to_descr(values.dtype)
            np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
            yield header.getvalue()
        yield values.tobytes()


def csv_text(pieces: Iterable[Tensor], columns: Sequence[str]) -> Iterator[str]:
    """Rows of numbers with the fewest digits from which the same numbers are read."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(columns)
    yield text.getvalue()
    for piece in pieces:
        cells = piece.numpy().astype(str)  # numpy writes the shortest text that its type tells apart
        yield "".join(",".join(row) + "\n" for row in cells.tolist())
