"""Every public constructor and builder of the package, found by looking through its modules, and values to try."""

from __future__ import annotations

import importlib
import inspect
import itertools
import math
import pkgutil
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

import cnf
from cnf.arguments import hints_of
from cnf.continuous.fields import MLPField
from cnf.continuous.linearization import Linearization
from cnf.discrete import ActNorm, AffineMap
from cnf.models import MODELS
from cnf.networks import MADE, ConvResNet, ResidualMLP

NOT_MADE_BY_USERS = {
    "cnf.arguments": "the checker itself",
    "cnf.cli": "the command line has a parser of its own",
    "cnf.interop": "parts of other libraries, which check when they are used",
    "cnf.inference": "functions of densities and data, which have checks of their own",
    "cnf.plotting": "functions of data, which have checks of their own",
    "cnf.metrics": "functions of data",
    "cnf.calibration.fit_calibration": "a function of data",
    "cnf.data.benchmarks": "reads files",
    "cnf.data.columns": "looks at data",
    "cnf.data.image_files": "reads files",
    "cnf.data.reading": "reads files",
    "cnf.data.tabular": "reads files",
    "cnf.tables": "reads files, with checks of its own",
    "cnf.data.splits": "functions of data",
    "cnf.checkpoints": "reads files",
    "cnf.training": "made by a run, but for its settings",
}
RESULTS = {  # what the package hands out, and what it computes with, made in loops
    "Bar", "ChainJacobian", "Contraction", "Count", "FitResult", "FlowDistribution", "Growth", "Interruption", "Jumps",
    "MafSet", "MafSplits", "Monotone", "Motion", "Progress", "Recorded", "RefinedRows", "Replayed", "RowSolve", "Rows",
    "SharedSolve", "Source", "Split", "Steps", "Table", "Undone",
}  # fmt: skip
Maker = Callable[..., Any]


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(cnf.__path__, "cnf."):
        left_out = any(found.name.startswith(prefix) for prefix in (*NOT_MADE_BY_USERS, "cnf.__main__"))
        if not left_out or found.name == "cnf.training.settings":
            yield importlib.import_module(found.name)


def public() -> Iterator[tuple[str, Any]]:
    """All public classes and functions, each under the name of its module."""
    for module in modules():
        for name, value in vars(module).items():
            full = f"{module.__name__}.{name}"
            own = not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
            if own and full not in NOT_MADE_BY_USERS:
                yield full, value


def is_constructor(value: Any) -> bool:
    """Whether it is a class whose objects users make from arguments."""
    if not isinstance(value, type) or inspect.isabstract(value) or issubclass(value, (tuple, Exception, Linearization)):
        return False
    own = value.__init__ not in (nn.Module.__init__, object.__init__) and not getattr(value, "_is_protocol", False)
    return own and value.__name__ not in RESULTS and bool(inspect.signature(value).parameters)


def is_builder(value: Any) -> bool:
    """Whether it is a function that returns something of the package, or of torch, that is built from settings."""
    if not inspect.isfunction(value):
        return False
    returned = get_type_hints(value).get("return")
    return isinstance(returned, type) and issubclass(returned, nn.Module)


def is_checked(value: Any) -> bool:
    try:
        hints_of(value)
    except TypeError:
        return False
    return True


MAKERS: dict[str, Maker] = {
    name: value
    for name, value in public()
    if is_constructor(value) or (inspect.isfunction(value) and is_checked(value))
}
HINTS = {name: hints_of(maker) for name, maker in MAKERS.items() if is_checked(maker)}


