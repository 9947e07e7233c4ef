"""Flow matching: paths against finite differences, couplings against brute force, the minimum against a formula."""

from __future__ import annotations

import copy
import itertools
import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cnf
from cnf.objectives import PATHS, Path
from cnf.objectives.couplings import COUPLINGS, Coupling, _entropic_plan
from cnf.transforms import Compose

DIM = 3


def points(n: int = 6, seed: int = 0, dim: int = DIM) -> Tensor:
    return torch.randn(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PATHS)
def test_the_velocity_is_the_derivative_of_the_path(name: str) -> None:
    path, base, data, noise = PATHS[name](), points(seed=1), points(seed=2), points(seed=3)
    t = torch.linspace(0.1, 0.9, len(base), dtype=torch.float64).unsqueeze(1)
    step = 1e-6
    ahead, behind = path(t + step, base, data, noise)[0], path(t - step, base, data, noise)[0]
    torch.testing.assert_close(path(t, base, data, noise)[1], (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PATHS)
def test_paths_lead_from_base_to_data(name: str) -> None:
    path, base, data, still = PATHS[name](), points(seed=1), points(seed=2), torch.zeros(6, DIM, dtype=torch.float64)
    start, end = (path(torch.full((6, 1), t, dtype=torch.float64), base, data, still)[0] for t in (0.0, 1.0))
    torch.testing.assert_close(start, base)
    torch.testing.assert_close(end, data, rtol=0, atol=1e-3)  # Lipman's leaves 1e-4 of the base


def test_a_bridge_is_finite_at_its_ends() -> None:
    t = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    for part in cnf.BridgePath(1.0)(t, points(2), points(2), points(2)):
        assert part.isfinite().all()


@pytest.mark.parametrize("make", [cnf.StraightPath, cnf.LipmanPath, cnf.VariancePreservingPath, cnf.BridgePath])
@pytest.mark.parametrize("sigma", [-0.1, math.nan])
def test_a_sigma_that_is_no_spread_is_refused(make: type, sigma: float) -> None:
    with pytest.raises(ValueError, match=f"sigma must .*, got {sigma}"):
        make(sigma=sigma)


def cost(base: Tensor, data: Tensor) -> float:
    return (base - data).square().sum().item()


def test_optimal_transport_is_the_best_of_all_permutations() -> None:
    base, data = points(seed=1), points(seed=2)
    rows = cnf.OptimalTransport()(base, data, None)
    best = min(cost(base[list(order)], data) for order in itertools.permutations(range(6)))
    assert cost(base[rows], data) == pytest.approx(best)
    assert sorted(rows.tolist()) == list(range(6))


def test_optimal_transport_is_the_same_without_pot(monkeypatch: pytest.MonkeyPatch) -> None:
    base, data = points(200, 1), points(200, 2)
    rows = cnf.OptimalTransport()(base, data, None)
    monkeypatch.setitem(sys.modules, "ot", None)
    assert torch.equal(cnf.OptimalTransport()(base, data, None), rows)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_points_that_are_not_finite_are_not_paired(value: float) -> None:
    base, data = points(5, 1), points(5, 2)
    data[3, 0] = value
    with pytest.raises(ValueError, match="finite distances"):
        cnf.OptimalTransport()(base, data, None)


def test_optimal_transport_keeps_classes_apart() -> None:
    base, data = points(40, 1), points(40, 2)
    classes = torch.eye(3, dtype=torch.float64)[torch.arange(40) % 3]
    rows = cnf.OptimalTransport()(base, data, classes)
    assert torch.equal(classes[rows], classes)
    for label in range(3):
        members = (classes[:, label] == 1).nonzero().flatten()
        alone = cnf.OptimalTransport()(base[members], data[members], None)
        assert torch.equal(rows[members], members[alone])


def test_groups_are_paired_among_themselves() -> None:
    base, data = points(50, 1), points(50, 2)
    rows = cnf.OptimalTransport(group=20)(base, data, None)
    for part in (slice(0, 20), slice(20, 40), slice(40, 50)):
        alone = cnf.OptimalTransport()(base[part], data[part], None)
        assert torch.equal(rows[part], part.start + alone)
    classes = (torch.arange(50) % 2).double().unsqueeze(1)
    rows = cnf.OptimalTransport(group=10)(base, data, classes)
    assert torch.equal(classes[rows], classes)
    assert sorted(rows.tolist()) == list(range(50))
    with pytest.raises(ValueError, match="group must be .* from 1 to .*, got 0"):
        cnf.OptimalTransport(group=0)


def test_context_blind_transport_would_bias_the_base_of_a_class_and_ours_does_not() -> None:
    """Two classes far apart: blindly paired, the base points of a class come from its side alone."""
    base, side = points(400, 1, 1), torch.arange(400, dtype=torch.float64).remainder(2).mul(2).sub(1).unsqueeze(1)
    data = 5 * side + 0.1 * points(400, 2, 1)
    blind = cnf.OptimalTransport(context_weight=0.0)(base, data, side)
    aware = cnf.OptimalTransport()(base, data, side)
    of_right = side[:, 0] == 1
    assert base[blind][of_right].mean() > 0.6
    assert base[aware][of_right].mean().abs() < 4 / math.sqrt(200)


def test_a_finite_context_weight_lies_between() -> None:
    base, data, context = points(30, 1), points(30, 2), points(30, 3)
    costs = []
    for weight in (0.0, 1.0, math.inf):
        rows = cnf.OptimalTransport(weight)(base, data, context)
        costs.append((cost(base[rows], data), cost(context[rows], context)))
    assert costs[0][0] < costs[1][0] < costs[2][0]
    assert costs[0][1] > costs[1][1] > costs[2][1] == 0


def test_a_negative_context_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="context_weight must be a number from 0 to inf, got -1"):
        cnf.OptimalTransport(context_weight=-1)


