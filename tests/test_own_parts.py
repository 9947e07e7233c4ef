"""Parts of a user's own that return the wrong thing: an error that names the part, not a wrong number."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import cnf


class Narrow(cnf.VectorField):
    def forward(self, t, x, context=None):
        return x[:, :1]  # would broadcast over the columns


class Swapped(nn.Module):
    def forward(self, x, t):
        return -x


class Total(cnf.Divergence):
    def probe(self, x):
        return None

    def __call__(self, linearization, probe):
        return linearization.trace().sum()  # would broadcast over the rows


class Entries(cnf.Regularizer):
    def __call__(self, linearization, probe):
        return linearization.velocity.square()


class EachColumn(cnf.BaseDensity):
    def log_prob(self, z):
        return -z.square()

    def draw(self, n, generator):
        return self.noise(n, generator)


class Floats(cnf.Coupling):
    def __call__(self, base, data, context):
        return torch.arange(len(data)).float()


class PointOnly(cnf.Path):
    def __call__(self, t, base, data, noise):
        return base + t * (data - base), (data - base).sum(1)


def flow_of(field=None, base=None, **settings):
    return cnf.Flow(cnf.CNF(field or cnf.MLPField(2, hidden=4), **settings), base or cnf.StandardNormal(2))


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (lambda: flow_of(Narrow()), r"shape of x, \(5, 2\); Narrow returned \(5, 1\)"),
        (lambda: flow_of(divergence=Total()), r"Total must return one number for each row, \(N,\), got shape \(\)"),
        (lambda: flow_of(regularizers={"entries": Entries()}), r"Entries must return .* got shape \(5, 2\) for 5 rows"),
        (lambda: flow_of(base=EachColumn(2)), r"EachColumn must return .* got shape \(5, 2\) for 5 rows"),
    ],
)
def test_a_part_that_returns_another_shape_is_named(flow, message):
    with pytest.raises(ValueError, match=message):
        flow().log_prob(torch.randn(5, 2))


def test_samples_of_a_field_that_returns_another_shape():
    with pytest.raises(ValueError, match="Narrow returned"):
        flow_of(Narrow()).sample(5)


def test_a_field_with_other_arguments_is_refused_when_it_is_given():
    with pytest.raises(TypeError, match=r"must take \(t, x, context\), but Swapped.forward takes \(x, t\)"):
        cnf.CNF(Swapped())


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (cnf.FlowMatching(coupling=Floats()), "Floats must return a row of the base .* got torch.float32"),
        (cnf.FlowMatching(path=PointOnly()), r"PointOnly must return point and velocity, both \(5, 2\)"),
    ],
)
def test_a_part_of_flow_matching_that_returns_something_else_is_named(objective, message):
    with pytest.raises(ValueError, match=message):
        objective(flow_of(), torch.randn(5, 2))


def test_a_target_without_gradient_is_warned_of():
    flow = cnf.build("realnvp", 2, hidden=4)
    with pytest.warns(UserWarning, match="without gradient"):
        cnf.ReverseKL(lambda x: -x.detach().square().sum(1))(flow, torch.zeros(4, 2))


def test_parts_that_do_not_fit_each_other_are_no_fault_of_the_data():
    flow, config = flow_of(base=EachColumn(2)), cnf.FitConfig(steps=1, progress=False)
    with pytest.raises(ValueError, match="^EachColumn must return"):
        cnf.fit(flow, torch.randn(20, 2), config=config)


def test_a_config_that_is_none():
    with pytest.raises(TypeError, match="config must be a FitConfig, got"):
        cnf.fit(flow_of(), torch.randn(20, 2), config={"steps": 3})
