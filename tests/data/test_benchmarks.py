"""The benchmark sets of MAF: read and preprocessed as published, here from small files of the same layout."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cnf.data import DataError, benchmarks
from cnf.data.benchmarks import MAF_SETS, MafSplits, load_maf


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def save(folder: Path, array: np.ndarray, name: str = "table.npy") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def cut(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Last tenth: test; last tenth of what is left: validation."""
    n_test = len(x) // 10
    n_validation = (len(x) - n_test) // 10
    return x[: -n_test - n_validation], x[-n_test - n_validation : -n_test], x[-n_test:]


def assert_parts(came: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    for left, right in zip(came, expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-12)


def test_power(tmp_path: Path, rng: np.random.Generator) -> None:
    raw = rng.gamma(2, size=(237, 8)) * [1, 1, 200, 3, 5, 5, 5, 1000]
    save(tmp_path, raw, "power/data.npy")
    random = np.random.RandomState(42)
    rows = raw.copy()
    random.shuffle(rows)
    active, _, voltage, _, kitchen, laundry, heating, time = rows.T
    voltage = voltage + 0.01 * random.rand(237, 1)[:, 0]
    active = active + 0.001 * random.rand(237, 1)[:, 0]
    meters = np.stack([kitchen, laundry, heating], axis=1) + random.rand(237, 3)
    noisy = np.column_stack([active, voltage, meters, time])
    train, validation, test = cut(noisy)
    seen = np.concatenate([train, validation])
    expected = [(part - np.mean(seen, 0)) / np.std(seen, 0) for part in (train, validation, test)]
    assert_parts(MAF_SETS["power"].read(tmp_path, 42), tuple(expected))
    assert not np.allclose(MAF_SETS["power"].read(tmp_path, 43)[0], expected[0])
    np.testing.assert_array_equal(np.load(tmp_path / "power" / "data.npy"), raw)


def test_gas(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.normal(size=(500, 9)) * 7 + 3
    x[:, 4] = x[:, 1] + 0.05 * x[:, 4]  # 1 goes: it is the first of 1, 4
    x[:, 6] = x[:, 2] + 0.15 * x[:, 6]  # 2 goes, then 6: 7 is close to 6, but not to 2
    x[:, 7] = 2 * x[:, 6] + 0.3 * x[:, 7]
    x[:, 8] = -x[:, 0]  # stays: the correlation is -1
    names, correlation = list(range(9)), np.corrcoef(x.T)
    while True:
        crowded = [a for a in names if any(correlation[a, b] > 0.98 for b in names if b != a)]
        if not crowded:
            break
        names.remove(crowded[0])
    assert correlation[6, 7] > 0.98 > correlation[2, 7]
    assert names == [0, 3, 4, 5, 7, 8]
    kept = x[:, names]
    save(tmp_path, x, "gas/ethylene_CO.npy")
    expected = cut((kept - kept.mean(0)) / (kept.std(0) * np.sqrt(500 / 499)))
    assert_parts(MAF_SETS["gas"].read(tmp_path, 0), expected)


@pytest.mark.parametrize("mass", [",1000.0", ""], ids=["a cell more", "a name more"])
def test_hepmass(tmp_path: Path, rng: np.random.Generator, mass: str) -> None:
    parts = {}
    for part, n, name, last in (("train", 300, "", ""), ("test", 120, ",mass", mass)):
        x = rng.normal(size=(n, 6))
        x[:, 0] = rng.random(n) < 0.6
        x[:, 2] = rng.integers(0, 3, n)  # goes
        x[:, 4] = np.maximum(x[:, 4], -0.5)  # goes: its smallest value is repeated
        x[:, 5] = np.minimum(x[:, 5], 0.5)  # stays: its largest value is
        lines = [",".join(f"{cell:.18e}" for cell in row) + last for row in x]
        (tmp_path / "hepmass").mkdir(exist_ok=True)
        (tmp_path / "hepmass" / f"1000_{part}.csv").write_text("\n".join(["# label,f0,f1,f2,f3,f4" + name, *lines]))
        parts[part] = x[x[:, 0] == 1][:, 1:]
    mean, std = parts["train"].mean(0), parts["train"].std(0, ddof=1)
    counts = [Counter(column) for column in parts["train"].T]
    kept = [i for i, count in enumerate(counts) if count[min(count)] <= 5]
    assert kept == [0, 2, 4]
    train, test = (((parts[part] - mean) / std)[:, kept] for part in ("train", "test"))
    last = len(train) // 10
    assert_parts(MAF_SETS["hepmass"].read(tmp_path, 0), (train[:-last], train[-last:], test))


def test_miniboone(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.normal(size=(109, 4)) * [1, 2, 3, 4] + 5
    save(tmp_path, x, "miniboone/data.npy")
    train, validation, test = cut(x)
    seen = np.concatenate([train, validation])
    expected = tuple((part - seen.mean(0)) / seen.std(0) for part in (train, validation, test))
    assert_parts(MAF_SETS["miniboone"].read(tmp_path, 0), expected)


def test_bsds300(tmp_path: Path, rng: np.random.Generator) -> None:
    h5py = pytest.importorskip("h5py")
    parts = {"train": rng.normal(size=(5, 3)), "validation": rng.normal(size=(3, 3)), "test": rng.normal(size=(2, 3))}
    (tmp_path / "BSDS300").mkdir()
    with h5py.File(tmp_path / "BSDS300" / "BSDS300.hdf5", "w") as file:
        for name, part in parts.items():
            file[name] = part
    assert_parts(MAF_SETS["bsds300"].read(tmp_path, 0), tuple(parts.values()))


def test_bsds300_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "BSDS300").mkdir()
    (tmp_path / "BSDS300" / "BSDS300.hdf5").touch()
    with pytest.raises(DataError, match=re.escape('h5py, found none: pip install "cnf[experiments]"')):
        load_maf("bsds300", tmp_path)


def test_published_sizes_pass_and_others_are_named() -> None:
    assert [entry.dim for entry in MAF_SETS.values()] == [6, 8, 21, 43, 63]
    for name, entry in MAF_SETS.items():
        parts = [np.broadcast_to(np.float32(0), (rows, entry.dim)) for rows in entry.rows]
        benchmarks.check_sizes(MafSplits(name, *parts))
        with pytest.raises(DataError, match=rf"{name}: expected .*, {entry.dim}\).* got .*, {entry.dim - 1}\).*zenodo"):
            benchmarks.check_sizes(MafSplits(name, parts[0][:, 1:], parts[1], parts[2]))


def test_load_maf_gives_float32_and_takes_any_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, np.arange(40.0).reshape(20, 2), "miniboone/data.npy")
    with pytest.raises(DataError, match=r"miniboone: expected .*\(29556, 43\).* got \(\(17, 2\), \(1, 2\), \(2, 2\)\)"):
        load_maf("MINIBOONE", tmp_path)
    monkeypatch.setattr(benchmarks, "check_sizes", lambda splits: None)
    splits = load_maf("MINIBOONE", tmp_path)
    assert splits.name == "miniboone"
    assert {part.dtype for part in (splits.train, splits.validation, splits.test)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", MAF_SETS)
def test_missing_benchmark_names_source_and_path(tmp_path: Path, name: str) -> None:
    file = re.escape(str(tmp_path / MAF_SETS[name].files[0]))
    with pytest.raises(DataError, match=rf"{name}: expected the file {file}, .*https://zenodo.org/record/1161203"):
        load_maf(name, tmp_path)


def test_gas_pickle_is_not_opened_but_explained(tmp_path: Path) -> None:
    (tmp_path / "gas").mkdir()
    (tmp_path / "gas" / "ethylene_CO.pickle").touch()
    with pytest.raises(DataError, match=r"pickle can run code.*numpy.save\('ethylene_CO.npy', pandas.read_pickle"):
        load_maf("gas", tmp_path)


def test_unknown_and_damaged_benchmarks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got 'adult'; the known ones are power, gas, hepmass, miniboone, bsds300"):
        load_maf("adult", tmp_path)
    save(tmp_path, np.ones((30, 4)), "power/data.npy")
    with pytest.raises(DataError, match="power: expected the files as published, got others.*zenodo"):
        load_maf("power", tmp_path)
    (tmp_path / "hepmass").mkdir()
    for part in ("train", "test"):
        (tmp_path / "hepmass" / f"1000_{part}.csv").write_text("# label,f0\n1,oops\n")
    with pytest.raises(DataError, match="hepmass: expected the files as published, got others.*oops"):
        load_maf("hepmass", tmp_path)
