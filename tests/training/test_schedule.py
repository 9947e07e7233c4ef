"""How far a run is: a function of its numbers and its settings, by whatever clock."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch

import cnf
from cnf.continuous.twins import cnfs_of
from cnf.data.rows import Rows
from cnf.training.engine import engine
from cnf.training.judge import Judge
from cnf.training.learner import Learner
from cnf.training.record import Progress
from cnf.training.schedule import Schedule, comes_apart

X = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))


def schedule(*shares: float, per_epoch: int = 10, **budget: object) -> Schedule:
    return Schedule(cnf.FitConfig(**budget), [cnf.Phase(share=share) for share in shares or (1.0,)], per_epoch)


def test_the_fraction_is_that_of_the_budget_that_is_used_up_first() -> None:
    plan = schedule(steps=100, epochs=5, seconds=10)
    assert plan.fraction(Progress(step=10, seconds=1)) == pytest.approx(0.2)
    assert plan.fraction(Progress(step=10, seconds=9)) == pytest.approx(0.9)
    assert plan.is_over(Progress(step=50, seconds=1))
    assert not plan.is_over(Progress(step=0, seconds=11))  # a long start leaves one step


def test_phases_end_at_their_shares() -> None:
    plan = schedule(3, 1, steps=100)
    assert [plan.end_of_phase(Progress(phase=phase)) for phase in (0, 1)] == [0.75, 1.0]
    assert [plan.phase_is_over(Progress(step=step)) for step in (74, 75)] == [False, True]


def test_the_learning_rate_rises_and_falls_within_each_phase() -> None:
    plan = schedule(1, 1, steps=1000, warmup=10)
    first = [plan.learning_rate(Progress(step=step)) for step in (0, 9, 250, 500)]
    assert first == pytest.approx([2e-4, 2e-3, 1e-3, 0.0], rel=1e-2, abs=1e-9)
    again = Progress(step=509, phase=1, phase_step=500, phase_begun=0.5)
    assert plan.learning_rate(again) == pytest.approx(2e-3 * 0.5 * (1 + math.cos(math.pi * 0.018)))


def test_checks_are_spread_evenly_with_two_early() -> None:
    plan = schedule(steps=100, checks=4)
    assert [plan.checks_due(Progress(step=step)) for step in (6, 7, 13, 25, 50, 100)] == [0, 1, 2, 3, 4, 6]


def test_the_budget_in_seconds_is_counted_by_the_clock_that_is_given(tmp_path: Path) -> None:
    ticks = itertools.count()

    def clock() -> float:
        return float(next(ticks))  # a second passes whenever somebody looks

    config = cnf.FitConfig(seconds=20, batch_size=32, progress=False)
    result = cnf.fit(cnf.build("realnvp", 2, hidden=(4,)), X, config=config, folder=tmp_path, clock=clock)
    assert result.seconds == 20
    assert 10 <= result.steps < 20
    assert [row["seconds"] for row in result.history] == sorted({row["seconds"] for row in result.history})


def test_checks_of_many_rows_leave_the_budget_to_the_steps() -> None:
    now = itertools.count()

    class Slow(torch.utils.data.Dataset):
        """Every row that is read takes a second."""

        def __len__(self) -> int:
            return len(X)

        def __getitem__(self, row: int) -> torch.Tensor:
            next(now)
            return X[row]

    config = cnf.FitConfig(seconds=1000, batch_size=32, patience=None, checks=100, progress=False)
    flow = cnf.build("realnvp", 2, hidden=(4,))
    result = cnf.fit(flow, X, validation=Slow(), config=config, clock=lambda: float(next(now)))
    assert result.steps > 200  # of 500 at two looks a step; with all checks there would be 12
    assert 3 <= len(result.history) <= 6
    assert result.history[-1]["step"] == result.steps


def test_no_more_than_ten_thousand_rows_are_judged_at_equal_distances() -> None:
    flow, rows = cnf.build("realnvp", 2, hidden=(4,)), Rows(torch.randn(25_001, 2))
    judge = Judge(engine(cnf.FitConfig(progress=False)), flow, [cnf.Phase()], rows, None, 0)
    assert judge(0) == pytest.approx(-flow.log_prob(rows.read(range(0, 25_001, 3))[0]).mean().item(), abs=1e-5)


def test_a_start_without_time_by_that_clock_is_cut_short() -> None:
    times = itertools.chain([0.0, 0.0], itertools.repeat(1e6))
    config = cnf.FitConfig(seconds=10, batch_size=32, progress=False)
    flow = cnf.build("gaussianization", 2, layers=2)
    with pytest.warns(UserWarning, match="the start from the data was ended after 50%"):
        assert cnf.fit(flow, X, config=config, clock=lambda: next(times)).steps == 1


def test_a_result_is_three_lines() -> None:
    settings = {"batch_size": 32, "progress": False}
    judged = cnf.fit(cnf.build("realnvp", 2), X, validation=X, config=cnf.FitConfig(steps=3, **settings))
    first, second, third = str(judged).splitlines()
    assert first.startswith(f"validation NLL {judged.best_validation:.4f} nats at step {judged.best_step}; 3 steps in ")
    assert (second, third) == ("ended: the budget is used up", "checkpoint: none; give fit a folder to keep one")
    fitted = cnf.FitResult(judged.flow, [], 1200, 3.21, None, 0, "patience", Path("run") / "checkpoint.safetensors")
    assert repr(fitted).splitlines() == [
        "1,200 steps in 3.2 s, not judged by validation rows",
        "ended: the validation stopped improving",
        f"checkpoint: {Path('run') / 'checkpoint.safetensors'}",
    ]


@pytest.mark.parametrize(
    ("nll", "evaluations", "apart"),
    [(1.01, 20, False), (1.03, 20, True), (math.nan, 20, True), (math.inf, 20, True), (1.01, 41, True)],
)
def test_a_run_comes_apart_where_the_validation_rises_or_solves_get_long(nll, evaluations, apart) -> None:
    assert comes_apart(nll, evaluations, Progress(best=1.0, best_evaluations=20)) is apart
    assert not comes_apart(nll, evaluations, Progress())  # nothing better to go back to


def test_a_step_back_takes_the_best_weights_and_halves_the_rate(monkeypatch) -> None:
    judgements = iter([2.0, 1.0, 1.5, 0.9, *[0.95] * 20])
    monkeypatch.setattr("cnf.training.judge.Judge.__call__", lambda self, phase: next(judgements))
    flow = cnf.build("realnvp", 2, hidden=(4,))
    config = cnf.FitConfig(steps=60, checks=6, patience=None, learning_rate=0.1, batch_size=32, progress=False)
    history = cnf.fit(flow, X, validation=X, config=config).history
    assert [row["stepped_back"] for row in history[:5]] == [0, 0, 1, 0, 1]
    one, half = (row["learning_rate"] for row in (history[2], history[3]))
    assert half < 0.6 * one


def test_a_step_back_halves_the_tolerance_of_training(monkeypatch) -> None:
    judgements, tighten, used = iter([1.0, *[1.5] * 20]), Learner.tighten, []

    def spied(learner: Learner, phase: int, factor: float) -> None:
        tighten(learner, phase, factor)
        used.extend(part.solver.rtol for part in cnfs_of(learner.minimised.flows[phase]))

    monkeypatch.setattr("cnf.training.judge.Judge.__call__", lambda self, phase: next(judgements))
    monkeypatch.setattr(Learner, "tighten", spied)
    flow = cnf.build("cnf", 2, hidden=(4,))
    config = cnf.FitConfig(steps=6, checks=6, patience=None, batch_size=8, progress=False)
    history = cnf.fit(flow, X, validation=X, config=config).history
    assert used[:4] == [0.025, 0.0125, 0.01, 0.01]
    assert len(used) == sum(row["stepped_back"] for row in history)
    assert [part.solver.rtol for part in cnfs_of(flow)] == [1e-5]


def test_a_likelihood_that_stands_still_is_refined_six_times_before_patience_ends_it(monkeypatch) -> None:
    monkeypatch.setattr("cnf.training.judge.Judge.__call__", lambda self, phase: 1.0)
    flow = cnf.build("realnvp", 2, hidden=(4,))
    config = cnf.FitConfig(steps=400, checks=40, patience=2, learning_rate=0.1, batch_size=32, progress=False)
    result = cnf.fit(flow, X, validation=X, config=config)
    back = [row["stepped_back"] for row in result.history]
    assert result.stopped == "patience"
    assert sum(back) == 6
    assert back == [0, *[0, 1] * 6, 0, 0]
