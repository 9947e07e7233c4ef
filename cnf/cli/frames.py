"""Tables of any kinds of columns, written as the files that they come from."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cnf.cli.usage import UsageError
from cnf.data.reading import Style, ending_of
from cnf.files import write_pieces

if TYPE_CHECKING:
    import polars as pl

SEPARATORS = {".csv": "", ".tsv": "\t", ".txt": "", ".data": "", ".dat": ""}  # "" stands for that of the style
BINARY = (".parquet", ".feather", ".arrow", ".xlsx")
ISO = {"Date": "%Y-%m-%d", "Datetime": "%Y-%m-%d %H:%M:%S%.f"}


def check_writable(path: Path | None) -> None:
    """Refuse a path that cannot be written, before the work begins.

    Raises:
        UsageError: An unknown suffix, or a folder.
    """
    if path is None:
        return
    if ending_of(path) not in (*SEPARATORS, *BINARY) or path.suffix.lower() == ".gz":
        raise UsageError(f"cannot write {path}: known suffixes are {', '.join((*SEPARATORS, *BINARY))}")
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder, give the name of a file")


def write_frames(path: Path, frames: Iterable[pl.DataFrame], style: Style) -> None:
    """Write the rows of some frames to a file of the kind that its suffix names, completely or not at all."""
    if ending_of(path) in SEPARATORS:
        style = Style(SEPARATORS[ending_of(path)] or style.separator, style.decimal, style.dates)
        write_pieces(path, (text.encode() for text in text_of(frames, style)))
    else:
        write_pieces(path, _binary(path, frames))


def _binary(path: Path, frames: Iterable[pl.DataFrame]) -> Iterator[bytes]:
    import polars as pl

    frame, file = pl.concat(list(frames)), io.BytesIO()
    if path.suffix.lower() == ".parquet":
        frame.write_parquet(file)
    elif path.suffix.lower() == ".xlsx":
        _write_excel(frame, file)
    else:
        frame.write_ipc(file)
    yield file.getvalue()


def _write_excel(frame: pl.DataFrame, file: io.BytesIO) -> None:
    try:
        frame.write_excel(file)
    except ModuleNotFoundError as error:
        raise UsageError('writing .xlsx needs a package: pip install "cnf[excel]", or write .csv') from error


def text_of(frames: Iterable[pl.DataFrame], style: Style) -> Iterator[str]:
    """Rows as text, with the separator, the decimal sign and the dates of a file."""
    for number, frame in enumerate(frames):
        if not number:
            head = io.StringIO()
            csv.writer(head, delimiter=style.separator, lineterminator="\n").writerow(frame.columns)
            yield head.getvalue()
        yield _styled(frame, style).write_csv(include_header=False, separator=style.separator)


def _styled(frame: pl.DataFrame, style: Style) -> pl.DataFrame:
    import polars as pl

    cells = []
    for name, kind in frame.schema.items():
        if kind.is_float():
            text = pl.col(name).cast(pl.String).replace("NaN", "")
            cells.append(text if style.decimal == "." else text.str.replace(".", style.decimal, literal=True))
        elif kind in (pl.Date, pl.Datetime):
            form = style.dates.get(name, ISO[str(kind).partition("(")[0]])
            cells.append(pl.col(name).dt.strftime(form))
    return frame.with_columns(cells)
