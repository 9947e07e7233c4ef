"""Models of images of whole numbers: probabilities, scales, and classes."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch.autograd.functional import jacobian

from cnf import Compose, Exact, Flow, RungeKutta, build, load, reconfigure, save
from cnf.continuous.twins import cnfs_of
from cnf.metrics import bits_per_dim, class_log_probs, importance_log_prob

SHAPE, LEVELS = (1, 4, 4), 5
SMALL = {"ffjord": {"hidden": 3}, "rnode": {"hidden": 3}, "realnvp": {"hidden": 4, "blocks": 1}, "glow": {"hidden": 4}}
TIGHT = RungeKutta("dopri5", rtol=1e-10, atol=1e-10)


def images(n: int, shape: tuple[int, ...] = SHAPE, levels: int = LEVELS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(levels, (n, *shape), generator=generator).float()


def randomized(flow: Flow, scale: float = 0.2) -> Flow:
    """Weights at random, exact traces and a tight solver, in float64."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    flow = reconfigure(flow, divergence=Exact(), solver=TIGHT, regularizers={}) if cnfs_of(flow) else flow
    return flow.double()


def body_of(flow: Flow) -> Compose:
    """All but the dequantisation."""
    return Compose(list(flow.transform.transforms)[1:])


@pytest.mark.parametrize("name", SMALL)
def test_scales_have_the_log_determinant_of_their_jacobian(name: str) -> None:
    flow = randomized(build(name, (1, 2, 2), levels=LEVELS, scales=1 + (name != "glow"), **SMALL[name]))
    body, v = body_of(flow), (images(1, (1, 2, 2)).double() + 0.3) / LEVELS
    z, log_det, _ = body.encode(v)
    matrix = jacobian(lambda x: body.encode(x).value.flatten(), v).reshape(4, 4)
    assert log_det.item() == pytest.approx(matrix.slogdet()[1].item(), abs=1e-8)
    back, log_det_back, _ = body.decode(z)
    torch.testing.assert_close(back, v, rtol=0, atol=1e-7)
    torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["cnf", "realnvp"])
def test_the_probabilities_of_all_images_sum_to_one(name: str) -> None:
    every = torch.tensor(list(itertools.product(range(3), repeat=4)), dtype=torch.float64).reshape(-1, 1, 2, 2)
    options = {"cnf": {"hidden": (4, 4)}, "realnvp": {"hidden": 4}}[name]
    flow = randomized(build(name, (1, 2, 2), levels=3, **options), 0.1)
    torch.manual_seed(0)
    bound = importance_log_prob(reconfigure(flow, solver=RungeKutta()) if name == "cnf" else flow, every, samples=256)
    assert bound.value.logsumexp(0).exp().item() == pytest.approx(1, abs=0.01)
    assert bound.value.std() > 0.1


@pytest.mark.parametrize("name", ["cnf", "ffjord", "rnode", "realnvp"])
def test_before_everything_a_model_is_uniform_noise(name: str) -> None:
    flow = build(name, SHAPE, levels=LEVELS).double()
    bits = bits_per_dim(flow.log_prob(images(10).double()), 16, levels=None)
    torch.testing.assert_close(bits, torch.full((10,), math.log2(LEVELS)).double())


@pytest.mark.parametrize("name", ["cnf", "maf", *SMALL])
def test_samples_are_whole_numbers_and_a_saved_model_is_the_same(name: str, tmp_path: Path) -> None:
    flow = build(name, SHAPE, 2, levels=LEVELS, **SMALL.get(name, {}))
    flow.initialize(images(60), torch.randn(60, 2))
    samples = flow.sample(20, torch.zeros(2), generator=torch.Generator().manual_seed(0))
    assert set(samples.unique().tolist()) <= set(range(LEVELS))
    assert not flow.exact
    again = load(save(flow, tmp_path / name))
    densities = []
    for model in (flow, again):
        torch.manual_seed(3)
        densities.append(model.log_prob(samples, torch.zeros(2)).detach())
    assert torch.equal(*densities)


def test_data_that_are_not_of_these_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="expected whole numbers from 0 to 4"):
        build("cnf", SHAPE, levels=LEVELS).log_prob(images(3) / LEVELS)
    with pytest.raises(ValueError, match="preprocess='levels' is for whole numbers"):
        build("cnf", SHAPE, preprocess="levels")


def test_classes_follow_from_densities_by_bayes_rule() -> None:
    """Three classes, each normal around its own corner: the posterior is known."""
    flow = build("maf", 2, 3, layers=1, hidden=4, preprocess="none").double()
    x = torch.randn(50, 2).double()
    prior = torch.tensor([0.2, 0.3, 0.5])
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        joint = torch.stack([flow.log_prob(x, corner).exp() for corner in torch.eye(3).double()], 1) * prior.double()
    expected = joint / joint.sum(1, keepdim=True)
    torch.testing.assert_close(class_log_probs(flow, x, prior=prior).exp(), expected)
    assert expected.std(0).min() > 1e-3  # the rows differ


def test_all_classes_see_the_same_noise() -> None:
    """A flow that does not look at its context knows nothing, whatever the noise."""
    flow = build("cnf", SHAPE, 4, levels=LEVELS)
    with torch.no_grad():
        flow.transform.transforms[-1].transform.transform.field.layers[-1].bias.normal_()
    posterior = class_log_probs(flow, images(10), draws=2)
    torch.testing.assert_close(posterior, torch.full((10, 4), -math.log(4)), rtol=0, atol=1e-4)


def test_a_classifier_needs_classes() -> None:
    with pytest.raises(ValueError, match="needs a flow with the class as context"):
        class_log_probs(build("maf", 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="prior must be 3 positive numbers"):
        class_log_probs(build("maf", 2, 3), torch.zeros(1, 2), prior=torch.ones(2))
