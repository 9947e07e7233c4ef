"""Files that are damaged, cut or meant to harm end in a DataError that names them, or in numbers that are whole."""

from __future__ import annotations

import gzip
import io
import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnf.data.images import read_idx
from cnf.data.tabular import load_table
from cnf.errors import DataError

SIGNS = [
    b"1", b"2.5", b"-3e2", b",", b";", b"\t", b"\n", b"\r\n", b"\r", b'"', b"'", b"\0", b"1e400", b"nan", b"inf", b"NA",
    b"a", b"\xff", b"\xc3\xa9", b" ", b"#", b"1_0", b".", b'""', b"\xef\xbb\xbf", b"0x10", b"\x1a", b"\x85",
]  # fmt: skip


def csv_file(chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return b"".join(chance.choices(SIGNS, k=chance.randrange(40)))
    rows = [b"a,b", *(f"{chance.random()},{chance.random()}".encode() for _ in range(12))]
    data = bytearray(b"\n".join(rows))
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(data))
        data[place : place + chance.randrange(2)] = chance.choice(SIGNS)
    return bytes(data)


def npy_file(chance: random.Random) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones((6, 2), chance.choice(["f4", "f8", "i4", ">f4", "?"])))
    data = bytearray(file.getvalue())
    for _ in range(chance.randrange(1, 6)):
        place = chance.randrange(min(len(data), 90))
        if chance.random() < 0.3:
            del data[place : place + chance.randrange(1, 20)]
        else:
            data[place] = chance.choice(b"()[]{}'\",-+0123456789Tre<>|fOiVUS \n\x00\xff:.")
    return bytes(data)


def idx_file(chance: random.Random) -> bytes:
    dims = chance.choice([0, 1, 2, 3, 255])
    sizes = [chance.choice([0, 1, 2, 3, 2**32 - 1]) for _ in range(chance.randrange(dims + 1))]
    data = bytes([0, 0, chance.choice([7, 8, 9, 11, 14]), dims]) + struct.pack(f">{len(sizes)}I", *sizes) + bytes(9)
    if chance.random() < 0.5:
        data = gzip.compress(data)[: chance.randrange(45)]
    return data


def numbers_or_message(path: Path, header: bool | None) -> np.ndarray | str:
    try:
        return read_idx(path) if path.suffix == ".idx" else load_table(path, header=header).values
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("make", [csv_file, npy_file, idx_file])
def test_damaged_files_of_all_kinds_are_named(make: Callable[[random.Random], bytes], tmp_path: Path) -> None:
    chance, path = random.Random(0), tmp_path / f"damaged.{make.__name__[:3]}"
    warnings.simplefilter("error")
    for _ in range(400):
        path.write_bytes(make(chance))
        came = numbers_or_message(path, chance.choice([None, True, False]))
        if isinstance(came, str):
            assert path.name in came
            assert len(came) < 1_000
        else:
            assert came.size
            assert path.suffix == ".idx" or np.isfinite(came).all()


def head(shape: str, dtype: str = "'<f4'") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n" + bytes(64)


NPY = {
    "an unclosed shape": head("(3, 2"),
    "a shape of truths": head("(True, 2)"),
    "negative": head("(-3, 2)"),
    "more than an address": head("(10000000000000000000000, 2)"),
    "more than the file": head("(100000000, 2)"),
    "a fraction": head("(3.0, 2)"),
    "objects": head("(3, 2)", "'|O'"),
    "structured": head("(3,)", "[('a', '<f4'), ('b', '<f4')]"),
    "no type": head("(3, 2)", "{}"),
    "void": head("(1, 2)", "'|V0'"),
    "signs": head("-" * 5_000 + "1"),
    "brackets": head("(" * 5_000),
    "three dimensions": head("(2, 2, 2)"),
    "a pickle": b"\x80\x04\x95\x0b\x00\x00",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", NPY)
def test_heads_of_arrays_that_lie_are_named(kind: str, tmp_path: Path) -> None:
    (tmp_path / "lies.npy").write_bytes(NPY[kind])
    with pytest.raises(DataError, match="lies.npy: expected"):
        load_table(tmp_path / "lies.npy")


def test_a_small_file_that_unfolds_is_not_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.idx"
    path.write_bytes(gzip.compress(b"\0\0\x08\1" + struct.pack(">I", 4) + bytes(20_000_000)))
    with pytest.raises(DataError, match=r"bomb.idx: expected 12 bytes for the shape \(4,\), got more"):
        read_idx(path)
