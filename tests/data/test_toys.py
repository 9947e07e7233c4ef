"""The toy distributions: densities are normalised, entropies are right, and samples follow the densities."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from cnf.data import TOYS, Toy, toy

NAMES = ["swissroll", "circles", "rings", "moons", "8gaussians", "pinwheel", "2spirals", "checkerboard"]
CURVES = ["line", "cos"]
SMOOTH = [name for name in NAMES if name != "checkerboard"]
STEP, CELL = 0.0625, 8  # of the grid; grid points along a side of the coarse cells of the χ² test
SIDE = 208  # grid points along a side: [-6.5, 6.5]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def on_grid(name: str) -> torch.Tensor:
    """Log-densities at the midpoints of a fine grid, `(SIDE, SIDE)`."""
    axis = STEP * (torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2)
    x = torch.cartesian_prod(axis, axis)
    log_p = torch.full((len(x),), -math.inf, dtype=torch.float64)
    near = x.abs().amax(1) < (4.5 if name == "2spirals" else 6.5)  # what is beyond takes time and has no mass
    log_p[near] = toy(name).log_prob(x[near])
    return log_p.reshape(SIDE, SIDE)


def chi_square_p_value(name: str, x: torch.Tensor) -> float:
    """Probability of a larger χ² statistic, over cells of side `STEP * CELL`, if `x` follows the density."""
    cells = SIDE // CELL
    probability = on_grid(name).exp().reshape(cells, CELL, cells, CELL).sum((1, 3)).flatten() * STEP**2
    cell = (x.double() / (STEP * CELL) + cells / 2).floor().long()
    assert bool(((cell >= 0) & (cell < cells)).all())
    observed = torch.bincount(cell[:, 0] * cells + cell[:, 1], minlength=cells**2)
    expected = len(x) * probability
    large = expected >= 5
    observed = torch.cat([observed[large], observed[~large].sum(0, keepdim=True)])
    expected = torch.cat([expected[large], len(x) - expected[large].sum(0, keepdim=True)])
    keep = expected > 1  # the rest of the plane may be all but empty
    statistic = ((observed - expected) ** 2 / expected)[keep].sum()
    return torch.special.gammaincc((keep.sum() - 1) / 2, statistic / 2).item()


def reference_density(name: str, x: torch.Tensor, nodes: int = 20_001) -> torch.Tensor:
    """The density of a blurred curve by Simpson's rule over its parameter, written out independently."""
    u = torch.linspace(0, 1, nodes, dtype=torch.float64)
    simpson = torch.full((nodes,), 4.0, dtype=torch.float64)
    simpson[2:-1:2], simpson[0], simpson[-1] = 2.0, 1.0, 1.0
    c, s, t = torch.cos(math.pi * u), torch.sin(math.pi * u), 1.5 * math.pi * (1 + 2 * u)
    n = 3 * math.pi * u
    arms = {
        "moons": [(2 * c - 1, 2 * s - 0.2), (2 * (1 - c) - 1, 2 * (0.5 - s) - 0.2)],
        "swissroll": [(t * t.cos() / 5, t * t.sin() / 5)],
        "2spirals": [(-n * n.cos() / 3, n * n.sin() / 3), (n * n.cos() / 3, -n * n.sin() / 3)],
    }[name]
    weights = simpson * (2 * u if name == "2spirals" else 1)
    density = [
        (kernel(name, x[:, :1] - p, sign) * kernel(name, x[:, 1:] - q, sign) * weights).sum(1)
        for sign, (p, q) in zip((1, -1), arms, strict=False)
    ]
    return torch.stack(density).mean(0) / (3 * (nodes - 1))


def kernel(name: str, d: torch.Tensor, sign: int) -> torch.Tensor:
    """Density of the noise in one coordinate; in `2spirals` that of `sign` · U(0, 1/6) + .1ε."""
    if name != "2spirals":
        return torch.exp(-0.5 * (d / 0.2) ** 2) / (0.2 * math.sqrt(2 * math.pi))
    scale = 0.1 * math.sqrt(2)
    return 3 * (torch.erf(sign * d / scale) - torch.erf((sign * d - 1 / 6) / scale))


def test_names() -> None:
    assert sorted(TOYS) == sorted(NAMES + CURVES)
    for name, entry in TOYS.items():
        assert entry.name == name
        assert toy(name) is entry
        assert entry.event_shape == (2,)
        assert (entry.density is None) == (entry.entropy is None) == (name in CURVES)


