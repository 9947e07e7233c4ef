"""Twins: what they share with the module they are made from, and what they do not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import cnf
from cnf import CNF, Compose, Exact, Flow, Hutchinson, MLPField, RungeKutta, StandardNormal, Transform, reconfigure
from cnf.continuous.twins import cnfs_of, refined, smoothed
from cnf.discrete import Affine, ExactLogDet, Residual, RussianRoulette, with_log_det
from cnf.twin import exchanged, parts_of, twin

COARSE = RungeKutta("rk4", steps=2)


def flow_of(generator: torch.Generator | None = None) -> Flow:
    members = [Residual(2, log_det=RussianRoulette()), CNF(MLPField(2, hidden=4), Hutchinson(generator=generator))]
    return Flow(Compose(members), StandardNormal(2))


def test_a_twin_has_other_settings_and_the_same_tensors():
    flow = flow_of()
    other = twin(flow, CNF, lambda cnf: {"solver": COARSE})
    assert all(part.solver == COARSE for part in parts_of(other, CNF))
    assert all(part.solver == RungeKutta() for part in parts_of(flow, CNF))
    for tensors in (nn.Module.parameters, nn.Module.buffers):
        assert all(a is b for a, b in zip(tensors(flow), tensors(other), strict=True))
    assert not set(flow.modules()) & set(other.modules())


def test_a_twin_of_its_own_shares_settings_but_no_tensors():
    flow = flow_of()
    other = twin(flow, CNF, lambda cnf: {"solver": COARSE}, shared=False)
    assert parts_of(other, Residual)[0].log_det is parts_of(flow, Residual)[0].log_det
    assert not {id(part) for part in flow.parameters()} & {id(part) for part in other.parameters()}


@pytest.mark.parametrize(
    "change",
    [
        lambda flow: with_log_det(flow, ExactLogDet()),
        lambda flow: reconfigure(flow, solver=COARSE),
        refined,
        smoothed,
    ],
)
def test_a_generator_anywhere_in_the_flow_is_no_obstacle(change):
    generator = torch.Generator()
    other = change(flow_of(generator))
    assert cnfs_of(other)[0].divergence.generator is generator


class Listed(Transform):
    """Reaches its part through a list, a dict and a bound method of its own."""

    def __init__(self, part: Transform) -> None:
        super().__init__()
        self.part, self.listed, self.named, self.method = part, [part], {"part": part}, part.encode

    def encode(self, x, context=None):
        ways = self.listed[0].encode(x), self.named["part"].encode(x), self.method(x)
        assert all(torch.equal(way.value, self.part.encode(x).value) for way in ways)
        return ways[0]

    def decode(self, z, context=None):
        return self.listed[0].decode(z)


def test_a_twin_uses_its_own_parts_however_it_reaches_them():
    listed = Listed(CNF(MLPField(2, hidden=8)))
    x, coarse = 3 * torch.randn(5, 2), RungeKutta("euler", steps=1)
    other = twin(listed, CNF, lambda cnf: {"solver": coarse})
    assert other.listed[0] is other.named["part"] is other.method.__self__ is other.part
    assert not torch.equal(other.encode(x).value, listed.encode(x).value)


def test_a_part_is_exchanged_wherever_it_stands():
    flow, affine = flow_of(), Affine(2, scale=2.0)
    other = exchanged(flow, CNF, lambda cnf: affine)
    assert other.transform.transforms[1] is affine
    assert isinstance(flow.transform.transforms[1], CNF)
    assert exchanged(CNF(MLPField(2, hidden=4), Exact()), CNF, lambda cnf: affine) is affine
    assert other.transform.transforms[0].network.layers[0] is not flow.transform.transforms[0].network.layers[0]
    assert all(a is b for a, b in zip(flow.transform.transforms[0].parameters(), other.parameters(), strict=False))


@pytest.mark.parametrize("name", cnf.MODELS)
def test_a_twin_made_before_the_start_knows_the_start(name):
    """As training has it: the flow it moves is a twin, and both take their start from the data."""
    shape = {"glow": (1, 4, 4), "sphere_cnf": 3, "sphere_free_form": 3}.get(name, 3)
    x = torch.rand(200, *([shape] if isinstance(shape, int) else shape)) ** 3
    x = torch.nn.functional.normalize(x, dim=-1) if name.startswith("sphere") else x
    flow = cnf.build(name, shape)
    other = twin(flow, Transform, lambda part: {})
    flow.initialize(x)
    values = []
    for each in (flow, other):
        torch.manual_seed(0)  # of augmented dimensions
        values.append(each.log_prob(x).detach())
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)


def test_training_begins_where_the_start_has_led():
    """The first loss is that of the data-dependent start, which the validation sees too."""
    x = torch.rand(2000, 6)
    config = cnf.FitConfig(steps=1, batch_size=2000, learning_rate=1e-9, checks=1, progress=False)
    row = cnf.fit(cnf.build("cnf", 6), x, validation=x, config=config).history[0]
    assert row["loss"] == pytest.approx(row["validation_nll"], abs=1e-3)
