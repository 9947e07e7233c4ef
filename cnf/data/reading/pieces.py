"""Tables read some rows at a time: of Parquet only these rows are in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnf.data.reading.files import check_exists, ending_of, read_file, whole
from cnf.data.reading.result import Reading, filled
from cnf.errors import DataError

if TYPE_CHECKING:
    import polars as pl

PIECE = 65_536  # rows read together


@dataclass(frozen=True, eq=False)
class Pieces:
    """A table that is read some rows at a time.

    Attributes:
        reading: What was understood; its frame has the first rows of a Parquet file, and all rows of others.
        rows: Number of rows.
        part: Gives the rows from one number up to another.
    """

    reading: Reading
    rows: int
    part: Callable[[int, int], pl.DataFrame]

    @property
    def starts(self) -> range:
        """Numbers of the first rows of the pieces."""
        return range(0, self.rows, PIECE)

    def share(self, rank: int = 0, of: int = 1) -> Iterator[tuple[int, pl.DataFrame]]:
        """The pieces of one of several processes, each with the number of its first row.

        The pieces of a process follow each other, and those of the next process follow them.
        """
        starts = self.starts
        for start in starts[rank * len(starts) // of : (rank + 1) * len(starts) // of]:
            yield start, self.part(start, min(start + PIECE, self.rows))


def open_pieces(
    path: str | Path, *, header: bool | None = None, sheet: str | None = None, text: Collection[str] = ()
) -> Pieces:
    """A table in a file, piece by piece; see `cnf.tables.read` for the arguments."""
    if ending_of(path) == ".parquet":
        return _of_parquet(Path(path).expanduser())
    reading = read_file(path, header=header, sheet=sheet, text=text)
    frame = reading.frame
    return Pieces(reading, frame.height, lambda start, end: frame[start:end])


def _of_parquet(path: Path) -> Pieces:
    import polars as pl

    check_exists(path)
    with whole(path, "Parquet"):
        scan = pl.scan_parquet(path)
        rows = int(scan.select(pl.len()).collect().item())
        if not rows:
            raise DataError(f"{path}: expected rows, got a table of {len(scan.collect_schema())} columns without any")

    def part(start: int, end: int) -> pl.DataFrame:
        with whole(path, "Parquet"):
            return filled(str(path), scan.slice(start, end - start).collect())

    return Pieces(Reading(part(0, min(rows, PIECE)), path.stem), rows, part)
