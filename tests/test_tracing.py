"""Flows under `torch.func` and `torch.export`, where values cannot be looked at."""

from __future__ import annotations

import pytest
import torch
from instances import randomized
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import cnf
from cnf import Flow, RungeKutta, Torchdiffeq, build, reconfigure
from cnf.discrete import Logit, RussianRoulette, Softplus, with_log_det
from cnf.distributions import SphereUniform

FIXED = {"solver": RungeKutta("rk4", steps=2)}
OPTIONS = {
    "cnf": FIXED,
    "ffjord": FIXED,
    "ot_flow": FIXED,
    "realnvp": {},
    "maf": {},
    "nsf_coupling": {},
    "residual": {},
}
FLOWS = {name: randomized(build(name, 2, **options).double(), 0.3) for name, options in OPTIONS.items()}
every = pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


@every
def test_vmap_gives_each_row_its_log_density(flow):
    x = draw(4, 2)
    torch.testing.assert_close(vmap(flow.log_prob)(x), flow.log_prob(x))


@every
def test_gradients_of_each_row_sum_to_that_of_the_batch(flow):
    x, parameters = draw(4, 2), {name: p.detach() for name, p in flow.named_parameters()}
    rows = vmap(grad(lambda p, row: functional_call(flow, p, (row,)).log_prob), (None, 0))(parameters, x)
    flow.zero_grad()
    flow.log_prob(x).sum().backward()
    for name, parameter in flow.named_parameters():
        assert rows[name].shape == (4, *parameter.shape)
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(rows[name].sum(0), expected, atol=1e-8, rtol=1e-6)


def test_conditions_are_mapped_too():
    flow, x, context = build("maf", 2, context_dim=3).double(), draw(4, 2), draw(4, 3)
    torch.testing.assert_close(vmap(flow.log_prob)(x, context), flow.log_prob(x, context))


class LogProb(nn.Module):
    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)


class Decoded(LogProb):
    def forward(self, x: Tensor) -> Tensor:
        return self.flow.transform.push(x)


@pytest.mark.parametrize("name", ["cnf", "maf", "nsf_coupling"])
@pytest.mark.parametrize("part", [LogProb, Decoded])
def test_flows_can_be_exported(part, name):
    module, x = part(FLOWS[name]), draw(4, 2)
    exported = torch.export.export(module, (x,), strict=False).module()
    other = draw(4, 2)
    torch.testing.assert_close(exported(other), module(other))


def test_algorithms_that_look_at_values_say_so():
    adaptive, x = build("cnf", 2).double(), draw(3, 2)
    by_series = with_log_det(FLOWS["residual"], RussianRoulette())
    for use, advice in (
        (lambda: vmap(adaptive.log_prob)(x), "take a fixed grid, cnf.reconfigure"),
        (lambda: vmap(reconfigure(adaptive, solver=Torchdiffeq()).log_prob)(x), "take a fixed grid"),
        (lambda: vmap(grad(adaptive.log_prob))(x), "take a fixed grid"),
        (lambda: torch.export.export(LogProb(adaptive), (x,), strict=False), "take a fixed grid"),
        (lambda: torch.export.export(Decoded(FLOWS["residual"]), (x,), strict=False), "call the flow on a batch"),
        (lambda: vmap(by_series.log_prob, randomness="different")(x), "take the exact log-determinant"),
    ):
        with pytest.raises(
            TypeError, match=f"needs the values of tensors, which vmap and torch.export hide: .*{advice}"
        ):
            use()


def test_values_are_still_checked_where_they_can_be_seen():
    flow = FLOWS["maf"]
    with pytest.raises(ValueError, match="NaN or infinite values in 1 of 1 rows"):
        grad(flow.log_prob)(torch.tensor([0.0, torch.nan], dtype=torch.float64))


@pytest.mark.parametrize(
    ("use", "x"),
    [
        (SphereUniform(3).log_prob, torch.eye(3).unsqueeze(1)),
        (cnf.distributions.Dirichlet([1.0, 2.0]).log_prob, torch.full((3, 1, 2), 0.5)),
        (lambda x: Logit().encode(x).value, torch.full((3, 1, 2), 0.5)),
        (lambda x: Softplus().encode(x).value, torch.full((3, 1, 2), 0.5)),
    ],
)
def test_checks_of_a_domain_are_left_out_too(use, x):
    torch.testing.assert_close(vmap(use)(x), torch.stack([use(row) for row in x]))
