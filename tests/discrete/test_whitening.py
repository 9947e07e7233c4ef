"""Whitened columns are uncorrelated, exactly as the log-determinant says, in either precision."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

import cnf
from cnf.discrete import Whiten


def correlated(n: int, dim: int, smallest: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal rows around 1000 with a covariance of known smallest eigenvalue, and that covariance."""
    values = torch.logspace(0, torch.tensor(smallest).log10().item(), dim, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64))[0]
    covariance = rotation * values @ rotation.mT
    return MultivariateNormal(torch.full((dim,), 1e3, dtype=torch.float64), covariance).sample((n,)), covariance


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-2), (torch.float64, 1e-8)])
@pytest.mark.parametrize("dim", [1, 2, 10])
def test_columns_become_uncorrelated(dtype, tolerance, dim):
    x = (correlated(2000, dim, 1e-4)[0] - 1e3).to(dtype)
    layer = Whiten(dim, shrinkage=0.0).to(dtype)
    layer.initialize(x)
    z = layer.encode(x).value.double()
    torch.testing.assert_close(z.mT @ z / len(z), torch.eye(dim, dtype=torch.float64), rtol=0, atol=tolerance)
    torch.testing.assert_close(layer.decode(layer.encode(x).value).value, x, rtol=0, atol=tolerance)


def test_a_normal_law_has_its_density():
    x, covariance = correlated(200_000, 5, 1e-3)
    flow = cnf.Flow(Whiten(5), cnf.StandardNormal(5)).double()
    flow.initialize(x)
    exact = MultivariateNormal(torch.full((5,), 1e3, dtype=torch.float64), covariance).log_prob(x)
    assert abs((flow.log_prob(x) - exact).mean()) < 1e-3


def test_each_column_stays_near_to_itself():
    x = correlated(500, 4, 0.1)[0]
    layer = Whiten(4).double()
    layer.initialize(x)
    both = torch.cat([x, layer.encode(x).value], 1).mT.corrcoef()[:4, 4:]
    assert (both.diagonal() > 0.7).all()


def test_few_rows_for_many_columns_are_shrunk():
    x = torch.randn(20, 40)
    layer = Whiten(40)
    layer.initialize(x)
    torch.testing.assert_close(layer.encode(x).value, (x - x.mean(0)) / x.std(0, correction=0))


def test_columns_that_follow_from_others_are_named():
    x = torch.randn(300, 5)
    x[:, 3] = 2 * x[:, 0] - x[:, 1] + 7
    with pytest.raises(ValueError, match=r"columns \[0, 1, 3\] follow from each other"):
        Whiten(5, shrinkage=0.0).initialize(x)
    with pytest.raises(ValueError, match=r"columns \[2\] are constant"):
        Whiten(3).initialize(torch.tensor([[1.0, 2.0, 3.0], [2.0, 5.0, 3.0]]))
