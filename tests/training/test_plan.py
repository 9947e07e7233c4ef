"""What a run is asked for: the flow's recipe, phases, settings in their place, and runs without data."""

from __future__ import annotations

import copy
import os
import signal
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

import cnf
from cnf.objectives.interface import draws_samples
from cnf.training.plan import phases_of, rows_of

QUICK = {"progress": False, "batch_size": 32, "warmup": 1}


def log_normal(x: Tensor) -> Tensor:
    """Normal around (1, 1) with standard deviation ½, up to a constant."""
    return -2 * (x - 1).square().sum(-1)


def affine() -> cnf.Flow:
    torch.manual_seed(0)
    return cnf.build("realnvp", 2, layers=2, hidden=(8,))


def test_the_recipe_of_the_flow_is_followed_whoever_made_it() -> None:
    recipe = cnf.build("rnode", 2).recipe
    hand_made = cnf.Flow(cnf.build("rnode", 2).transform, cnf.StandardNormal(2), recipe=recipe)
    assert phases_of(hand_made, None, cnf.FitConfig()) == recipe
    assert phases_of(cnf.Flow(hand_made.transform, hand_made.base), None, cnf.FitConfig()) == (cnf.Phase(),)


def test_one_objective_keeps_the_other_settings_of_the_last_phase() -> None:
    objective = cnf.MaximumLikelihood({"kinetic": 0.5})
    (phase,) = phases_of(cnf.build("rnode", 2), objective, cnf.FitConfig())
    (published,) = cnf.build("rnode", 2).recipe
    assert phase.objective is objective
    assert (phase.solver, phase.learning_rate) == (published.solver, published.learning_rate)


def test_one_phase_is_a_sequence_of_one() -> None:
    flow, phase = cnf.build("rnode", 2), cnf.Phase(learning_rate=0.3)
    assert phases_of(flow, phase, cnf.FitConfig()) == phases_of(flow, [phase], cnf.FitConfig()) == (phase,)
    flow.recipe = phase  # type: ignore[assignment]
    assert phases_of(flow, None, cnf.FitConfig()) == (phase,)
    flow.recipe = ("likelihood",)  # type: ignore[assignment]
    with pytest.raises(TypeError, match="flow.recipe must be .* got .'likelihood',."):
        phases_of(flow, None, cnf.FitConfig())


def test_a_setting_of_the_config_replaces_that_of_all_phases_and_says_so() -> None:
    flow = cnf.build("sphere_cnf", 3)
    with pytest.warns(UserWarning, match=r"FitConfig\(learning_rate=0.1\) replaces the settings of all 2 phases"):
        phases = phases_of(flow, None, cnf.FitConfig(learning_rate=0.1))
    assert [phase.learning_rate for phase in phases] == [0.1, 0.1]
    assert [phase.solver for phase in phases] == [phase.solver for phase in flow.recipe]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        phases_of(cnf.build("cnf", 2), None, cnf.FitConfig(learning_rate=0.1))  # of one phase nothing else is meant
        phases_of(flow, [cnf.Phase(learning_rate=0.1)] * 2, cnf.FitConfig(learning_rate=0.1))


def test_objectives_that_draw_their_own_samples_need_no_data() -> None:
    flow = affine()
    config = cnf.FitConfig(steps=400, learning_rate=1e-2, **QUICK)
    result = cnf.fit(flow, None, cnf.ReverseKL(log_normal), config=config)
    x = flow.sample(4000)
    assert result.steps == 400
    assert (x.mean(0) - 1).abs().max() < 0.1
    assert (x.std(0) - 0.5).abs().max() < 0.1


def test_without_data_no_layer_starts_from_them_now_or_later() -> None:
    flow = affine()
    constants = copy.deepcopy(flow.transform.transforms[0].state_dict())
    config = cnf.FitConfig(steps=2, **QUICK)
    cnf.fit(flow, None, cnf.ReverseKL(log_normal), config=config)
    assert flow.initialized
    cnf.fit(flow, 100 + torch.randn(64, 2), config=config)  # would undo what was trained, if it started now
    after = flow.transform.transforms[0].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in constants.items())