@pytest.mark.parametrize("name", COUPLINGS)
def test_no_points_are_coupled_to_no_points(name: str) -> None:
    assert COUPLINGS[name]()(torch.zeros(0, 2), torch.zeros(0, 2), None).shape == (0,)


def test_an_entropic_coupling_draws_from_the_plan() -> None:
    """Two points on each side: the plan has the closed form p = 1 / (1 + exp(−δ/2ε)) on the better pairing."""
    base, data = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.2], [0.9]])
    epsilon = 0.5
    gain = cost(base[[1, 0]], data) - cost(base, data)
    share = 1 / (1 + math.exp(-gain / (2 * epsilon)))
    torch.manual_seed(0)
    coupling = cnf.EntropicCoupling(epsilon, tolerance=1e-9)
    hits = sum((coupling(base, data, None) == torch.tensor([0, 1])).sum().item() for _ in range(1000)) / 2000
    assert abs(hits - share) < 4 * math.sqrt(share * (1 - share) / 2000)


def test_an_entropic_coupling_nears_the_optimal_one() -> None:
    base, data = points(seed=1), points(seed=2)
    torch.manual_seed(0)
    rows = cnf.EntropicCoupling(0.02, iterations=10_000)(base, data, None)
    assert torch.equal(rows, cnf.OptimalTransport()(base, data, None))


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_an_entropic_plan_has_its_marginals_however_small_the_epsilon(spread: float) -> None:
    costs = torch.cdist(points(60, 1), spread * points(60, 2)).square()
    plan = _entropic_plan(costs, 0.02, 2_000, 1e-3)
    for side in (0, 1):
        assert (plan.sum(side) - 1).abs().mean() < 4e-3


def test_no_two_points_of_a_stable_coupling_would_rather_have_each_other() -> None:
    base, data = points(40, 1), points(40, 2)
    rows = cnf.StableCoupling()(base, data, None)
    costs = torch.cdist(base, data)
    assert sorted(rows.tolist()) == list(range(40))
    of_data = costs[rows, torch.arange(40)]
    of_base = torch.empty_like(of_data).index_put((rows,), of_data)
    assert not ((costs < of_data) & (costs < of_base.unsqueeze(1))).any()
    assert cost(base[rows], data) > cost(base[cnf.OptimalTransport()(base, data, None)], data)


@pytest.mark.parametrize("make", [cnf.EntropicCoupling, cnf.StableCoupling])
def test_couplings_that_cannot_refuse_contexts(make: type[Coupling]) -> None:
    with pytest.raises(ValueError, match="would mix contexts"):
        make()(points(), points(), points())


@pytest.mark.parametrize("name", COUPLINGS)
def test_couplings_see_events_of_any_shape(name: str) -> None:
    base, data = torch.randn(5, 2, 3, 3), torch.randn(5, 2, 3, 3)
    rows = COUPLINGS[name]()(base, data, None)
    assert (rows.shape, rows.dtype) == ((5,), torch.int64)
    assert set(rows.tolist()) <= set(range(5))


