"""Seconds of a training step, an evaluation and a sampling beside those of every peer, on the very same work.

One tanh MLP of `[x, t]` with the same weights for all, rows and probes the same, [0, 1], dopri5 at 1e-5, float32, two
threads; repetitions interleaved (A B C A B C …), ratios taken within a round. FFJORD's recipe (Grathwohl et al. 2019,
arXiv 1810.01367) is written from its formulas on torchdiffeq. NLL and gradient norm of all are the same, and printed.
12 minutes on two cores, a third of them compiling. A peer that is not installed is left out; diffrax needs an
interpreter that has it: `CNF_JAX=…/bin/python`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from typing import Any

import torch

import cnf
from experiments.figures.benchmark_speed import CASES, OURS, PAPER, figure, ours, table
from experiments.parts.memory import peak_megabytes
from experiments.parts.peers import PEERS
from experiments.parts.race import TASKS, Diffrax, Floor, Local, Runner, compared, interleaved, warmed
from experiments.parts.work import Problem, Skipped, of_cnf
from experiments.run import run


@dataclass(frozen=True)
class Config:
    cases: tuple[str, ...] = tuple(CASES)[:-1]
    rounds: int = 15
    patience: float = 10.0  # seconds of one task after which three rounds are enough
    tolerance: float = 1e-5
    threads: int = 2
    jax: str = ""  # an interpreter with diffrax; the environment's CNF_JAX by default
    memory: bool = True
    compile: bool = True
    seed: int = 0


def compute(config: Config) -> dict[str, Any]:
    torch.set_num_threads(config.threads)
    panels: dict[str, Any] = {}
    numbers: dict[str, float] = {}
    for case in config.cases:
        panels[case] = measured(config, case)
        print(table(case, panels[case]), flush=True)
        for name, rows in panels[case].items():
            for task, mine in itertools.product(TASKS, OURS):
                if mine in rows.get(task, {}).get("ratios", {}):
                    numbers[f"{case}, {task}: {name} ÷ {mine}"] = rows[task]["ratios"][mine][1]
    return {"cases": panels, **numbers}


def measured(config: Config, name: str) -> dict[str, Any]:
    """Of each competitor: of each task its seconds, its ratio to ours, its numbers; or why it was left out."""
    runners, rows = prepared(config, name)
    for task in TASKS:
        able = warmed(task, runners, rows)
        rounds = interleaved(name, task, able, config.rounds, config.patience)
        for rival in able:
            rows[rival][task] |= compared(rounds, rival, OURS)
    for rival, runner in runners.items():
        if config.memory and isinstance(runner, Local) and runner.competitor.trains:
            rows[rival]["train"]["megabytes"] = peak_megabytes(lambda: runner("train"))  # noqa: B023
        if isinstance(runner, Diffrax):
            runner.close()
    return rows


def prepared(config: Config, name: str) -> tuple[dict[str, Runner], dict[str, Any]]:
    case = CASES[name]
    same, theirs = (
        Problem(case, exact=exact, tolerance=config.tolerance, seed=config.seed)
        for exact in (case.exact, case.peers_exact)
    )
    competitors: dict[str, Any] = {"cnf": lambda: Local(same, of_cnf(same))}
    if config.compile:
        competitors["cnf (compiled)"] = lambda: compiled(same)
    if case.exact != case.peers_exact:
        competitors["cnf (probe)"] = lambda: Local(theirs, of_cnf(theirs))
    competitors |= {peer: lambda p=prepare: Local(theirs, p(theirs)) for peer, prepare in PEERS.items()}
    competitors["diffrax"] = lambda: Diffrax(theirs, config.jax)
    runners: dict[str, Runner] = {}
    rows: dict[str, Any] = {rival: {} for rival in competitors}
    for rival, prepare in competitors.items():
        try:
            runners[rival] = prepare()
        except (Skipped, ImportError) as reason:
            rows[rival]["skipped"] = str(reason)
    runners["matrix products"], rows["matrix products"] = Floor(same, runners["cnf"]), {}
    return runners, rows


def compiled(problem: Problem) -> Local:
    if "compile" not in {entry.name for entry in fields(cnf.RungeKutta)}:
        raise Skipped("RungeKutta has no compile")
    return Local(problem, of_cnf(problem, compile=True))


SMOKE = {"cases": ("smoke",), "rounds": 1, "threads": 1, "compile": False}

if __name__ == "__main__":
    run("benchmark_speed", Config(), compute, figure, SMOKE, paper=PAPER, ours=ours)
