"""Second derivatives of every model, in data, base points and parameters, against differences of exact gradients.

They are taken along random directions: `∂/∂ε ∇L(θ + ε d)`, of densities through `encode` and of values and
log-determinants through `decode`. ReLUs are replaced by SiLUs, whose kinks no difference steps over.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnf import MODELS, Flow, RungeKutta, Torchdiffeq, build
from cnf.discrete import log_abs_det
from cnf.networks.lipschitz import spectral_norm
from cnf.networks.residual import ResidualNet

GRID = RungeKutta("dopri5", steps=3)  # adaptive steps would make the differences noisy
SPHERICAL = ("sphere_cnf", "sphere_free_form")
CONTINUOUS = (
    "cnf",
    "ffjord",
    "rnode",
    "ot_flow",
    "planar_cnf",
    "augmented_cnf",
    "flow_matching",
    "sphere_cnf",
    "torus_cnf",
)
COUPLINGS = ("nice", "realnvp", "maf", "iaf", "nsf_coupling", "nsf_autoregressive", "torus_nsf")
SMALL = {
    **{name: {"layers": 2, "hidden": 8} for name in COUPLINGS},
    "planar": {"layers": 4},
    "radial": {"layers": 4},
    "residual": {"blocks": 2, "hidden": (8, 8)},
    "gaussianization": {"layers": 2, "components": 4},
    "glow": {"steps": 2, "hidden": 8},
    "rbig": {"layers": 3},
    **{name: {"solver": GRID} for name in CONTINUOUS},
    "ffjord": {"solver": GRID, "hidden": (8, 8)},
    "sphere_cnf": {"solver": GRID, "hidden": 8},
    "torus_cnf": {"solver": GRID, "hidden": 8},
}
SOLVED = {
    "planar-closed-encode": ("planar", {"layers": 4, "closed": "encode"}),
    "radial-closed-encode": ("radial", {"layers": 4, "closed": "encode"}),
    "glow-dense": ("glow", {"steps": 2, "hidden": 8, "lu": False}),
    "checkpoint": ("cnf", {"solver": RungeKutta("dopri5", steps=2, gradient="checkpoint"), "hidden": (8, 8)}),
    "torchdiffeq": ("cnf", {"solver": Torchdiffeq("rk4", steps=2, adjoint=False), "hidden": (8, 8)}),
}
CASES = {**{name: (name, SMALL.get(name, {})) for name in MODELS}, **SOLVED}
Scalar = Callable[..., Tensor]


def points(name: str, n: int) -> Tensor:
    x = torch.randn(n, 3, dtype=torch.float64)
    if name in SPHERICAL:
        return F.normalize(x, dim=1)
    return 2 * torch.pi * x.sigmoid() if name.startswith("torus") else x + 0.3 * x.roll(1, 1).square()


def trained(name: str, context_dim: int, options: dict) -> Flow:
    """A flow that is nowhere at its identity start."""
    flow = build(name, 3, context_dim, **options).double()
    context = torch.randn(200, context_dim, dtype=torch.float64)
    flow.initialize(points(name, 200), context if context_dim else None)
    with torch.no_grad():
        for parameter in flow.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter.add_(torch.randn_like(parameter), alpha=0.3 / fan_in**0.5)
    for net in flow.modules():
        if isinstance(net, ResidualNet):
            net.activation = F.silu
    return flow


def differ(function: Scalar, inputs: list[Tensor]) -> float:
    """The largest relative difference between second derivatives and differences of first ones."""
    inputs = [x.detach().requires_grad_() for x in inputs if x.numel()]

    def gradient(values: list[Tensor], *, graph: bool = False) -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(*values), values, create_graph=graph, materialize_grads=True)

    first, worst, h = gradient(inputs, graph=True), 0.0, 1e-5
    for k, x in enumerate(inputs):
        direction = torch.randn_like(x)
        exact = torch.autograd.grad((first[k] * direction).sum(), inputs, retain_graph=True, materialize_grads=True)
        below, above = (
            gradient([(y + step * direction if i == k else y).detach().requires_grad_() for i, y in enumerate(inputs)])
            for step in (-h, h)
        )
        for wanted, a, b in zip(exact, below, above, strict=True):
            found = (b - a) / (2 * h)
            worst = max(worst, ((wanted - found).abs().max() / found.abs().max().clamp(min=1e-3)).item())
    return worst


def scalar(flow: Flow, name: str, context: Tensor | None, *, decode: bool) -> Scalar:
    """The log-density of data, or value and log-determinant of decode, as one number of points and all parameters."""

    class Call(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flow = flow

        def forward(self, x: Tensor) -> Tensor:
            torch.manual_seed(1)  # of the noise of an augmented flow
            x = F.normalize(x, dim=1) if name in SPHERICAL else x
            if not decode:
                return self.flow.log_prob(x, context).sum()
            value, log_det, _ = self.flow.transform.decode(x, context)
            pushed = self.flow.transform.push(x, context)
            return (value.sin() + pushed.cos()).sum() + (self.flow.base.log_prob(x) - log_det).square().sum()

    shapes = {name: parameter.shape for name, parameter in Call().named_parameters()}

    def function(x: Tensor, *weights: Tensor) -> Tensor:
        parts = weights[0].split([shape.numel() for shape in shapes.values()]) if weights else ()
        values = {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        return torch.func.functional_call(Call(), values, (x,))

    return function


@pytest.mark.parametrize("decode", [False, True], ids=["encode", "decode"])
@pytest.mark.parametrize("case", CASES)
def test_second_derivatives_are_those_of_finite_differences(case, decode):
    name, options = CASES[case]
    context_dim = 0 if name in ("rbig", "any_cnf") else 2 * (decode ^ (list(CASES).index(case) % 2))
    flow = trained(name, context_dim, options)
    context = torch.randn(2, context_dim, dtype=torch.float64) if context_dim else None
    x = points(name, 2)
    if decode:
        x = flow(x, context).z.detach()
    weights = [parameter.detach().flatten() for parameter in flow.parameters()]
    inputs = [x, torch.cat(weights)] if weights else [x]
    assert differ(scalar(flow, name, context, decode=decode), inputs) < 1e-5


def test_the_adjoint_refuses_a_second_derivative():
    flow = build("cnf", 2, solver=Torchdiffeq("rk4", steps=2), hidden=(8, 8)).double()
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    flow.log_prob(x).sum().backward()
    with pytest.raises(RuntimeError, match=r"first derivatives only.*take RungeKutta\(gradient=\"checkpoint\"\)"):
        torch.autograd.grad(flow.log_prob(x).sum(), x, create_graph=True)


@pytest.mark.parametrize("decode", [False, True], ids=["encode", "decode"])
@pytest.mark.parametrize("case", ["planar", "residual", "gaussianization", "glow-dense", "free_form"])
def test_every_mode_of_torch_func_agrees(case, decode):
    name, options = CASES[case]
    flow = trained(name, 0, options)
    x = points(name, 2)

    def one(x: Tensor) -> Tensor:
        value, log_det, _ = (flow.transform.decode if decode else flow.transform.encode)(x.unsqueeze(0))
        return value.sin().sum() + log_det[0]

    expected = torch.stack([torch.autograd.functional.hessian(one, row) for row in x])
    for hessian in (
        torch.func.hessian(one),
        torch.func.jacrev(torch.func.jacrev(one)),
        torch.func.jacfwd(torch.func.jacfwd(one)),
    ):
        assert torch.allclose(torch.stack([hessian(row) for row in x]), expected, rtol=1e-7, atol=1e-9)
        assert torch.allclose(torch.func.vmap(hessian)(x), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["planar", "residual", "gaussianization"])
def test_gradients_of_single_rows_add_up(name):
    flow, z = trained(name, 0, SMALL[name]), torch.randn(4, 3, dtype=torch.float64)
    parameters = dict(flow.transform.named_parameters())

    def one(parameters: dict[str, Tensor], z: Tensor) -> Tensor:
        mapped = torch.func.functional_call(flow.transform, parameters, (z.unsqueeze(0),))
        return (mapped.value.sin().sum() + mapped.log_det[0]) ** 2

    rows = torch.func.vmap(torch.func.grad(one), (None, 0))(parameters, z)
    value, log_det, _ = flow.transform.encode(z)
    total = torch.autograd.grad((value.sin().sum(1) + log_det).square().sum(), list(parameters.values()))
    assert all(torch.allclose(row.sum(0), whole) for row, whole in zip(rows.values(), total, strict=True))


def test_a_third_derivative_through_a_root():
    flow, x = trained("planar", 0, SMALL["planar"]), torch.randn(3, dtype=torch.float64)

    def hessian(x: Tensor) -> Tensor:
        return torch.func.jacrev(torch.func.jacrev(lambda x: flow.transform.encode(x.unsqueeze(0)).log_det[0]))(x)

    e, h = torch.eye(3, dtype=torch.float64)[0], 1e-5
    found = (hessian(x + h * e) - hessian(x - h * e)) / (2 * h)
    assert torch.allclose(torch.func.jacrev(hessian)(x)[..., 0], found, rtol=1e-5, atol=1e-7)


def test_norms_and_determinants_have_second_derivatives():
    wide, square = torch.randn(3, 5).double().requires_grad_(), torch.randn(2, 3, 3).double().requires_grad_()
    for function, x in ((spectral_norm, wide), (spectral_norm, wide.detach().mT), (log_abs_det, square)):
        x = x.detach().requires_grad_()
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)
    assert torch.equal(spectral_norm(torch.zeros(3, 3)), torch.tensor(0.0))
    assert log_abs_det(torch.zeros(3, 3)) == -torch.inf