class Gaussian(nn.Module):
    """The minimum of flow matching from N(0, I) to N(m, s²I) on independent straight paths."""

    def __init__(self, mean: Tensor, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.zero = nn.Parameter(torch.zeros(()))

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        t = t.reshape(-1, 1)
        variance = (1 - t) ** 2 + t**2 * self.std**2
        slope = (t * self.std**2 - (1 - t)) / variance
        return self.mean + slope * (x - t * self.mean) + self.zero


def gaussian_flow(mean: Tensor, std: float) -> cnf.Flow:
    solver = cnf.RungeKutta(rtol=1e-8, atol=1e-8)
    return cnf.Flow(cnf.CNF(Gaussian(mean, std), solver=solver), cnf.StandardNormal(len(mean)).double())


def test_the_minimum_carries_the_base_to_the_data() -> None:
    """The closed-form minimum: its gradient is zero, its loss the known residual, its density the data's."""
    mean, std = torch.tensor([1.0, -2.0], dtype=torch.float64), 0.5
    flow = gaussian_flow(mean, std)
    torch.manual_seed(0)
    x = mean + std * torch.randn(20_000, 2, dtype=torch.float64)
    loss = cnf.FlowMatching()(flow, x)
    assert loss.rows is not None
    (gradient,) = torch.autograd.grad(loss.value, list(flow.parameters()))
    error = loss.rows.std().item() / math.sqrt(len(x))
    residual = 2 * std * math.pi / 2  # D ∫ s² / ((1 − t)² + t² s²) dt = D s π/2
    assert abs(loss.value.item() - residual) < 4 * error
    assert gradient.abs() < 4 * 2 * 2 * math.sqrt(residual / len(x))
    exact = torch.distributions.Independent(torch.distributions.Normal(mean, std), 1).log_prob(x[:50])
    torch.testing.assert_close(flow.log_prob(x[:50]), exact, rtol=0, atol=1e-6)


class Recorder(Path):
    def __init__(self) -> None:
        self.times = torch.empty(0)

    def __call__(self, t: Tensor, base: Tensor, data: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        self.times = t
        return base, data


@pytest.mark.parametrize("late", [0.5, 1.0, 3.0])
def test_late_moves_times_to_the_data(late: float) -> None:
    path = Recorder()
    torch.manual_seed(0)
    cnf.FlowMatching(path, late=late)(cnf.build("cnf", 2, hidden=(4,)), torch.zeros(10_000, 2))
    for power in (1, 2):  # E (1 − t)^p = E u^(late p)
        assert (1 - path.times).pow(power).mean().item() == pytest.approx(1 / (late * power + 1), abs=1e-3)


def test_late_must_be_positive() -> None:
    with pytest.raises(ValueError, match="late must be a number above 0 .*, got 0"):
        cnf.FlowMatching(late=0)


@pytest.mark.parametrize("settings", [{"path": "straight"}, {"coupling": cnf.OptimalTransport}])
def test_names_and_classes_are_no_paths_and_couplings(settings: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"must be a (Path|Coupling) such as cnf\.\w+\(\), got"):
        cnf.FlowMatching(**settings)


def test_training_by_matching_gives_a_likelihood() -> None:
    torch.manual_seed(0)
    x = torch.randn(4000, 2) * torch.tensor([0.3, 2.0]) + torch.tensor([4.0, 0.0])
    flow = cnf.build("cnf", 2, hidden=(32, 32))
    config = cnf.FitConfig(steps=500, learning_rate=1e-2, progress=False)
    history = cnf.fit(flow, x, cnf.FlowMatching(coupling=cnf.OptimalTransport()), config=config).history
    entropy = 1 + math.log(2 * math.pi) + math.log(0.3 * 2.0)
    assert -flow.log_prob(x).mean().item() < entropy + 0.05
    assert history[-1]["matching"] == history[-1]["loss"]
    assert history[-1]["evaluations"] == 0


@pytest.mark.parametrize("shape", [(2,), (1, 2, 3)])
@pytest.mark.parametrize("context_dim", [0, 2])
def test_the_field_sees_what_it_sees_in_a_solve(shape: tuple[int, ...], context_dim: int) -> None:
    """Discrete transforms before and after the CNF bring data and base to its two ends."""
    torch.manual_seed(0)
    flow = cnf.build("cnf", shape, context_dim, hidden=(8, 8))
    x = torch.rand(50, *shape)
    context = torch.randn(50, context_dim) if context_dim else None
    flow.initialize(x, context)
    z, data, seen = flow.transform.continuous_part(torch.randn(50, *shape), x, context)[1:]
    assert z.shape == data.shape == (50, math.prod(shape))
    if context is not None:
        torch.testing.assert_close(seen, (context - context.mean(0)) / context.std(0))
    loss = cnf.FlowMatching()(flow, x, context)
    loss.value.backward()
    assert all(parameter.grad is not None for parameter in flow.parameters())


def test_transforms_between_field_and_base_move_the_base() -> None:
    scale = cnf.build("nice", 2, preprocess="none").transform
    field = cnf.MLPField(2, hidden=(4,))
    part = Compose([cnf.CNF(field), scale]).continuous_part(torch.randn(7, 2), torch.zeros(7, 2))
    torch.testing.assert_close(scale.encode(part.base).value.shape, torch.Size([7, 2]))
    t, x = torch.rand(7), torch.randn(7, 2)
    torch.testing.assert_close(part.velocity(t, x, None), field(t, x))


def test_another_data_set_as_the_source() -> None:
    """Trained from N(5, 0.1²) to N(−5, 0.1²), the field moves everything by −10."""
    torch.manual_seed(0)
    flow = cnf.build("cnf", 1, preprocess="none", hidden=(16, 16))
    matching = cnf.FlowMatching(source=lambda n: 5 + 0.1 * torch.randn(n, 1))
    cnf.fit(flow, -5 + 0.1 * torch.randn(1000, 1), matching, config=cnf.FitConfig(steps=300, progress=False))
    moved = flow.trajectory(5 + 0.1 * torch.randn(100, 1), [0.0, 1.0])[-1]
    assert (moved + 5).abs().mean() < 0.5


def test_a_source_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        cnf.FlowMatching(source=lambda n: torch.zeros(n, 3))(cnf.build("cnf", 2), torch.zeros(4, 2))


def test_validation_rows_cannot_judge_a_source() -> None:
    matching = cnf.FlowMatching(source=lambda n: torch.zeros(n, 2))
    with pytest.raises(ValueError, match="leave validation out"):
        cnf.fit(cnf.build("cnf", 2), torch.randn(9, 2), matching, torch.randn(9, 2), cnf.FitConfig(steps=1))


def test_a_source_that_is_not_finite_is_named() -> None:
    with pytest.raises(ValueError, match="the source returned NaN"):
        cnf.FlowMatching(source=lambda n: torch.full((n, 2), math.nan))(cnf.build("cnf", 2), torch.zeros(4, 2))


@pytest.mark.parametrize("objective", [cnf.FlowMatching(), cnf.MaximumLikelihood()])
def test_no_rows_have_no_loss(objective: Any) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        objective(cnf.build("cnf", 2), torch.zeros(0, 2))


def test_pairs_far_from_the_origin_are_those_at_it() -> None:
    base, data = points(256, 1, 2).float(), points(256, 2, 2).float()
    rows = cnf.OptimalTransport()(base, data, None)
    moved = cnf.OptimalTransport()(base + 1024, data + 1024, None)
    assert cost(base[moved], data) == pytest.approx(cost(base[rows], data), rel=1e-3)


def test_an_augmented_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        cnf.Reflow(cnf.build("augmented_cnf", 2))
    with pytest.raises(TypeError, match="teacher must be a Flow"):
        cnf.Reflow("cnf")  # type: ignore[arg-type]


def test_a_discrete_flow_is_refused() -> None:
    with pytest.raises(TypeError, match="needs a flow with a CNF"):
        cnf.FlowMatching()(cnf.build("realnvp", 2), torch.zeros(4, 2))


def test_several_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="2 CNFs in a row"):
        cnf.FlowMatching()(cnf.build("ffjord", 2, blocks=2), torch.zeros(4, 2))


def test_data_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="x must have shape"):
        cnf.FlowMatching()(cnf.build("cnf", 2), torch.zeros(4, 1))