@pytest.mark.parametrize("name", NAMES)
def test_density_integrates_to_one(name: str) -> None:
    mass = on_grid(name).exp().sum().item() * STEP**2
    assert mass == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_entropy_is_the_integral(name: str) -> None:
    log_p = on_grid(name)
    entropy = -torch.special.xlogy(log_p.exp(), log_p.exp()).sum().item() * STEP**2
    assert toy(name).entropy == pytest.approx(entropy, abs=2e-6)


@pytest.mark.parametrize("name", SMOOTH)
def test_entropy_is_the_mean_of_samples(name: str) -> None:
    n = 10_000 if name == "2spirals" else 50_000
    nll = -toy(name).log_prob(toy(name).sample(n, generator=seeded(1)))
    z = (nll.double().mean() - toy(name).entropy) / (nll.std() / math.sqrt(n))
    assert abs(z) < 3


@pytest.mark.parametrize("name", NAMES)
def test_samples_follow_the_density(name: str) -> None:
    p_value = chi_square_p_value(name, toy(name).sample(50_000, generator=seeded(2)))
    assert 1e-3 < p_value < 1 - 1e-3  # a fit too good would mean that points are not independent


def test_checkerboard_samples_are_never_impossible() -> None:
    board = toy("checkerboard")
    x = board.sample(200_000, generator=seeded(3))
    assert bool((board.log_prob(x) == torch.tensor(-math.log(32.0))).all())
    edges = torch.tensor([[4.0, 4.0], [-4.0, -4.0], [2.0, 3.0], [0.0, 0.0]])  # where rounding may put samples
    assert bool(board.log_prob(edges).isfinite().all())
    assert bool(board.log_prob(torch.tensor([[1.0, -1.0], [5.0, 5.0]])).isinf().all())


@pytest.mark.parametrize("name", ["swissroll", "circles", "moons"])
def test_samples_of_scikit_learn_follow_the_density(name: str) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    n, seed = 20_000, 4
    if name == "swissroll":
        x = torch.tensor(datasets.make_swiss_roll(n, noise=1.0, random_state=seed)[0][:, [0, 2]]) / 5
    elif name == "circles":
        x = torch.tensor(datasets.make_circles(n, factor=0.5, noise=0.08, random_state=seed)[0]) * 3
    else:
        x = torch.tensor(datasets.make_moons(n, noise=0.1, random_state=seed)[0]) * 2 + torch.tensor([-1, -0.2])
    assert chi_square_p_value(name, x) > 1e-3


@pytest.mark.parametrize("name", ["swissroll", "moons", "2spirals"])
def test_density_of_a_blurred_curve_is_exact(name: str) -> None:
    x = 8 * torch.rand(20, 2, generator=seeded(5), dtype=torch.float64) - 4
    x = torch.cat([x, toy(name).sample(20, generator=seeded(6), dtype=torch.float64)])
    torch.testing.assert_close(toy(name).log_prob(x).exp(), reference_density(name, x), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("name", "radii", "std"), [("circles", [1.5, 3], 0.24), ("rings", [0.75, 1.5, 2.25, 3], 0.08)])
def test_density_of_rings_is_a_radial_profile(name: str, radii: list[float], std: float) -> None:
    # The mean over φ of N(x; r (cos φ, sin φ), std²) for x on a ray: periodic, so a mean over nodes is exact.
    distance = torch.linspace(0, 4, 41, dtype=torch.float64)
    phi = 2 * math.pi * torch.arange(2000, dtype=torch.float64) / 2000
    r = torch.tensor(radii, dtype=torch.float64)[:, None, None]
    squares = (distance[:, None] - r * phi.cos()) ** 2 + (r * phi.sin()) ** 2
    reference = (torch.exp(-squares / (2 * std**2)) / (2 * math.pi * std**2)).mean((0, 2))
    x = torch.stack([0.6 * distance, -0.8 * distance], dim=1)
    torch.testing.assert_close(toy(name).log_prob(x).exp(), reference, rtol=1e-10, atol=1e-25)


def test_density_of_8gaussians_is_the_mixture() -> None:
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    centres = 4 * torch.stack([angle.cos(), angle.sin()], dim=1) / 1.414
    normal = torch.distributions.Independent(torch.distributions.Normal(centres, 0.5 / 1.414), 1)
    weights = torch.distributions.Categorical(logits=torch.zeros(8, dtype=torch.float64))
    mixture = torch.distributions.MixtureSameFamily(weights, normal)
    x = 8 * torch.rand(50, 2, generator=seeded(), dtype=torch.float64) - 4
    torch.testing.assert_close(toy("8gaussians").log_prob(x), mixture.log_prob(x), rtol=1e-12, atol=1e-12)


