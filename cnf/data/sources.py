"""Training, validation and test rows of a built-in data set or of a file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cnf.data.benchmarks import MAF_SETS, load_maf
from cnf.data.image_sets import IMAGES, LABEL, Flipped, is_image_set, load_images, one_hot
from cnf.data.keys import row_keys
from cnf.data.reading import is_table
from cnf.data.rows import Rows
from cnf.data.splits import split
from cnf.data.table import Table, check_columns, select
from cnf.data.tabular import OpenTable, open_table
from cnf.data.toys import TOYS, Toy
from cnf.errors import DataError

FEWEST = 10  # rows of a table, which is cut 80/10/10
SHOWN = 8  # names of columns in a message
TOY_ROWS = (100_000, 2_000, 10_000)  # training, validation, test


@dataclass(frozen=True, eq=False)
class Source:
    """A data set in three parts.

    Attributes:
        name: The built-in name, or the path.
        train: Training rows.
        validation: Validation rows.
        test: Test rows.
        event_shape: Shape of one sample.
        columns: Names of the columns of x; empty for images.
        context: Names of the columns of the context.
        toy: The exact density, for toys.
        levels: Number of values that a pixel can take, for images, which are whole numbers.
        note: How a table was read: what was taken for its header, and what else is not obvious.

    Example:
        >>> source = open_source("checkerboard", seed=1)
        >>> source.event_shape, source.columns, source.toy.name
        ((2,), ('x', 'y'), 'checkerboard')
    """

    name: str
    train: Rows
    validation: Rows
    test: Rows
    event_shape: tuple[int, ...]
    columns: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    toy: Toy | None = None
    levels: int | None = None
    note: str = ""

    @property
    def context_dim(self) -> int:
        """Length of the context; a label is as many numbers as there are classes."""
        context = self.train.read([0])[1]
        return 0 if context is None else context.shape[1]


def open_source(
    name: str,
    *,
    context: Sequence[str] = (),
    root: str | Path | None = None,
    seed: int = 0,
    header: bool | None = None,
    sheet: str | None = None,
    bits: int | None = None,
    flips: bool = False,
) -> Source:
    """Open a built-in data set, images or a table, and split it into training, validation and test rows.

    Args:
        name: A toy ("moons"), images ("digits", "mnist", "fashion", "cifar10", a folder of PNG or JPEG pictures, a
            `.npy` file of bytes `(N, C, H, W)`), a benchmark set ("power"), or the path of a table of
            numbers, see `load_table`.
        context: Columns of a table to condition on; `("label",)` for the classes of images.
        root: Folder of downloaded sets; the environment variable `CNF_DATA` by default.
        seed: Random seed of the split of a table and of the samples of a toy.
        header: Whether the first row of a table holds the names of the columns; None to detect it from the cells.
        sheet: Which sheet of an Excel file, where it has several.
        bits: Bits of each byte of images that are kept; None for all.
        flips: Whether training images are mirrored, left and right, at random.

    Raises:
        DataError: An unknown name, or data that cannot be used.

    Example:
        >>> source = open_source("moons")
        >>> len(source.train), len(source.validation), len(source.test)
        (100000, 2000, 10000)
        >>> x, context, numbers = source.train.read([0, 1])
        >>> x.shape, context
        (torch.Size([2, 2]), None)
    """
    if is_image_set(name) and name not in TOYS and name.lower() not in MAF_SETS:  # folders may have these names
        return _images(name, context, root, seed, bits, flips)
    if bits is not None or flips:
        raise DataError(f"{name} are no images: bits and flips are for images")
    is_file = is_table(name) or Path(name).is_file()
    if context and not is_file:
        raise DataError(f"{name} has no named columns: context columns need a table of your own")
    if name in TOYS:
        return _toy(name, seed)
    if name.lower() in MAF_SETS and not is_file:
        return _benchmark(name.lower(), root)
    if not is_file:
        known = ", ".join([*TOYS, *IMAGES, *MAF_SETS])
        raise DataError(f"{name!r} is neither a file nor a built-in data set; the built-in ones are {known}")
    return table_source(name, open_table(name, header=header, sheet=sheet), context=context, seed=seed)


def _toy(name: str, seed: int) -> Source:
    toy = TOYS[name]
    generator = torch.Generator().manual_seed(seed)
    train, validation, test = (Rows(toy.sample(n, generator=generator)) for n in TOY_ROWS)
    train.checked = True  # the curves among the toys have no density, and need no warning
    return Source(name, train, validation, test, (2,), ("x", "y"), toy=toy)


def table_source(
    path: str, opened: OpenTable, *, context: Sequence[str] = (), seed: int = 0, drop: Collection[str] = ()
) -> Source:
    """A table of numbers without some columns, split into training, validation and test rows; see `open_source`."""
    table = opened.table([name for name in opened.columns if name not in drop])
    if len(table.values) < FEWEST:
        raise DataError(
            f"{path}: expected at least {FEWEST} rows, got {len(table.values)}: one in ten is kept for validation and "
            "one for the test; add rows"
        )
    x, condition = select(table, context)
    columns = tuple(column for column in table.columns if column not in context)
    check_columns(Table(x, columns, path))
    parts = split(len(x), seed=seed, copies=row_keys(table.values))
    data = x if condition is None else (x, condition)
    train, validation, test = (
        Rows(data, choice=rows, columns=columns, context_columns=context)
        for rows in (parts.train, parts.validation, parts.test)
    )
    note = "\n".join(reading_notes(path, opened))
    return Source(path, train, validation, test, (len(columns),), columns, tuple(context), note=note)


def reading_notes(path: str, opened: OpenTable) -> list[str]:
    """Sentences that say what was taken for the header of a table, and how it was read where that is not obvious."""
    if opened.reading is None:
        return []
    names = ", ".join(opened.columns[:SHOWN]) + (", …" if len(opened.columns) > SHOWN else "")
    head = f"line {opened.header} is taken as the header, the {len(opened.columns)} columns are {names}"
    if opened.header is None:
        head = f"no header is seen, the first row is taken as data; the {len(opened.columns)} columns are {names}"
    of_text = opened.reading.lines is not None
    return [f"{path}: {text}" for text in [head] * of_text + list(opened.reading.notes)]


def _benchmark(name: str, root: str | Path | None) -> Source:
    parts = load_maf(name, root)
    train, validation, test = (Rows(rows) for rows in (parts.train, parts.validation, parts.test))
    dim = parts.train.shape[1]
    return Source(name, train, validation, test, (dim,), tuple(f"x{i}" for i in range(dim)))


def _images(
    name: str, context: Sequence[str], root: str | Path | None, seed: int, bits: int | None, flips: bool
) -> Source:
    """Images as whole numbers, with their labels as context if that is asked for."""
    images, labels, levels = load_images(name, root, bits=bits)
    if context and (tuple(context) != (LABEL,) or labels is None):
        has = f"{LABEL} is the only context of images" if labels is not None else "these images have no labels"
        raise DataError(f"{name} has no context {', '.join(context)}: {has}")
    if len(images) < FEWEST:
        raise DataError(f"{name}: expected at least {FEWEST} images, got {len(images)}: add more")
    given = images if labels is None or not context else (images, one_hot(labels))
    parts = split(len(images), seed=seed)
    train: Rows = Rows(given, choice=parts.train)
    if flips:
        train = Flipped(*(given if isinstance(given, tuple) else (given,)), choice=parts.train, seed=seed)
    validation, test = (Rows(given, choice=rows) for rows in (parts.validation, parts.test))
    return Source(
        name, train, validation, test, tuple(images.shape[1:]), context=tuple(context), levels=levels
    )  # fmt: skip
