"""Whatever a constructor is given, it makes a valid object or says itself what was wrong."""

from __future__ import annotations

import contextlib
import dis
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, get_args, get_origin

import pytest
import torch
from constructors import (
    HINTS,
    MAKERS,
    MODELS,
    ODD,
    Pools,
    baselines,
    call,
    is_builder,
    is_checked,
    public,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import cnf
from cnf.continuous.fields import FourierField
from cnf.continuous.twins import cnfs_of
from cnf.discrete import Affine, AffineMap, Dequantize, FixedPoint, Logit, RationalQuadratic, RussianRoulette

PACKAGE = str(Path(cnf.__file__).parent)
BUILDERS = {f"{model.build.__module__}.{model.build.__name__}" for model in MODELS.values()}
LARGE = 2**20 + 1


@pytest.fixture(scope="module")
def pools_and_baselines() -> tuple[Pools, dict[str, dict[str, Any]]]:
    return baselines()


def test_every_public_constructor_and_builder_is_checked():
    unchecked = [name for name, maker in MAKERS.items() if not is_checked(maker)]
    assert unchecked == [], "put @checked on these, or name them in tests/constructors.py with the reason"
    assert [name for name, value in public() if is_builder(value) and not is_checked(value)] == []
    assert set(HINTS) >= BUILDERS
    assert {cnf.FitConfig, cnf.Phase, cnf.RungeKutta, cnf.CNF, cnf.MLPField, cnf.Flow} <= set(MAKERS.values())


def test_every_argument_has_a_hint_that_says_what_a_number_may_be():
    for name, hints in HINTS.items():
        for argument, hint in hints.items():
            assert not {int, float} & set(plain(hint)), f"{name}: {argument} is any number"


def plain(hint: Any) -> list[Any]:
    """The types in a hint that no rule narrows."""
    parts = get_args(hint)
    if hasattr(hint, "__metadata__") or not parts or get_origin(hint) is Callable:
        return [hint]
    return [inner for part in parts for inner in plain(part)]


def test_every_constructor_is_tried(pools_and_baselines):
    assert [name for name in HINTS if name not in pools_and_baselines[1]] == []


def attempt(name: str, arguments: Mapping[str, Any]) -> Any:
    """What is made, or None if the package refuses; any other end is an error."""
    try:
        made = call(name, arguments)
    except (ValueError, TypeError) as error:
        if is_raised_by_the_package(error.__traceback__) and str(error):
            return None
        raise AssertionError(f"{name}({dict(arguments)!r}) ends elsewhere") from error
    assert repr(made)
    return made


def is_raised_by_the_package(traceback: TracebackType | None) -> bool:
    """Whether the innermost frame is the package's own and stands at a `raise`, not at a call into torch or Python."""
    assert traceback is not None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return code.co_filename.startswith(PACKAGE) and dis.opname[code.co_code[traceback.tb_lasti]] == "RAISE_VARARGS"


def assert_usable(flow: cnf.Flow) -> None:
    """Finite densities of two of its own samples, by a coarse grid where it is solved."""
    coarse = cnf.RungeKutta("midpoint", steps=2)
    flow = cnf.reconfigure(flow, solver=coarse, divergence=cnf.Exact()) if cnfs_of(flow) else flow
    length = flow.transform.context_dim
    context = torch.zeros(2, length) if length else None
    with torch.no_grad():
        x = flow.sample(2, context)
        kinds = {type(part) for part in flow.modules()}
        within = Logit in kinds and Dequantize not in kinds
        x = x.clamp(0.01, 0.99) if within else x  # the logit is infinite at the ends, which rounding reaches
        assert flow.log_prob(x, context).isfinite().all()


def odd_for(hint: Any) -> st.SearchStrategy[Any]:
    """Odd values; a function of a user is called, so its own errors are not the package's."""
    functions = takes_functions(hint)
    return st.sampled_from([value for value in ODD if not (functions and callable(value))])


def takes_functions(hint: Any) -> bool:
    return Callable in (get_origin(part) for part in [hint, *get_args(hint)])


@st.composite
def calls(draw: Callable[[st.SearchStrategy[Any]], Any]) -> tuple[str, dict[str, Any], int]:
    """A maker, odd values for none to two of its arguments, and a seed for fitting values of some others."""
    name = draw(st.sampled_from(sorted(HINTS)))
    chosen = draw(st.sets(st.sampled_from(sorted(HINTS[name])), min_size=0, max_size=2))
    return name, {key: draw(odd_for(HINTS[name][key])) for key in sorted(chosen)}, draw(st.integers(0, 2**16))


@settings(
    max_examples=5000,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(calls())
def test_whatever_comes_is_taken_or_refused_by_the_package(pools_and_baselines, case):
    pools, found = pools_and_baselines
    name, odd, seed = case
    pools.random.seed(seed)
    others = fitting(pools, name)
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = attempt(name, {**found[name], **others, **odd})
    if name in BUILDERS and made is not None and all(parameter.numel() < LARGE for parameter in made.parameters()):
        assert_usable(made)


def fitting(pools: Pools, name: str) -> dict[str, Any]:
    """Values that fit the hints of up to three arguments."""
    values = {}
    for key in pools.random.sample(sorted(HINTS[name]), min(3, len(HINTS[name]))):
        with contextlib.suppress(LookupError):
            values[key] = pools.fits(HINTS[name][key])
    return {key: value for key, value in values.items() if not takes_functions(HINTS[name][key])}


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: cnf.build("maf", 2, layers=-1), "layers"),
        (lambda: cnf.build("maf", 2, blocks=True), "blocks"),
        (lambda: cnf.build("cnf", 2, regularizers=5), "regularizers"),
        (lambda: cnf.build("cnf", b"2"), "event_shape"),
        (lambda: cnf.build("rbig", 2, layers=10**9), "layers"),
        (lambda: cnf.MLPField(2, hidden=0), "hidden"),
        (lambda: cnf.MLPField(0), "dim"),
        (lambda: cnf.MLPField(2, context_dim=-1), "context_dim"),
        (lambda: cnf.PlanarField(2, units=0), "units"),
        (lambda: cnf.PotentialField(2, rank={}), "rank"),
        (lambda: cnf.FitConfig(clip=math.nan), "clip"),
        (lambda: cnf.FitConfig(steps=2.5), "steps"),
        (lambda: cnf.FitConfig(batch_size=True), "batch_size"),
        (lambda: cnf.FitConfig(seed="x"), "seed"),
        (lambda: cnf.FitConfig(seed=10**15), "seed"),
        (lambda: cnf.FitConfig(solver="rk4"), "solver"),
        (lambda: cnf.FitConfig(learning_rate=math.inf), "learning_rate"),
        (lambda: cnf.Phase(solver=cnf.Exact()), "solver"),
        (lambda: cnf.ReverseKL("x"), "log_target"),
        (lambda: cnf.NeuralODE(5), "field"),
        (lambda: FixedPoint(tolerance="x"), "tolerance"),
        (lambda: RussianRoulette(probes=math.nan), "probes"),
        (lambda: cnf.Bottleneck(hidden=2.5), "hidden"),
        (lambda: cnf.Augment(extra=math.nan), "extra"),
        (lambda: RationalQuadratic(bins=2.5), "bins"),
        (lambda: cnf.RungeKutta(rtol=math.inf), "rtol"),
        (lambda: cnf.DiagonalNormal(2, scale=-1), "scale"),
        (lambda: cnf.DiagonalNormal(2, scale=1e-300), "scale"),
        (lambda: cnf.DiagonalNormal(2, loc=torch.zeros(3)), "loc"),
        (lambda: cnf.GaussianMixture(torch.zeros(2, 1), weights=torch.tensor([1.0, -1.0])), "weights"),
        (lambda: cnf.GaussianMixture(torch.zeros(2, 1), weights=torch.ones(3)), "weights"),
        (lambda: cnf.Uniform(2, high=math.inf), "high"),
        (lambda: Affine(2, shift=math.nan), "shift"),
        (lambda: Affine(2, shift=torch.zeros(3)), "shift"),
        (lambda: Affine(2, scale=1e300), "scale"),
        (lambda: AffineMap(bound=1e3), "bound"),
        (lambda: FourierField(2, frequency=1e300), "frequency"),
    ],
)
def test_what_was_once_taken_or_failed_deep_inside_is_refused_by_name(make, named):
    with pytest.raises((ValueError, TypeError), match=f"^{named} must "):
        make()