def test_density_of_the_pinwheel_keeps_the_law_of_the_radius() -> None:
    # Swirling only turns: the mean over angles of p(2ρ, φ) is that of the features' density, divided by det = 4.
    angle = 2 * math.pi * torch.arange(2000, dtype=torch.float64) / 2000
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    for radius in (0.1, 0.5, 1.0, 1.5):
        a, b = (radius * circle).unbind(1)
        features = torch.exp(-0.5 * ((a - 1) / 0.3) ** 2 - 0.5 * (b / 0.1) ** 2) / (2 * math.pi * 0.3 * 0.1)
        density = toy("pinwheel").log_prob(2 * radius * circle).exp()
        assert density.mean().item() == pytest.approx(features.mean().item() / 4, rel=1e-9)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    x = toy(name).sample(20, generator=seeded(7), dtype=torch.float64)
    assert torch.autograd.gradcheck(toy(name).log_prob, x.requires_grad_(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SMOOTH)
def test_log_prob_far_away_is_finite(name: str) -> None:
    x = torch.tensor([[0.0, 0.0], [30.0, -20.0], [-500.0, 3.0]], dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        log_p = toy(name).log_prob(x.to(dtype))
        assert log_p.dtype == dtype
        assert bool(log_p.isfinite().all())
        assert bool((log_p.diff() < 0).all())


@pytest.mark.parametrize("name", NAMES)
def test_float32_agrees_with_float64(name: str) -> None:
    x = toy(name).sample(2000, generator=seeded(8))
    single, double = toy(name).log_prob(x), toy(name).log_prob(x.double())
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_influence_each_other(name: str) -> None:
    x = toy(name).sample(1200, generator=seeded(9), dtype=torch.float64)  # more rows than are evaluated at once
    together = toy(name).log_prob(x)
    torch.testing.assert_close(toy(name).log_prob(x[500:530]), together[500:530], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(toy(name).log_prob(x.reshape(3, 400, 2)), together.reshape(3, 400))
    assert toy(name).log_prob(x[:0]).shape == (0,)
    assert toy(name).log_prob(x[0]).shape == ()


@pytest.mark.parametrize("name", TOYS)
def test_the_generator_is_the_only_source_of_randomness(name: str) -> None:
    state = torch.get_rng_state()
    first, second, other = (toy(name).sample(64, generator=seeded(seed)) for seed in (0, 0, 1))
    double = toy(name).sample(64, generator=seeded(0), dtype=torch.float64)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert torch.equal(first, double.float())
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", TOYS)
def test_without_a_generator_the_global_one_draws(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = toy(name).sample(10)
        torch.manual_seed(0)
        assert torch.equal(first, toy(name).sample(10))
        assert not torch.equal(first, toy(name).sample(10))


def test_curves_are_where_they_should_be() -> None:
    x, y = toy("line").sample(1000, generator=seeded(), dtype=torch.float64).unbind(1)
    assert torch.equal(x, y)
    x, y = toy("cos").sample(1000, generator=seeded(), dtype=torch.float64).unbind(1)
    assert torch.equal(y, 2.5 * x.sin())
    assert -2.5 <= x.min() < -2.4
    assert 2.4 < x.max() <= 2.5


@pytest.mark.parametrize("name", TOYS)
def test_a_number_of_points_may_be_zero_but_not_negative(name: str) -> None:
    assert toy(name).sample(0).shape == (0, 2)
    assert toy(name).sample((3, 0)).shape == (3, 0, 2)
    with pytest.raises(ValueError, match="-1"):
        toy(name).sample(-1)


def test_a_batch_shape_holds_the_same_points_as_their_number() -> None:
    points = toy("moons").sample(12, generator=seeded())
    assert torch.equal(toy("moons").sample((3, 4), generator=seeded()), points.reshape(3, 4, 2))
    with pytest.raises(TypeError, match="positional"):
        toy("moons").sample(5, seeded())


def test_errors() -> None:
    with pytest.raises(ValueError, match="'spiral'.*swissroll.*cos"):
        toy("spiral")
    with pytest.raises(ValueError, match="'line' has no density.*moons"):
        toy("line").log_prob(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        toy("moons").log_prob(torch.zeros(3, 4))
    with pytest.raises(TypeError, match="int64.*float"):
        toy("moons").log_prob(torch.zeros(3, 2, dtype=torch.int64))
    assert Toy("mine", lambda n, generator: torch.zeros(n, 2)).density is None
