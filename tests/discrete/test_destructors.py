"""Density destructors: each is the density it was fitted to, maps it to the uniform, and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import MultivariateNormal

from cnf import Compose, Flow, Inverse, StandardNormal, Transform, Uniform
from cnf.data import toy
from cnf.discrete import (
    RBIG,
    Destructor,
    GaussianDestructor,
    Gaussianized,
    HistogramDestructor,
    MarginalGaussianization,
    NormalCDF,
    Rotation,
    TreeDestructor,
    chain,
)

DESTRUCTORS = {
    "gaussian": lambda dim: GaussianDestructor(dim),
    "histogram": lambda dim: HistogramDestructor(dim, bins=8),
    "tree": lambda dim: TreeDestructor(dim, depth=4),
    "marginals": lambda dim: Gaussianized(MarginalGaussianization(dim)),
    "rbig": lambda dim: Gaussianized(RBIG(dim, layers=4)),
}
every = pytest.mark.parametrize("name", DESTRUCTORS)


def on_cube(layer: Transform) -> bool:
    return not layer.domain.check(torch.tensor(2.0))


def rows_for(layer: Transform, n: int) -> Tensor:
    """Two moons, turned, on the line or the unit square."""
    x = toy("moons").sample(n, dtype=torch.float64) @ torch.tensor([[0.8, -0.6], [0.6, 0.8]]).double()
    return torch.special.ndtr(0.6 * x) if on_cube(layer) else x


def fitted(name: str, n: int = 2000) -> tuple[Destructor, Tensor]:
    layer = DESTRUCTORS[name](2).double()
    x = rows_for(layer, n)
    layer.initialize(x)
    return layer, x


def deep(depth: int = 4) -> Compose:
    pairs = [(Rotation(2, kind="random", seed=seed), TreeDestructor(2, depth=6)) for seed in range(depth)]
    return chain([GaussianDestructor(2), *(layer for pair in pairs for layer in pair)]).double()


@every
def test_log_det_is_a_density_it_integrates_to_one(name):
    layer, _ = fitted(name)
    step = 0.002 if on_cube(layer) else 0.025
    axis = torch.arange(step / 2, 1, step) if on_cube(layer) else torch.arange(-10, 10, step)
    log_density = layer.encode(torch.cartesian_prod(axis.double(), axis.double())).log_det
    assert log_density.exp().sum().item() * step**2 == pytest.approx(1, abs=5e-3)


@every
def test_the_density_is_mapped_to_the_uniform(name):
    """Uniform points, decoded, have the density: `E_u[1 / p̂(x)]` over a box is the volume of the box."""
    layer, _ = fitted(name)
    x, log_det, _ = layer.decode(torch.rand(200_000, 2, dtype=torch.float64))
    low, high = (0.3, 0.6) if on_cube(layer) else (-0.5, 0.5)
    weights = torch.where(((x > low) & (x < high)).all(1), log_det.exp(), 0.0)
    assert abs(weights.mean() - (high - low) ** 2) < 4 * weights.std() / len(x) ** 0.5


@every
def test_it_is_closer_to_the_data_than_the_uniform_or_the_normal(name):
    layer, x = fitted(name)
    new = rows_for(layer, 5000)
    before = 0.0 if on_cube(layer) else StandardNormal(2).double().log_prob(new).mean()
    assert layer.encode(new).log_det.mean() > before + 0.02


@every
def test_the_map_is_exact(name):
    layer, x = fitted(name)
    x = x[:100]
    z, log_det, _ = layer.encode(x)
    back, inverse, _ = layer.decode(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-8)
    torch.testing.assert_close(inverse, -log_det, rtol=0, atol=1e-8)
    full = torch.autograd.functional.jacobian(lambda x: layer.encode(x).value.sum(0), x).movedim(1, 0)
    torch.testing.assert_close(torch.linalg.slogdet(full).logabsdet, log_det, rtol=0, atol=1e-8)


@every
def test_until_it_is_fitted_it_is_the_uniform_or_the_normal(name):
    layer = DESTRUCTORS[name](2).double()
    x = rows_for(layer, 50)
    expected = torch.zeros(50).double() if on_cube(layer) else StandardNormal(2).double().log_prob(x)
    torch.testing.assert_close(layer.encode(x).log_det, expected)


@every
def test_a_state_dict_fits_a_fresh_module(name):
    layer, x = fitted(name)
    twin = DESTRUCTORS[name](2).double()
    twin.load_state_dict(layer.state_dict())
    for one, other in zip(layer.encode(x)[:2], twin.encode(x)[:2], strict=True):
        assert torch.equal(one, other)


def test_the_gaussian_is_the_one_of_torch():
    layer, x = fitted("gaussian")
    expected = MultivariateNormal(x.mean(0), x.mT.cov()).log_prob(x)
    torch.testing.assert_close(layer.encode(x).log_det, expected)


def test_the_histogram_is_the_one_of_numpy():
    layer, x = fitted("histogram")
    counts = [np.histogram(column, 8, (0, 1))[0] + 1 for column in x.mT.numpy()]
    cells = (x * 8).long().mT.numpy()
    density = [8 * count[cell] / count.sum() for count, cell in zip(counts, cells, strict=True)]
    torch.testing.assert_close(layer.encode(x).log_det.exp(), torch.from_numpy(density[0] * density[1]))


def test_the_tree_has_constant_density_on_boxes_which_is_the_share_of_rows():
    """With a pseudo count that vanishes, `p̂ = n_leaf / (n · volume)`, counted here for each leaf."""
    layer = TreeDestructor(2, depth=5, pseudo_count=1e-9).double()
    x = rows_for(layer, 3000)
    layer.initialize(x)
    low, high = layer.leaves[0]
    inside = ((x[:, None] >= low) & (x[:, None] < high)).all(2)
    reached = inside.any(0) & (layer.leaves[1, 1] - layer.leaves[1, 0] > 0).all(1)
    density = inside.sum(0) / (3000 * (high - low).prod(1))
    leaf = inside.long().argmax(1)
    torch.testing.assert_close(layer.encode(x).log_det.exp(), density[leaf], rtol=1e-6, atol=0)
    assert reached.sum() > 8


def test_a_tree_on_uniform_rows_does_not_split():
    layer = TreeDestructor(5).double()
    x = torch.rand(1000, 5, dtype=torch.float64)
    layer.initialize(x)
    torch.testing.assert_close(layer.encode(x).value, x)


def test_a_tree_sees_a_pattern_that_no_single_split_shows():
    """Two opposite quarters of the square hold everything: the first split gains nothing, those below it log 2."""
    x = torch.rand(2000, 2, dtype=torch.float64)
    x[:, 1] = 0.5 * x[:, 1] + 0.5 * (x[:, 0] >= 0.5)
    layer = TreeDestructor(2, depth=4).double()
    layer.initialize(x)
    assert 0.6 < layer.encode(x).log_det.mean() < math.log(2) + 0.02


def test_a_second_fit_forgets_the_first():
    layer, x = fitted("tree")
    layer.initialize(torch.rand(1000, 2, dtype=torch.float64))
    torch.testing.assert_close(layer.encode(x).value, x)


def test_a_chain_stands_on_the_line_where_it_should_and_learns_more_with_depth():
    x, new = (toy("moons").sample(5000, dtype=torch.float64) for _ in range(2))
    losses = []
    for depth in (1, 8):
        flow = Flow(deep(depth), StandardNormal(2)).double()
        flow.initialize(x)
        losses.append(-flow.log_prob(new).mean().item())
    assert losses[1] < losses[0] - 0.05
    assert toy("moons").entropy < losses[1] < toy("moons").entropy + 0.25
    z = flow(new).z
    torch.testing.assert_close(flow.transform.decode(z).value, new, rtol=0, atol=1e-6)
    assert max(stats.kstest(column.numpy(), "norm").statistic for column in z.mT) < 0.05


def test_a_chain_puts_the_normal_between():
    gaussian, tree, turn = GaussianDestructor(2), TreeDestructor(2), Rotation(2)
    kinds = [type(member) for member in chain([gaussian, tree, turn, tree, gaussian]).transforms]
    assert kinds == [
        *(GaussianDestructor, TreeDestructor, Inverse, Rotation, NormalCDF, TreeDestructor),
        *(Inverse, GaussianDestructor, Inverse),
    ]
    assert chain([tree]).domain is tree.domain


def test_a_destructor_and_a_uniform_base_are_a_flow():
    layer, x = fitted("gaussian")
    flow = Flow(layer, Uniform(2)).double()
    torch.testing.assert_close(flow.log_prob(x), layer.encode(x).log_det)
    samples = flow.sample(50_000)
    torch.testing.assert_close(samples.mT.cov(), x.mT.cov(), rtol=0.1, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_points_stay_finite(dtype):
    flow = Flow(deep(), StandardNormal(2)).to(dtype)
    flow.initialize(toy("moons").sample(1000, dtype=dtype))
    far = torch.tensor([[0.0, 0.0], [9.0, -9.0], [30.0, 1.0], [-1e4, 1e5]], dtype=dtype)
    log_prob, z, _ = flow(far)
    assert log_prob.isfinite().all()
    assert (log_prob.diff() < 0).all()
    assert flow.transform.decode(z).value.isfinite().all()


def test_normal_cdf_is_the_one_of_scipy():
    x = torch.linspace(-8, 8, 101, dtype=torch.float64)[:, None]
    z, log_det, _ = NormalCDF().encode(x)
    torch.testing.assert_close(z, torch.from_numpy(stats.norm.cdf(x.numpy())), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(log_det, torch.from_numpy(stats.norm.logpdf(x[:, 0].numpy())))


def test_errors():
    with pytest.raises(ValueError, match="covariance.*singular"):
        GaussianDestructor(2).initialize(torch.randn(50, 1).repeat(1, 2))
    with pytest.raises(ValueError, match=r"1 rows have others, first \[2\]"):
        TreeDestructor(2).initialize(torch.tensor([[0.1, 0.2], [1.0, 0.0], [0.5, 1.5]]))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        HistogramDestructor(2).encode(-torch.ones(3, 2))
    with pytest.raises(ValueError, match="depth"):
        TreeDestructor(2, depth=0)
