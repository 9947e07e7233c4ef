"""Nothing mixes devices: what a flow computes stays where the flow is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from elsewhere import DEVICE, There, elsewhere, moved
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.nn.functional import normalize

import cnf
from cnf.objectives.free_form import FreeForm

SHAPES = {"glow": (1, 4, 4), "sphere_cnf": 3, "sphere_free_form": 3}
LIKELIHOOD = cnf.MaximumLikelihood()
OBJECTIVES = {
    "likelihood": ("cnf", LIKELIHOOD),
    "weighted costs": ("rnode", cnf.MaximumLikelihood({"kinetic": 0.1, "frobenius": 0.1})),
    "matching": ("cnf", cnf.FlowMatching()),
    "optimal transport": ("cnf", cnf.FlowMatching(coupling=cnf.OptimalTransport())),
    "entropic transport": ("cnf", cnf.FlowMatching(coupling=cnf.EntropicCoupling())),
    "stable coupling": ("cnf", cnf.FlowMatching(coupling=cnf.StableCoupling())),
    "bridge": ("cnf", cnf.FlowMatching(path=cnf.BridgePath())),
    "variance preserving": ("cnf", cnf.FlowMatching(path=cnf.VariancePreservingPath())),
    "reverse": ("cnf", cnf.ReverseKL(lambda x: -x.square().sum(-1))),
    "free form": ("free_form", FreeForm()),
}
TRAINED = ["cnf", "ffjord", "realnvp", "maf", "sphere_cnf", "gaussianization"]


def rows(name: str, n: int = 20) -> torch.Tensor:
    shape = SHAPES.get(name, 2)
    x = torch.rand(n, *(shape if isinstance(shape, tuple) else (shape,)))
    return normalize(x - 0.5) if name.startswith("sphere") else x


class Place:
    """A device: `to` brings a module or a tensor there, `active` is a block in which one computes there."""

    def __init__(self, name: str) -> None:
        self.device = DEVICE if name == "elsewhere" else torch.device(name)
        self.real = name != "elsewhere"

    def to(self, part: Any) -> Any:
        if self.real:
            return part.to(self.device)
        return moved(part) if isinstance(part, nn.Module) else There(part)

    def active(self) -> AbstractContextManager[None]:
        return nullcontext() if self.real else elsewhere()

    def holds(self, value: object) -> bool:
        return isinstance(value, Tensor if self.real else There) and value.device.type == self.device.type


@pytest.fixture(params=["elsewhere", "cuda"])
def device(request) -> Place:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return Place(request.param)


@pytest.mark.parametrize("name", cnf.MODELS)
def test_a_flow_computes_where_it_is(name, device):
    context_dim = 0 if name in ("rbig", "any_cnf") else 2  # which take none
    flow, x = device.to(cnf.build(name, SHAPES.get(name, 2), context_dim)), device.to(rows(name))
    context = device.to(torch.rand(len(x), context_dim)) if context_dim else None
    with device.active():
        flow.initialize(x, context)
        values = [flow.log_prob(x, context), flow.sample(len(x), context), *flow.sample_and_log_prob(len(x), context)]
        if any(parameter.requires_grad for parameter in flow.parameters()):
            LIKELIHOOD(flow, x, context).value.backward()
    assert all(map(device.holds, values))


@pytest.mark.parametrize("case", OBJECTIVES)
def test_an_objective_computes_where_the_flow_is(case, device):
    name, objective = OBJECTIVES[case]
    flow, x = device.to(cnf.build(name, 2)), device.to(rows(name))
    with device.active():
        flow.initialize(x)
        loss = objective(flow, x)
        loss.value.backward()
    gradients = [parameter.grad for parameter in flow.parameters() if parameter.grad is not None]
    assert gradients
    assert all(map(device.holds, [loss.value, *gradients]))


@pytest.mark.parametrize("name", TRAINED)
def test_a_flow_trains_where_it_is(name, device, monkeypatch):
    if not device.real:
        monkeypatch.setattr(CPUAccelerator, "setup_device", lambda self, device: None)
        strategy = SingleDeviceStrategy(DEVICE, CPUAccelerator())
        monkeypatch.setattr("cnf.training.fitting.engine", lambda config: Fabric(strategy=strategy))
    flow, x = device.to(cnf.build(name, SHAPES.get(name, 2))), rows(name, 100)
    with device.active():
        result = cnf.fit(flow, x, validation=x, config=cnf.FitConfig(steps=4, checks=2, progress=False))
        log_prob = result.flow.log_prob(device.to(x))
    assert result.best_validation is not None
    assert device.holds(log_prob)


def test_the_other_device_refuses_to_mix():
    x = There(torch.rand(3))
    with elsewhere(), pytest.raises(RuntimeError, match="mixes devices"):
        x + torch.zeros(3)
    with elsewhere():
        total = x + torch.zeros(3, device=x.device) + torch.tensor([1.0, 2.0, 3.0], device=DEVICE) + torch.tensor(1.0)
    assert isinstance(total, There)
