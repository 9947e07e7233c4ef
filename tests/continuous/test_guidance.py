"""Guidance of conditional flows."""

from __future__ import annotations

import pytest
import torch
from instances import randomized

import cnf
from cnf.continuous.guidance import GuidedField


def test_a_guided_field_is_moved_away_from_the_one_without_context() -> None:
    field = randomized(cnf.MLPField(2, hidden=8, context_dim=3))
    t, x, context = torch.tensor(0.3), torch.randn(5, 2), torch.randn(5, 3)
    given, free = field(t, x, context), field(t, x, torch.zeros(5, 3))
    torch.testing.assert_close(GuidedField(field, 1.5)(t, x, context), 2.5 * given - 1.5 * free)


def test_guided_flows_share_their_parameters_and_leave_the_original_alone() -> None:
    flow = randomized(cnf.build("cnf", 2, context_dim=1, hidden=(8, 8)))
    context, seed = torch.ones(1), lambda: torch.Generator().manual_seed(0)
    before = flow.sample(5, context, generator=seed())
    plain, strong = cnf.guided(flow, 0.0), cnf.guided(flow, 3.0)
    assert all(a is b for a, b in zip(flow.parameters(), strong.parameters(), strict=True))
    torch.testing.assert_close(plain.sample(5, context, generator=seed()), before, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(strong.sample(5, context, generator=seed()), before, atol=1e-2)
    assert torch.equal(flow.sample(5, context, generator=seed()), before)


def test_guidance_moves_samples_of_a_class_away_from_the_others() -> None:
    torch.manual_seed(0)
    label = torch.randint(2, (2000,))
    x = 0.7 * torch.randn(2000, 2) + torch.where(label == 1, 1.0, -1.0)[:, None]
    flow = cnf.build("flow_matching", 2, context_dim=2, hidden=(32, 32))
    rows = x, torch.nn.functional.one_hot(label).float()
    cnf.fit(flow, rows, config=cnf.FitConfig(steps=250, progress=False))
    means = [model.sample(1000, torch.tensor([0.0, 1.0])).mean() for model in (flow, cnf.guided(flow, 2.0))]
    assert 0.8 < means[0] < 1.2
    assert means[1] > means[0] + 0.5


def test_what_cannot_be_guided_says_so() -> None:
    with pytest.raises(ValueError, match="this one has none"):
        cnf.guided(cnf.build("cnf", 2), 1.0)
    with pytest.raises(ValueError, match="holds no CNF"):
        cnf.guided(cnf.build("maf", 2, context_dim=1), 1.0)
    with pytest.raises(ValueError, match="leave forget out"):
        cnf.FlowMatching(forget=0.1)(cnf.build("cnf", 2), torch.randn(4, 2))
