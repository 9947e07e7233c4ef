"""The five benchmark sets of the MAF paper, with the published preprocessing and splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnf.arguments import Seed, checked
from cnf.data.folders import data_root
from cnf.data.npy_files import open_npy
from cnf.errors import DataError

Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class MafSplits:
    """A benchmark set as published: preprocessed float32 arrays `(N, D)`, in standardised units.

    Attributes:
        name: Name of the set.
        train: Rows for training.
        validation: Rows for early stopping.
        test: Rows for the final score.

    Example:
        >>> x = np.zeros((10, 6), np.float32)
        >>> MafSplits("power", train=x[:8], validation=x[8:9], test=x[9:]).train.shape
        (8, 6)
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class MafSet:
    """Description of a benchmark set.

    Args:
        dim: D after preprocessing.
        rows: Published numbers of rows: training, validation, test.
        files: Paths of its files in the data folder.
        read: Reads and preprocesses the files: `(folder, seed)` to three arrays.
        note: Further advice on how to get the files.
    """

    dim: int
    rows: tuple[int, int, int]
    files: tuple[str, ...]
    read: Callable[[Path, int], Parts]
    note: str = ""


@checked
def load_maf(name: str, root: str | Path | None = None, *, seed: Seed = 42) -> MafSplits:
    """Load a benchmark set of density estimation, with the published preprocessing and splits.

    The files are yours to download, from https://zenodo.org/record/1161203.

    Args:
        name: power, gas, hepmass, miniboone or bsds300.
        root: The folder that holds `power/`, `gas/`, …; the environment variable `CNF_DATA` by default.
        seed: Random seed of the shuffle and the noise of POWER; 42 gives the published set. The other sets use no
            randomness.

    Raises:
        DataError: The name is unknown, a file is missing or unreadable, or the sizes differ from the published ones.

    References:
        Papamakarios et al. 2017, arXiv 1705.07057.

    Example:
        >>> splits = load_maf("power", "~/data")  # doctest: +SKIP
        >>> splits.train.shape  # doctest: +SKIP
        (1659917, 6)
    """
    entry = MAF_SETS.get(name.lower())
    if entry is None:
        raise DataError(f"expected a benchmark set, got {name!r}; the known ones are {', '.join(MAF_SETS)}")
    folder = data_root(root)
    for file in entry.files:
        if not (folder / file).is_file():
            raise DataError(f"{name}: expected the file {folder / file}, found none; {_advice(entry)}")
    try:
        parts = entry.read(folder, seed)
    except DataError:
        raise
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise DataError(f"{name}: expected the files as published, got others ({error}); {_advice(entry)}") from error
    splits = MafSplits(name.lower(), *(part.astype(np.float32, copy=False) for part in parts))
    check_sizes(splits)
    return splits


def check_sizes(splits: MafSplits) -> None:
    """Compare the sizes of a benchmark set with the published ones.

    Raises:
        DataError: A part has another number of rows or of columns.
    """
    entry = MAF_SETS[splits.name]
    expected = tuple((rows, entry.dim) for rows in entry.rows)
    came = (splits.train.shape, splits.validation.shape, splits.test.shape)
    if came != expected:
        raise DataError(
            f"{splits.name}: expected train, validation and test of the published shapes {expected}, "
            f"got {came}; {_advice(entry)}"
        )


def _advice(entry: MafSet) -> str:
    return (
        "download data.tar.gz from https://zenodo.org/record/1161203 and unpack it so that the data folder "
        f"holds {' and '.join(entry.files)}" + (f"; {entry.note}" if entry.note else "")
    )


def _cut(x: np.ndarray) -> Parts:
    """Split: the last tenth for the test, the last tenth of the other rows for validation."""
    rest = len(x) - int(0.1 * len(x))
    train = rest - int(0.1 * rest)
    return x[:train], x[train:rest], x[rest:]


def _standardised(x: np.ndarray) -> Parts:
    """Split, and standardise by the moments of the training *and* the validation rows, as published."""
    train, validation, test = _cut(x)
    seen = x[: len(train) + len(validation)]
    mean, std = seen.mean(0), seen.std(0)
    return (train - mean) / std, (validation - mean) / std, (test - mean) / std


