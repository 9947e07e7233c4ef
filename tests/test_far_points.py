"""Far points and far contexts: a density is a number or −∞ there, never NaN, and weights that are NaN stay visible."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cnf import MODELS, Flow, RungeKutta, build
from cnf.discrete import Affine, Radial

BOUNDED = ("torus_nsf", "torus_cnf", "sphere_cnf", "sphere_free_form")  # whose points cannot be far
CONTINUOUS = (
    "cnf",
    "any_cnf",
    "ffjord",
    "rnode",
    "ot_flow",
    "planar_cnf",
    "augmented_cnf",
    "flow_matching",
    "sphere_cnf",
    "torus_cnf",
)
LARGEST = {torch.float32: (1e38, -1e38, 3.4e38, 1e20), torch.float64: (1e300, -1.7e308, 1e160)}


def trained(name: str, dtype: torch.dtype, context_dim: int = 0, scale: float = 0.5) -> tuple[Flow, Tensor]:
    """A flow away from its start, and rows that it was started from."""
    coarse = {"solver": RungeKutta("rk4", steps=4)} if name in CONTINUOUS else {}
    flow, x = build(name, 3, context_dim, **coarse).to(dtype), torch.randn(50, 3, dtype=dtype)
    x = F.normalize(x, dim=1) if name.startswith("sphere") else x.sigmoid() if name.startswith("torus") else x
    flow.initialize(x, torch.randn(50, context_dim, dtype=dtype) if context_dim else None)
    with torch.no_grad():
        for parameter in flow.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter.add_(torch.randn_like(parameter), alpha=scale / fan_in**0.5)
    return flow, x


@pytest.mark.parametrize("dtype", LARGEST)
@pytest.mark.parametrize("name", [name for name in MODELS if name not in BOUNDED])
@torch.no_grad()
def test_a_point_beyond_the_range_of_squares_has_no_density(name, dtype):
    flow, x = trained(name, dtype)
    for size in LARGEST[dtype]:
        far = x[:4].clone()
        far[0], far[1, 1], far[2] = size, size, size * torch.tensor([1, -1, 0.7], dtype=dtype)
        log_prob = flow.log_prob(far)
        assert torch.equal(log_prob[:3], torch.full((3,), -math.inf, dtype=dtype))
        assert log_prob[3].isfinite()


@pytest.mark.parametrize("name", ["maf", "radial", "planar", "cnf", "nsf_coupling"])
@torch.no_grad()
def test_a_point_within_it_has_a_large_finite_one(name):
    flow, x = trained(name, torch.float32)
    far = 1e6 * x[:4]
    log_prob, exact = flow.log_prob(far), flow.double().log_prob(far.double())
    assert (log_prob < -1e6).all()
    assert torch.allclose(log_prob.double(), exact, rtol=1e-2)


@torch.no_grad()
def test_weights_that_are_not_numbers_are_not_hidden():
    flow, x = trained("maf", torch.float32)
    for parameter in flow.parameters():
        parameter.fill_(math.nan)
    x[0] = 1e38
    assert flow.log_prob(x).isnan().all()


def test_an_affine_map_ends_where_squares_do():
    transform, x = Affine(2, scale=1e-3), torch.tensor([[1.0, 2.0], [1e20, 0.0], [-3e38, 1.0]])
    value, log_det, _ = transform.encode(x)
    assert value.isfinite().all()
    assert torch.equal(value[0], x[0] / 1e-3)
    assert log_det.tolist() == [log_det[0].item(), -math.inf, -math.inf]


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("rbig", "any_cnf")])
def test_a_far_context_gives_numbers_and_gradients(name):
    flow, x = trained(name, torch.float32, 2, scale=0.3)
    for size in (1e3, 1e6 if name != "sphere_cnf" else 1e4):  # there the grid is too coarse, and the solver says so
        context = size * torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])
        log_prob = flow.log_prob(x[:3], context)
        assert log_prob.isfinite().all()
    flow.log_prob(x[:3], 1e3 / size * context).sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in flow.parameters())


@pytest.mark.parametrize(("alpha", "gain"), [(-1000.0, 3.0), (3.0, -1000.0), (-1000.0, -1000.0), (1e6, -5.0)])
def test_a_radial_layer_has_a_log_determinant_for_every_parameter(alpha, gain):
    layer = Radial(3).double()
    with torch.no_grad():
        layer.parameters_of.value.copy_(torch.tensor([0.1, -0.2, 0.3, alpha, gain]))
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    value, log_det, _ = layer.encode(x)
    assert value.isfinite().all()
    assert log_det.isfinite().all()
    (value.sum() + log_det.sum()).backward()
    assert x.grad.isfinite().all()
    assert layer.parameters_of.value.grad.isfinite().all()
    far = 1e200 * x.detach()
    assert torch.allclose(layer.decode(layer.encode(far).value).value, far, rtol=1e-9) or alpha > 1e5
