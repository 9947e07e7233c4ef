"""Models: every builder makes a trainable flow of any event shape, with and without a context."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch
from instances import randomized

from cnf import (
    CNF,
    MODELS,
    Compose,
    Exact,
    FitConfig,
    Flow,
    Hutchinson,
    Model,
    Phase,
    RungeKutta,
    StandardNormal,
    build,
    load,
    reconfigure,
    save,
)  # fmt: skip
from cnf.training.plan import phases_of

TRAINED = [name for name in MODELS if name != "rbig"]  # which is fitted, and has no parameters
SPHERICAL = ["sphere_free_form", "sphere_cnf"]  # whose points are unit vectors
OF_TABLES = ["any_cnf"]  # of vectors alone, and conditions are cells of them
FREE_FORM = ["free_form", "sphere_free_form"]  # which have to learn to decode, by an objective of their own
CASES = {
    **{name: (name, (2,), 0, {}) for name in TRAINED},
    **{f"{name}|context": (name, (3,), 2, {}) for name in TRAINED if name not in OF_TABLES},
    **{f"{name}-array": (name, (2, 3), 0, {}) for name in TRAINED if name not in (*SPHERICAL, *OF_TABLES)},
    "ffjord-image": ("ffjord", (1, 4, 4), 0, {"hidden": (4,)}),
    "rnode-image|context": ("rnode", (2, 3, 3), 1, {"hidden": (4,)}),
    "ffjord-blocks": ("ffjord", (2,), 0, {"blocks": 3, "hidden": (8,)}),
    "flow_matching-image|context": ("flow_matching", (1, 4, 4), 2, {"hidden": 4}),
    "cnf-residual": ("cnf", (2,), 1, {"hidden": (8, 8, 8), "residual": True, "time": "concatsquash"}),
}
every = pytest.mark.parametrize(("name", "event_shape", "context_dim", "options"), CASES.values(), ids=CASES)


def data(name: str, event_shape: tuple[int, ...], context_dim: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    x, context = torch.rand(6, *event_shape), torch.randn(6, context_dim) if context_dim else None
    return (x / x.norm(dim=1, keepdim=True) if name in SPHERICAL else x), context


@every
def test_a_built_flow_has_a_density_samples_and_gradients(name, event_shape, context_dim, options):
    flow = build(name, event_shape, context_dim, **options)
    x, context = data(name, event_shape, context_dim)
    flow.initialize(x, context)
    randomized(flow, 0.5)
    loss = flow.recipe[-1].objective(flow, x, context)
    loss.value.backward()
    reached = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in flow.parameters()]
    assert flow.event_shape == event_shape
    assert loss.value.isfinite()
    assert sum(reached) >= len(reached) - 1  # the constant of a potential has no influence
    assert flow.sample(6, context).shape == (6, *event_shape)


@every
def test_a_built_flow_decodes_what_it_encodes(name, event_shape, context_dim, options):
    flow = build(name, event_shape, context_dim, **options)
    flow = flow if name in FREE_FORM else randomized(flow, 0.5)
    x, context = data(name, event_shape, context_dim)
    flow.initialize(x, context)
    z = flow(x, context).z
    assert torch.allclose(flow.transform.decode(z, context).value, x, atol=1e-3)
    assert (z.flatten(1)[:, : flow.event_shape.numel()] - x.flatten(1)).abs().max() > 1e-2 or name in FREE_FORM


@pytest.mark.parametrize("name", ["cnf", "rnode"])
@pytest.mark.parametrize("time", ["concat", "concatsquash"])
def test_models_that_start_at_the_identity_do(name, time):
    flow, x = build(name, 2, time=time, preprocess="none"), torch.randn(5, 2)
    assert torch.equal(flow(x).z, x)


def test_an_int_is_a_vector_shape():
    assert build("cnf", 3).event_shape == build("cnf", (3,)).event_shape == (3,)


def test_densities_are_in_the_units_of_the_data():
    flow, x = build("cnf", 2), torch.randn(500, 2)
    flow.initialize(x * 1000)
    in_thousands = build("cnf", 2)
    in_thousands.initialize(x)
    shift = 2 * torch.tensor(1000.0).log()
    assert torch.allclose(flow.log_prob(x * 1000) + shift, in_thousands.log_prob(x), atol=1e-3)


def trained(name: str, dim: int) -> list[CNF]:
    """The CNFs of a model with the settings it is trained with."""
    flow = build(name, dim)
    (*_, recipe) = flow.recipe
    twin = reconfigure(flow, divergence=recipe.divergence, solver=recipe.solver)
    return [part for part in twin.modules() if isinstance(part, CNF)]


def test_published_settings():
    (rnode,), (toy,), (table,), (ot,) = (
        trained("rnode", 4),
        trained("ffjord", 2),
        trained("ffjord", 5),
        trained("ot_flow", 2),
    )
    assert (rnode.solver, rnode.divergence) == (RungeKutta("rk4", steps=4), Hutchinson(noise="gaussian"))
    assert (ot.solver, ot.divergence) == (RungeKutta("rk4", steps=8), Exact())
    assert (toy.divergence, table.divergence) == (Exact(), Hutchinson(noise="gaussian"))
    assert (toy.solver.rtol, toy.solver.atol, toy.solver.steps) == (1e-5, 1e-5, None)
    assert sum(p.numel() for p in build("ot_flow", 2).parameters()) == 1229


@pytest.mark.parametrize("name", MODELS)
def test_models_report_exact_densities_whatever_they_train_with(name):
    parts = [part for part in build(name, 5).modules() if isinstance(part, CNF)]
    assert all(part.divergence == Exact() and part.solver.steps is None for part in parts)


def test_rbig_is_fitted_by_its_initialization():
    x = torch.randn(500, 3).exp()
    flow = build("rbig", 3, layers=10)
    flow.initialize(x)
    assert flow(x).z.std(0).sub(1).abs().max() < 0.15
    assert torch.allclose(flow.transform.decode(flow(x).z).value, x, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="rbig takes no context"):
        build("rbig", 3, context_dim=1)


@pytest.mark.parametrize("name", [name for name in TRAINED if name not in (*FREE_FORM, "flow_matching")])
def test_recipes_weigh_costs_that_their_models_have(name):
    flow = randomized(build(name, 2), 0.5)
    loss = flow.recipe[-1].objective(flow, data(name, (2,), 0)[0], None)
    weights = getattr(flow.recipe[-1].objective, "objective", flow.recipe[-1].objective).weights
    expected = loss.metrics["nll"] + sum(weight * loss.metrics[cost] for cost, weight in weights.items())
    assert set(weights) <= set(loss.metrics)
    assert torch.allclose(loss.value, expected)


def test_a_flow_of_ones_own_trains_by_plain_likelihood():
    flow = Flow(Compose([]), StandardNormal(2))
    assert flow.recipe == ()
    assert phases_of(flow, None, FitConfig()) == (Phase(),)


def test_a_recipe_goes_with_the_flow_its_twins_and_its_copies(tmp_path):
    flow, phases = build("ot_flow", 2), MODELS["ot_flow"].recipe(build("ot_flow", 2))
    assert flow.recipe == phases
    for other in (reconfigure(flow, divergence=Hutchinson()), copy.deepcopy(flow), load(save(flow, tmp_path))):
        assert other.recipe == phases
    assert Flow(flow.transform, flow.base, recipe=phases).recipe == phases
    flow.recipe = (Phase(learning_rate=0.5),)
    assert phases_of(flow, None, FitConfig()) == flow.recipe


def test_a_model_of_ones_own_is_built_trained_and_loaded_by_name(tmp_path, monkeypatch):
    def mine(event_shape, context_dim=0, *, depth=2):
        """Two layers."""
        return build("planar", event_shape, context_dim, layers=depth)

    model = Model(mine, lambda flow: (Phase(learning_rate=0.1, share=flow.event_shape.numel()),), "nobody")
    monkeypatch.setitem(MODELS, "mine", model)
    assert (model.summary, list(model.options)) == ("Two layers.", ["depth"])
    flow = load(save(build("mine", 3, depth=1), tmp_path))
    assert flow.recipe == (Phase(learning_rate=0.1, share=3),)
    with pytest.raises(ValueError, match="mine has no option width: its options are depth"):
        build("mine", 3, width=1)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_line_about_it_and_a_reference(name):
    assert re.fullmatch(r"\w.* \d{4}, arXiv \d{4}\.\d{4,5}(; .*)?", MODELS[name].reference)
    assert 20 < len(MODELS[name].summary) <= 120
    assert len(MODELS[name].recipe(build(name, 3))) >= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: build("realnpv", 2),
            "unknown model 'realnpv': known ones are cnf, ffjord, rnode, ot_flow, planar_cnf",
        ),
        (lambda: build("cnf", 2, width=3), "cnf has no option width: its options are hidden, activation, time"),
        (lambda: build("cnf", 2, -1), "context_dim must be .* from 0 to .*, got -1"),
        (lambda: build("cnf", 0), "event_shape must be a whole number from 1"),
        (lambda: build("cnf", 2, preprocess="sphere"), "preprocess must be one of 'standardize', .* got 'sphere'"),
        (lambda: build("cnf", 2, activation="relu"), "activation must be one of 'tanh', .* got 'relu'"),
    ],
)
def test_impossible_models_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_built_without_memory(name):
    shape = 3 if name.startswith("sphere") else 2
    with torch.device("meta"):
        empty = build(name, shape).state_dict()
    assert {key: value.shape for key, value in empty.items()} == {
        key: value.shape for key, value in build(name, shape).state_dict().items()
    }
    assert all(value.is_meta for value in empty.values())


@pytest.mark.parametrize("name", ["nsf_autoregressive", "nsf_coupling"])
def test_splines_start_from_what_a_condition_moves_beyond_their_bound(name):
    context = 3 * torch.randn(4000, 3)
    flow = build(name, 3, 3, layers=1, hidden=8)
    flow.initialize(context + 0.1 * torch.randn(4000, 3), context)
    new = 3 * torch.randn(2000, 3)
    distances = (flow.sample(2000, new) - new).abs().amax(1) / 0.1
    assert distances.max() < 6
    assert flow.log_prob(new + 0.1 * torch.randn(2000, 3), new).mean().item() == pytest.approx(2.65, abs=0.1)


@pytest.mark.parametrize("name", [name for name in MODELS if "sphere" not in name and "torus" not in name])
@pytest.mark.parametrize("dim", [2, 5])
def test_the_start_is_near_a_standard_normal(name, dim):
    x = 7 + 3 * torch.randn(500, dim)
    flow = build(name, dim)
    flow.initialize(x)
    excess = -flow.log_prob(x[:100]).mean() - dim * (math.log(3) + 0.5 * math.log(2 * math.pi * math.e))
    assert abs(excess) < 1.0


def test_wild_rows_do_not_blind_any_start_to_the_others():
    x = torch.poisson(torch.full((4000, 2), 5.0)) + torch.rand(4000, 2)
    x[:8] = 1e5 + 9e5 * torch.rand(8, 2)
    for name in ("cnf", "nsf_coupling", "maf"):
        flow = build(name, 2)
        flow.initialize(x)
        assert flow.log_prob(x[8:]).mean().item() == pytest.approx(-4.41, abs=0.12)
