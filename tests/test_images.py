"""Models of images: they start where the data are, train, and can be sampled."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from cnf import build, fit
from cnf.cli.report import summary
from cnf.continuous.solvers import count_evaluations
from cnf.data.images import Dequantized
from cnf.data.rows import Rows
from cnf.flows import Flow
from cnf.metrics import bits_per_dim
from cnf.training import FitConfig

LEVELS, SHAPE = 17, (1, 6, 6)
MARGIN = 2e-6  # beyond 0 and 1, where the logit has its ends


def blobs(n: int) -> torch.Tensor:
    """A bright spot somewhere near the middle on black, of 17 levels, with borders that are nearly always black."""
    place = torch.arange(6.0)
    centre = 2.5 + torch.randn(n, 2)
    rows, columns = (torch.exp(-(place - centre[:, i : i + 1]).square() / 2) for i in range(2))
    return (16 * rows[:, :, None] * columns[:, None]).round().to(torch.uint8)[:, None]


@pytest.fixture
def images() -> Rows:
    torch.manual_seed(0)
    return Dequantized(blobs(200), LEVELS)


def initialized(name: str, images: Rows) -> tuple[Flow, torch.Tensor]:
    torch.manual_seed(1)
    flow, x = (
        build(name, SHAPE, **({"hidden": (4,)} if name in ("ffjord", "rnode") else {})),
        images.read(range(200))[0],
    )
    flow.initialize(x)
    return flow, x


@pytest.mark.parametrize("name", ["cnf", "ffjord", "rnode", "glow", "maf"])
def test_before_training_a_model_of_pixels_knows_more_than_uniform_noise(name: str, images: Rows) -> None:
    flow, x = initialized(name, images)
    with torch.no_grad():
        bits = bits_per_dim(flow.log_prob(x[:20]), 36, levels=LEVELS)
    samples = flow.sample(20)
    assert bits.mean() < math.log2(LEVELS) - 0.5
    assert -MARGIN <= samples.min() <= samples.max() <= 1 + MARGIN


def test_the_default_begins_where_the_data_are(images: Rows) -> None:
    """Each pixel of a sample is distributed as in the data, and no part of the base is far from all of them."""
    flow, x = initialized("cnf", images)
    with torch.no_grad():
        z = flow(x).z
    samples = flow.sample(2000, generator=torch.Generator().manual_seed(0))
    assert z.mean(0).abs().max() < 0.2
    assert (z.std(0) - 1).abs().max() < 0.2
    shares = torch.linspace(0.1, 0.9, 9)
    assert (samples.quantile(shares, dim=0) - x.quantile(shares, dim=0)).abs().max() < 0.25
    assert -MARGIN <= samples.min() <= samples.max() <= 1 + MARGIN


def test_the_default_trains_on_few_images_and_its_samples_cost_little(images: Rows) -> None:
    flow, x = initialized("cnf", images)
    with torch.no_grad():
        before = flow.log_prob(x).mean()
    result = fit(flow, images, validation=x[:50], config=FitConfig(steps=60, batch_size=64, progress=False))
    with torch.no_grad():
        after = flow.log_prob(x).mean()
    with count_evaluations() as count:
        samples = flow.sample(200, generator=torch.Generator().manual_seed(0))
    assert result.best_step > 30
    assert after > before + 5
    assert count.evaluations < 100
    assert samples.isfinite().all()


@pytest.mark.parametrize("name", ["cnf", "ffjord", "glow", "nsf_coupling", "planar"])
def test_images_out_of_the_unit_interval_are_told_what_to_do(name: str) -> None:
    x = torch.full((2, 1, 4, 4), 16.0)
    with pytest.raises(ValueError, match='preprocess="standardize"'):
        build(name, (1, 4, 4)).log_prob(x)
    assert build(name, (1, 4, 4), preprocess="standardize").log_prob(x).isfinite().all()


def test_the_kinetic_energy_of_images_is_weighed_unless_it_is_left_out(images: Rows) -> None:
    (x, *_) = images.read([0, 1])
    for options, weights in (({}, {"kinetic": 0.1}), ({"regularizers": {}}, {})):
        flow = build("cnf", SHAPE, **options)
        (phase,) = flow.recipe
        assert phase.objective.weights == weights
        assert phase.objective(flow, x, None).value.isfinite()
    assert build("cnf", 5).recipe[0].objective.weights == {"kinetic": 0.1}


@pytest.mark.parametrize(("bits", "warned"), [(2.0, False), (4.2, True), (float("inf"), True), (float("nan"), True)])
def test_a_result_worse_than_uniform_noise_is_said_to_be(bits: float, warned: bool) -> None:
    names = ("test_nll", "test_nll_standard_error", "test_nll_standardized", "evaluations_a_solve", "training_seconds")
    numbers = {
        **dict.fromkeys(names, 1.0),
        "likelihood": "a lower bound",
        "stopped": "budget",
        "bits_per_dim_standard_error": 0.1,
    }
    numbers |= {"bits_per_dim": bits, "bits_per_dim_of_uniform_noise": math.log2(LEVELS)}
    text = summary(numbers, Path("runs"))
    assert ("no better than uniform noise (4.087)" in text) == warned
    assert f"{bits:.3f} ± 0.100 bits/dim" in text