def test_reflow_needs_a_teacher_of_the_same_events_and_contexts() -> None:
    flow, x = cnf.build("cnf", 2), torch.zeros(4, 2)
    with pytest.raises(ValueError, match="must have shape"):
        cnf.Reflow(cnf.build("cnf", 3))(flow, x)
    with pytest.raises(ValueError, match="this flow is conditional"):
        cnf.Reflow(cnf.build("cnf", 2, 1))(flow, x)


def test_reflow_keeps_the_ends_and_straightens_the_paths() -> None:
    torch.manual_seed(0)
    modes = torch.tensor([[-3.0, 0.0], [3.0, 0.0]])
    x = modes[torch.randint(2, (4000,))] + 0.3 * torch.randn(4000, 2)
    flow = cnf.build("cnf", 2, hidden=(64, 64), preprocess="none")
    cnf.fit(flow, x, cnf.FlowMatching(), config=cnf.FitConfig(steps=400, learning_rate=5e-3, progress=False))
    teacher = cnf.reconfigure(copy.deepcopy(flow), solver=cnf.RungeKutta("dopri5", rtol=1e-2, atol=1e-2))
    cnf.fit(flow, x, cnf.Reflow(teacher), config=cnf.FitConfig(steps=300, learning_rate=5e-3, progress=False))
    z = torch.randn(1000, 2)

    def bend(model: cnf.Flow) -> float:
        """How far one Euler step lands from the end of the path."""
        coarse = cnf.reconfigure(model, solver=cnf.RungeKutta("euler", steps=1))
        return (coarse.transform.push(z) - model.transform.push(z)).detach().square().sum(1).mean().item()

    assert bend(flow) < 0.2 * bend(teacher)
    assert (flow.transform.push(z) - teacher.transform.push(z)).detach().norm(dim=1).median() < 0.5