class Pools:
    """Values that fit a hint, by drawing the parts; objects of the package are those that were made so far."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        normal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2), torch.ones(2)), 1)
        self.made: list[Any] = [nn.Linear(2, 2), torch.Generator(), torch.float32, normal]

    def fits(self, hint: Any) -> Any:
        """Draw a value that fits.

        Raises:
            LookupError: There is none yet.
        """
        kind, parts = get_origin(hint) or hint, get_args(hint)
        if kind is Annotated:
            return self._ruled(parts[0], parts[1:])
        if kind in (Union, UnionType):
            return self._one_of([lambda part=part: self.fits(part) for part in parts])
        if kind in (Sequence, list, tuple):
            several = parts if kind is tuple and parts[-1] is not ... else [parts[0]] * self.random.randint(1, 3)
            return tuple(self.fits(part) for part in several)
        if kind is Mapping:
            return {name: self.fits(parts[1]) for name in self.random.choice([(), ("a",), ("a", "b")])}
        if isinstance(kind, TypeVar):
            return self.fits(kind.__bound__ or Any)
        return self._plain(kind)

    def _one_of(self, draws: list[Callable[[], Any]]) -> Any:
        self.random.shuffle(draws)
        for draw in draws:
            try:
                return draw()
            except LookupError:
                pass
        raise LookupError

    def _ruled(self, base: Any, rules: Sequence[Any]) -> Any:
        known = [name for rule in rules for name in rule.known]
        if known:
            return self.random.choice(known)
        for _ in range(50):
            value = self.fits(base)
            if all(bool(torch.as_tensor(rule.holds(value)).all()) for rule in rules):
                return value
        raise LookupError

    def _plain(self, kind: Any) -> Any:
        if kind in SIMPLE:
            return self.random.choice(SIMPLE[kind])
        if kind is NoneType:
            return None
        return self.random.choice([value for value in self.made if isinstance(value, kind)])  # or an IndexError


def _first(x: Tensor, *rest: Any) -> Tensor:
    return x


TENSORS = [
    torch.zeros(2),
    torch.ones(3),
    torch.tensor(0.5),
    torch.tensor([0.2, 0.8]),
    torch.eye(2),
    torch.eye(3),
    torch.tensor([[0.5, 0.1], [0.1, 0.5]]),
    torch.tensor([True, False]),
    torch.tensor([[True, False], [False, True]]),
    torch.tensor([1, 0]),
]
SIMPLE: dict[Any, list[Any]] = {
    int: [0, 1, 2, 3, 4, 6],
    float: [0.0, 0.1, 0.3, 0.45, 0.5, 0.9, 1.0, 2.0, 3.0],
    bool: [True, False],
    str: ["rk4", "dopri5", "a", "cnf"],
    Tensor: TENSORS,
    Callable: [_first, torch.tanh],
    Any: [None, 1, "a", torch.zeros(2)],
    object: [None, 1, "a"],
}
"""Drawn for a plain type. Numbers are small, so that whatever is built of them is."""


class Opaque:
    """An object of no type that anything takes, whose representation is long."""

    def __repr__(self) -> str:
        return "an opaque object\n" * 50


ODD: list[Any] = [
    -1, 0, 1, 2, 3, 10**9, -(10**9), 10**15, 2**63, 10**400, 2.0, 2.5, -2.5, 0.0, 1e-300, 1e300, math.nan, math.inf,
    -math.inf, 1j, True, False, "x", "", "tanh", "rk4", b"2", None, [], (), [0], [1, 2], (2, 3), (2, 2.5), (1, 2, 2),
    [None], ["x"], {}, {"a": 1}, {1: 2}, {"a": Opaque()}, {1, 2}, range(3), object(), Opaque(), np.int64(2),
    np.float32(0.5), np.float64(math.nan), np.zeros(2), np.bool_(1), torch.tensor(2), torch.tensor([math.nan, 1.0]),
    torch.tensor([1 + 1j]), torch.zeros(0), torch.zeros(2, 0), torch.ones(2, 3), -torch.ones(2), torch.full((2,), 1e38),
    *TENSORS, torch.float32, nn.Linear, nn.Linear(2, 2), cnf.Exact, lambda: None, print, cnf.Exact(), cnf.RungeKutta(),
    cnf.KineticEnergy(), cnf.StandardNormal(2), cnf.MLPField(2, hidden=4), cnf.MaximumLikelihood(), slice(None), ...,
    iter(()),
]  # fmt: skip
"""Tried for every argument. Whole numbers are small or larger than any size, so that nothing huge is ever made."""


def _net(inputs: int, outputs: int) -> nn.Module:
    return ResidualMLP(inputs, outputs, hidden=4)


def _conv_net(inputs: int, outputs: int) -> nn.Module:
    return ConvResNet(inputs, outputs, hidden=4)


def _layers(shape: Sequence[int]) -> list[nn.Module]:
    return [ActNorm(shape[0])]


GIVEN: dict[str, dict[str, Any]] = {
    "cnf.discrete.multiscale.multiscale_halves": {
        "event_shape": (1, 4, 4),
        "before": _layers,
        "after": _layers,
        "scales": 1,
    },
    "cnf.data.image_sets.Flipped": {"images": torch.zeros(2, 1, 2, 2)},
    "cnf.data.energies.energy": {"name": "U1"},
    "cnf.data.toys.catalogue.toy": {"name": "moons"},
    "cnf.continuous.guidance.GuidedField": {"field": MLPField(2, hidden=(4, 4), context_dim=2), "weight": 1.0},
    "cnf.continuous.fields.partial.PartialField": {"network": MLPField(2, hidden=(4, 4), context_dim=6)},
    "cnf.discrete.autoregressive.Autoregressive": {
        "elementwise": AffineMap(),
        "net": MADE(2, AffineMap().size, hidden=4),
    },
    "cnf.discrete.glow.glow_step": {"features": 2, "net": _net},
    "cnf.discrete.glow.multiscale_glow": {"event_shape": (1, 4, 4), "net": _conv_net, "scales": 1, "steps": 1},
    "cnf.networks.activations.activation": {"name": "tanh"},
}
"""Arguments that cannot be found by trying."""


def baselines(rounds: int = 6, tries: int = 60) -> tuple[Pools, dict[str, dict[str, Any]]]:
    """Arguments that each maker takes, found by trying: those made first serve as arguments of others."""
    pools, found = Pools(), dict(GIVEN)
    for _, (name, hints) in itertools.product(range(rounds), HINTS.items()):
        for _ in range(tries if name not in found else 0):
            try:
                arguments = {key: pools.fits(hints[key]) for key in required(MAKERS[name])}
                made = call(name, arguments)
            except (ValueError, TypeError, LookupError):
                continue
            found[name] = arguments
            pools.made.append(made)
            break
    return pools, found


def required(maker: Maker) -> list[str]:
    """The arguments without a default."""
    parameters = inspect.signature(maker).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]


def call(name: str, arguments: Mapping[str, Any]) -> Any:
    """Call a maker with arguments by name; those of `*name` are a sequence."""
    maker, arguments = MAKERS[name], dict(arguments)
    many = [p.name for p in inspect.signature(maker).parameters.values() if p.kind is p.VAR_POSITIONAL]
    values = [value for key in many if key in arguments for value in _as_many(arguments.pop(key))]
    return maker(*values, **arguments)


def _as_many(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (tuple, list)) else [value]


__all__ = ["HINTS", "MAKERS", "MODELS", "ODD", "baselines", "call", "is_builder", "is_checked", "public"]