def test_a_batch_without_data_has_the_size_asked_for() -> None:
    seen = []

    class Counting(cnf.ReverseKL):
        def __call__(self, flow: cnf.Flow, x: Tensor, context: Tensor | None = None) -> cnf.Loss:
            seen.append(tuple(x.shape))
            return super().__call__(flow, x, context)

    cnf.fit(affine(), None, Counting(log_normal), config=cnf.FitConfig(steps=2, **QUICK))
    assert seen == [(32, 2)] * 2


class Interrupting:
    """Reverse KL, interrupted in its third call."""

    draws_samples = True

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, flow: cnf.Flow, x: Tensor, context: Tensor | None = None) -> cnf.Loss:
        self.calls.append(len(x))
        if len(self.calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return cnf.ReverseKL(log_normal)(flow, x, context)


def test_a_run_without_data_resumes_to_the_same_weights(tmp_path: Path) -> None:
    config, objective = cnf.FitConfig(steps=8, checks=8, **QUICK), Interrupting()
    assert cnf.fit(affine(), None, objective, config=config, folder=tmp_path).steps == 3
    resumed = cnf.fit(affine(), None, objective, config=config, folder=tmp_path, resume=True)
    whole = cnf.fit(affine(), None, objective, config=config)
    assert (resumed.steps, whole.steps, len(objective.calls)) == (8, 8, 16)
    assert all(torch.equal(a, b) for a, b in zip(resumed.flow.parameters(), whole.flow.parameters(), strict=True))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"objective": None}, TypeError, r"MaximumLikelihood\(weights=\{\}\) needs rows: give data \(N, \*event\)"),
        ({"objective": [cnf.Phase(cnf.ReverseKL(log_normal)), cnf.Phase()]}, TypeError, "MaximumLikelihood"),
        ({"flow": cnf.build("realnvp", 2, 1)}, ValueError, "this flow is conditional, so samples need contexts"),
        ({"config": cnf.FitConfig(epochs=2)}, ValueError, "without data there are no epochs: give .* steps or seconds"),
        ({"weights": [1.0]}, ValueError, "weights must be one real number a row"),
        ({"flow": cnf.build("rbig", 2)}, ValueError, "fitted by its data-dependent start, which needs data"),
    ],
)
def test_what_needs_data_says_so(given: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {"flow": affine(), "objective": cnf.ReverseKL(log_normal), "config": cnf.FitConfig(steps=1), **given}
    with pytest.raises(error, match=message):
        cnf.fit(data=None, **arguments)


def test_who_draws_samples_is_told_by_the_objective() -> None:
    reverse = cnf.ReverseKL(log_normal)
    assert draws_samples(reverse)
    assert not draws_samples(cnf.MaximumLikelihood())
    assert not draws_samples(lambda flow, x, context: x.mean())
    assert len(rows_of(None, affine(), [cnf.Phase(reverse)], cnf.FitConfig(batch_size=7))) == 7


def test_weight_decay_is_that_of_the_phase_and_shrinks_the_weights() -> None:
    norms = []
    for decay in (0.0, 10.0):
        torch.manual_seed(0)
        flow = cnf.build("realnvp", 2, layers=2, hidden=(8,))
        phase = cnf.Phase(learning_rate=1e-2, weight_decay=decay)
        cnf.fit(flow, torch.randn(64, 2), [phase], config=cnf.FitConfig(steps=20, **QUICK))
        norms.append(torch.stack([p.detach().norm() for p in flow.parameters() if p.dim() == 2]).sum())
    assert norms[1] < 0.5 * norms[0]
    (phase,) = phases_of(cnf.build("cnf", 5), None, cnf.FitConfig(weight_decay=0.0))
    assert phase.weight_decay == 0 < cnf.build("cnf", 5).recipe[0].weight_decay
