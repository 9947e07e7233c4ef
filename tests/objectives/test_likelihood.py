"""Maximum likelihood."""

from __future__ import annotations

import pytest
import torch

import cnf


def regularised() -> cnf.Flow:
    torch.manual_seed(0)
    costs = {"kinetic": cnf.KineticEnergy(), "frobenius": cnf.JacobianFrobenius()}
    return cnf.Flow(cnf.CNF(cnf.MLPField(2, hidden=(8, 8)), regularizers=costs), cnf.StandardNormal(2)).double()


def test_the_loss_is_the_mean_of_nll_and_weighted_costs() -> None:
    flow, x = regularised(), torch.randn(20, 2).double()
    density = flow(x)
    loss = cnf.MaximumLikelihood({"kinetic": 0.3})(flow, x, None)
    torch.testing.assert_close(loss.value, (-density.log_prob + 0.3 * density.costs["kinetic"]).mean())
    torch.testing.assert_close(loss.metrics["nll"], -density.log_prob.mean())
    torch.testing.assert_close(loss.metrics["frobenius"], density.costs["frobenius"].mean())
    assert loss.rows is not None
    torch.testing.assert_close(loss.rows.mean(), loss.value)


def test_a_weight_of_zero_logs_without_training() -> None:
    flow, x = regularised(), torch.randn(20, 2).double()
    plain, logged = (
        torch.autograd.grad(cnf.MaximumLikelihood(weights)(flow, x, None).value, flow.parameters(), allow_unused=True)
        for weights in ({}, {"kinetic": 0.0})
    )
    for left, right in zip(plain, logged, strict=True):
        assert (left is None and right is None) or torch.equal(left, right)


def test_a_weight_without_a_cost_is_an_error() -> None:
    with pytest.raises(ValueError, match="no path cost named speed: the flow's CNFs have kinetic, frobenius"):
        cnf.MaximumLikelihood({"speed": 1.0})(regularised(), torch.zeros(2, 2).double(), None)


def test_a_negative_weight_would_make_paths_as_long_as_they_can_be_and_is_refused() -> None:
    with pytest.raises(ValueError, match="weights must be .* not below 0 .* got -1.0 at 'kinetic'"):
        cnf.MaximumLikelihood({"kinetic": -1})