def _read_power(root: Path, seed: int) -> Parts:
    """A household's power: without reactive power and intensity, with noise of the meter's resolution.

    The noise of the voltage is drawn before that of the power: the order is part of the published data.
    """
    rng = np.random.RandomState(seed)
    raw = open_npy(root / "power" / "data.npy")
    x = raw[rng.permutation(len(raw))][:, [0, 2, 4, 5, 6, 7]].astype(np.float64)
    x[:, 1] += 0.01 * rng.random_sample(len(x))  # volts
    x[:, 0] += 0.001 * rng.random_sample(len(x))  # kilowatts
    x[:, 2:5] += rng.random_sample((len(x), 3))  # watt-hours of three sub-meters
    return _standardised(x)


def _read_gas(root: Path, seed: int) -> Parts:
    """Gas sensors: from the left, those are dropped that correlate above 0.98 with one of the remaining.

    They are standardised by the moments of all rows, the test's too, as published.
    """
    x = open_npy(root / "gas" / "ethylene_CO.npy").astype(np.float64)
    close = np.atleast_2d(np.corrcoef(x, rowvar=False) > 0.98)
    kept = list(range(x.shape[1]))
    while (crowded := close[np.ix_(kept, kept)].sum(1) > 1).any():
        del kept[int(crowded.argmax())]
    x = x[:, kept]
    return _cut((x - x.mean(0)) / x.std(0, ddof=1))


def _read_hepmass(root: Path, seed: int) -> Parts:
    """Particle collisions: the signal's rows, without features whose smallest value comes more than 5 times.

    That rule is the published code's, which means to count the most frequent value. The test file has one more
    column than the training file, the last, which is not read.
    """
    with open(root / "hepmass" / "1000_train.csv", encoding="utf-8") as file:
        width = len(file.readline().split(","))
    train, test = (_signal(root / "hepmass" / f"1000_{part}.csv", width) for part in ("train", "test"))
    mean, std = train.mean(0), train.std(0, ddof=1)
    train, test = (train - mean) / std, (test - mean) / std
    kept = (train == train.min(0)).sum(0) <= 5
    first = len(train) - int(0.1 * len(train))
    return train[:first, kept], train[first:, kept], test[:, kept]


def _signal(path: Path, width: int) -> np.ndarray:
    x = np.loadtxt(path, delimiter=",", skiprows=1, comments=None, usecols=range(width), ndmin=2)
    return x[x[:, 0] == 1, 1:]


def _read_miniboone(root: Path, seed: int) -> Parts:
    """Neutrino events; the published file has its outliers and repetitive features removed already."""
    return _standardised(open_npy(root / "miniboone" / "data.npy").astype(np.float64))


def _read_bsds300(root: Path, seed: int) -> Parts:
    """8×8 patches of natural images, without mean and last pixel; the file is split and preprocessed."""
    try:
        import h5py
    except ImportError as error:
        raise DataError('expected the package h5py, found none: pip install "cnf[experiments]"') from error
    with h5py.File(root / "BSDS300" / "BSDS300.hdf5", "r") as file:
        return file["train"][...], file["validation"][...], file["test"][...]


_GAS_NOTE = (
    "a pickle can run code, so none is opened here; make the file from the archive's pickle, in its folder: "
    "python -c \"import numpy, pandas; numpy.save('ethylene_CO.npy', "
    "pandas.read_pickle('ethylene_CO.pickle').drop(columns=['Meth', 'Eth', 'Time']).to_numpy())\""
)

_HEPMASS = ("hepmass/1000_train.csv", "hepmass/1000_test.csv")

MAF_SETS: dict[str, MafSet] = {
    "power": MafSet(6, (1_659_917, 184_435, 204_928), ("power/data.npy",), _read_power),
    "gas": MafSet(8, (852_174, 94_685, 105_206), ("gas/ethylene_CO.npy",), _read_gas, _GAS_NOTE),
    "hepmass": MafSet(21, (315_123, 35_013, 174_987), _HEPMASS, _read_hepmass),
    "miniboone": MafSet(43, (29_556, 3_284, 3_648), ("miniboone/data.npy",), _read_miniboone),
    "bsds300": MafSet(63, (1_000_000, 50_000, 250_000), ("BSDS300/BSDS300.hdf5",), _read_bsds300),
}
