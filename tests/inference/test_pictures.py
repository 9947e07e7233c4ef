"""Pictures of calibration and of weights show the numbers they are of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import cnf
from cnf.inference import Coverage, importance
from cnf.plotting import coverage_figure, ranks_figure, weights_figure


def inside(figure) -> bool:
    """Whether all curves stay in the band."""
    axes = figure.axes[0]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    return all(np.abs(line.get_ydata()).max() <= band.max() for line in axes.get_lines()[1:])


@pytest.mark.parametrize("draws", [None, 99, 10])
def test_uniform_ranks_stay_in_the_band_and_narrow_posteriors_leave_it(draws):
    unit = torch.rand(2000, 2)
    uniform = unit if draws is None else (unit * (draws + 1)).floor()
    assert inside(ranks_figure(uniform, draws))
    ends = 0.5 + 1.25 * (unit - 0.5)
    narrow = ends.clamp(0, 1) if draws is None else (ends.clamp(0, 0.9999) * (draws + 1)).floor()
    assert not inside(ranks_figure(narrow, draws))


def test_the_band_holds_whole_curves_as_often_as_it_says():
    held = sum(inside(ranks_figure(torch.rand(100), level=0.8)) for _ in range(100))
    assert 70 <= held <= 99  # the inequality is a little generous


def test_curves_are_the_differences_of_distribution_functions():
    (_, line) = ranks_figure(torch.tensor([0, 1, 2, 2]), 2).axes[0].get_lines()
    np.testing.assert_allclose(line.get_ydata(), [0, 1 / 4 - 1 / 3, 2 / 4 - 2 / 3, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("ranks", "options", "message"),
    [
        (torch.tensor([3.0]), {}, "between 0 and 1: give draws"),
        (torch.zeros(0, 2), {}, "not empty"),
        (torch.zeros(3, 2), {"columns": ["a"]}, "a name for each of 2"),
    ],
)
def test_ranks_that_are_none(ranks, options, message):
    with pytest.raises(ValueError, match=message):
        ranks_figure(ranks, **options)


def test_coverage_is_drawn_with_its_error():
    levels = torch.arange(1, 5) / 4
    found = Coverage(levels, levels - 0.1, torch.full((4,), 0.02), torch.rand(10))
    axes = coverage_figure({"narrow": found, "again": found}).axes[0]
    np.testing.assert_allclose(axes.get_lines()[1].get_ydata(), levels - 0.1, atol=1e-6)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["narrow", "again"]
    assert coverage_figure(found).axes[0].get_legend() is None
    with pytest.raises(ValueError, match="no coverages"):
        coverage_figure({})


def test_weights_are_drawn_with_their_diagnosis():
    flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
    evidence = importance(flow, lambda x: -(x / 0.9).square().sum(1) / 2 + (x[:, 0] < 0).log(), 1000)
    left, right = weights_figure(evidence).axes
    assert sum(patch.get_height() for patch in left.patches) == evidence.log_weights.isfinite().sum()
    assert right.get_lines()[0].get_ydata()[-1] == pytest.approx(1)
    assert f"{evidence.ess:.1%}" in right.get_title()
