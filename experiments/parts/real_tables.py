"""Tables as people have them: files, parts, and what a sampled table is compared by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from cnf.data import DataError, data_root
from cnf.tables import Schema, read, schema_of, to_numbers

if TYPE_CHECKING:
    import polars as pl

FILES = {
    "penguins": "tables/penguins.csv", "titanic": "tables/titanic.csv", "mpg": "tables/mpg.csv",
    "tips": "tables/tips.csv", "energy": "tables/energy.txt", "bike": "tables/bike.npy",
    "parkinsons": "tables/parkinsons.npy", "power_plant": "power_plant.npy", "kin8nm": "kin8nm.npy",
}  # fmt: skip
FEW = 50  # levels of a column that others can follow from
OFTEN = 5  # rows that show a dependence


def table_of(name: str) -> pl.DataFrame:
    """The complete rows, without columns that are empty in more than half of them."""
    path: Path = data_root() / FILES[name]
    if not path.is_file():
        raise DataError(f"{name}: no file {path}")
    frame = read(path).frame
    return frame.drop(each.name for each in frame if each.null_count() > frame.height / 2).drop_nulls()


def parts_of(frame: pl.DataFrame, share: float, seed: int) -> tuple[pl.DataFrame, pl.DataFrame, Schema]:
    """Rows for training and for the test, copies of a row on one side, and the schema of all."""
    schema = schema_of(frame)
    frame = frame.select(schema.names)
    copies = np.unique(to_numbers(frame, schema), axis=0, return_inverse=True)[1].ravel()
    held = np.random.default_rng(seed).random(copies.max() + 1) < share
    return frame.filter(~held[copies]), frame.filter(held[copies]), schema


def told_apart(real: np.ndarray, sampled: np.ndarray, seed: int) -> float:
    """Area under the curve of gradient boosting that tells real rows from sampled ones, of five folds; 0.5 is best."""
    rows, labels = np.concatenate((real, sampled)), np.repeat([0, 1], [len(real), len(sampled)])
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    classifier = HistGradientBoostingClassifier(random_state=seed)
    chance = cross_val_predict(classifier, rows, labels, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(labels, chance))


def copula_sample(train: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
    """Rows of a Gaussian copula with the empirical marginals; ties are broken at random."""
    order = np.lexsort((random.random(train.shape), train), axis=0)
    scores = norm.ppf((order.argsort(0) + 0.5) / len(train))
    drawn = random.multivariate_normal(np.zeros(train.shape[1]), np.corrcoef(scores.T), size=n)
    columns = [np.quantile(cells, norm.cdf(z), method="nearest") for cells, z in zip(train.T, drawn.T, strict=True)]
    return np.stack(columns, 1)


def dependences(real: np.ndarray) -> list[tuple[list[int], int, dict[Any, float]]]:
    """What follows from one or two columns of few levels: their places, that of what follows, and its value by theirs.

    Kept are dependences without an exception in the rows that nobody has to state for each row: every combination that
    counts has been seen in `OFTEN` rows.
    """
    few = [place for place in range(real.shape[1]) if len(np.unique(real[:, place])) <= FEW]
    sources = [[one] for one in few] + [[one, two] for one in few for two in few if one < two]
    found = []
    for source in sources:
        keys, group, counts = np.unique(real[:, source], axis=0, return_inverse=True, return_counts=True)
        group = group.ravel()
        often = counts >= OFTEN
        for column in (place for place in few if place not in source):
            low, high = np.full(len(keys), np.inf), np.full(len(keys), -np.inf)
            np.minimum.at(low, group, real[:, column])
            np.maximum.at(high, group, real[:, column])
            if (low == high).all() and often.sum() > 1 and len(np.unique(low[often])) > 1:
                shown = zip(map(tuple, keys[often]), low[often], strict=True)
                found.append((source, column, dict(shown)))
    return found


def broken(real: np.ndarray, sampled: np.ndarray) -> float:
    """Share of sampled rows that break a dependence of the real ones."""
    wrong = np.zeros(len(sampled), dtype=bool)
    for source, column, table in dependences(real):
        expected = np.array([table.get(tuple(row), np.nan) for row in sampled[:, source]])
        wrong |= ~np.isnan(expected) & (expected != sampled[:, column])
    return float(wrong.mean())
