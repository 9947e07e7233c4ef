"""Tables of columns of all kinds: sampled rows told from real ones, log-densities, dependences and anomalies.

Seven tables, one call and no option each, beside a Gaussian copula with the empirical marginals. AUC: gradient boosting
(five folds) tells all real rows from as many sampled ones, and the rows that were held out from as many; 0.5 is best.
NLL: of rows held out, beside independent columns and the flow's own start, the Gaussian copula of its marginals.
Broken: share of sampled rows that break a dependence of the data. Planted anomalies are rows held out of which half the
cells are exchanged with those of others. 8 minutes on one core: `CNF_DATA=… python -m experiments.mixed_tables`.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import kstest
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler

import cnf
from cnf.data import DataError
from cnf.tables import Schema, to_frame, to_numbers
from experiments.figures.mixed_tables import PAPER, figure, ours
from experiments.parts.real_tables import broken, copula_sample, parts_of, table_of, told_apart
from experiments.run import run

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Config:
    data: tuple[str, ...] = ("penguins", "titanic", "mpg", "tips", "energy", "bike", "parkinsons")
    seconds: float = 45.0  # of one processor for each table
    jobs: int = 3  # tables at once
    held: float = 0.2
    rows: int = 1_500  # compared, at most
    scored: int = 300
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    with ProcessPoolExecutor(config.jobs, multiprocessing.get_context("spawn")) as pool:
        found = dict(zip(config.data, pool.map(partial(measured, config=config), config.data), strict=True))
    return {"tables": {name: numbers for name, numbers in found.items() if numbers}}


def measured(name: str, config: Config) -> dict[str, float]:
    """All numbers of one table; none where it is missing."""
    torch.set_num_threads(1)
    try:
        frame = table_of(name)
    except DataError as error:
        print(f"left out: {error}")
        return {}
    random = np.random.default_rng(config.seed)
    train, test, schema = parts_of(frame, config.held, config.seed)
    fitted = fit(train, schema, cnf.FitConfig(seconds=config.seconds, seed=config.seed, progress=False))
    start = fit(train, schema, cnf.FitConfig(steps=1, learning_rate=1e-12, progress=False))
    assert fitted.result is not None
    log_prob = fitted.log_prob(test := test[: config.scored])
    likely = test.filter(np.isfinite(log_prob))  # a level that the training rows had not has probability 0
    numbers = {"nll": -log_prob[np.isfinite(log_prob)].mean(), "nll copula": -start.log_prob(likely).mean()}
    numbers["nll independent"] = -sum(start.log_prob(only(likely, name)).mean() for name in schema.names)
    numbers |= {"seconds": fitted.result.seconds, "steps": fitted.result.best_step, "rows": frame.height}
    numbers["conformal p"] = kstest(fitted.p_values(test), "uniform").pvalue
    real, held, known = (to_numbers(some.select(schema.names), schema) for some in (frame, test, train))
    shown = real[random.permutation(len(real))[: config.rows]]
    sampled = {"cnf": to_numbers(fitted.sample(len(shown)), schema), "copula": copula_sample(known, len(shown), random)}
    for way, rows in sampled.items():
        numbers[f"auc {way}"] = np.mean([told_apart(shown, rows, seed) for seed in range(3)])
        fewer = [rows[random.permutation(len(rows))[: len(held)]] for _ in range(3)]
        numbers[f"held auc {way}"] = np.mean([told_apart(held, part, 0) for part in fewer])
        numbers[f"broken {way}"] = broken(real, rows)
    numbers |= anomalies(fitted, known, held, schema, random)
    print(name, {key: round(float(value), 3) for key, value in numbers.items()}, flush=True)
    return {key: float(value) for key, value in numbers.items()}


def fit(train: pl.DataFrame, schema: Schema, config: cnf.FitConfig) -> cnf.TableFlow:
    return cnf.TableFlow(seed=config.seed).fit(train, schema=schema, config=config, clock=time.process_time)


def only(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """The rows with the cells of one column; the others are empty."""
    return rows.with_columns(rows[other].clear(rows.height) for other in rows.columns if other != name)


def anomalies(
    flow: cnf.TableFlow, known: np.ndarray, held: np.ndarray, schema: Schema, random: np.random.Generator
) -> dict[str, float]:
    """How well held rows are told from rows whose cells are, each with probability ½, those of another one."""
    planted = np.where(random.random(held.shape) < 0.5, held[random.permutation(len(held))], held)
    planted = planted[(planted != held).any(1)]
    rows, labels = np.concatenate((held, planted)), np.repeat([0, 1], [len(held), len(planted)])
    scale = StandardScaler().fit(known)
    scores = {"cnf": np.nan_to_num(flow.log_prob(to_frame(rows, schema)), neginf=-1e9)}
    for name, judge in (("forest", IsolationForest(random_state=0)), ("lof", LocalOutlierFactor(novelty=True))):
        scores[name] = judge.fit(scale.transform(known)).score_samples(scale.transform(rows))
    return {f"anomalies {name}": roc_auc_score(labels, -score) for name, score in scores.items()}


SMOKE = {"data": ("tips",), "seconds": 1.0, "scored": 30}

if __name__ == "__main__":
    run("mixed_tables", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
