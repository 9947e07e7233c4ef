"""The checker itself: what it takes, what it refuses, and how it says so."""

from __future__ import annotations

import inspect
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnf.arguments import (
    Finite,
    NonNegative,
    Positive,
    Reals,
    Seed,
    Size,
    SizeOrZero,
    Sizes,
    Widths,
    above,
    checked,
    conform,
    hints_of,
    of_floats,
    one_of,
)

NAN, INF = math.nan, math.inf
CHOICE = Annotated[str, one_of(("encode", "decode"))]


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Size, 1),
        (Size, np.int64(3)),
        (SizeOrZero, 0),
        (Positive, 3),
        (Positive, np.float32(0.5)),
        (Finite, -2.5),
        (float, INF),
        (Positive | None, None),
        (bool, True),
        (Widths, 64),
        (Widths, (64, 64)),
        (Widths, [64]),
        (tuple[Size, float], (2, 0.5)),
        (tuple[Size, ...], ()),
        (Mapping[str, Finite], {"kinetic": 0.1}),
        (CHOICE, "decode"),
        (Annotated[str, one_of({"tanh": 1})], "tanh"),
        (Annotated[Tensor | float, above(0)], torch.ones(3)),
        (Annotated[Tensor, of_floats(1, 2)], torch.zeros(2, 3)),
        (Annotated[Tensor, above(0)], torch.empty(2, device="meta")),
        (Tensor, torch.ones(2, dtype=torch.bool)),
        (Sequence[nn.Module], nn.ModuleList([nn.Tanh()])),
        (Callable[[Tensor], Tensor], torch.tanh),
        (Any, object()),
    ],
)
def test_what_fits_the_hint_is_taken_as_it_is(hint, value):
    taken = conform("argument", hint, value)
    assert taken is value or taken == value
    assert not isinstance(taken, np.generic)


@pytest.mark.parametrize(
    ("hint", "value", "error", "message"),
    [
        (Size, 0, ValueError, "must be a whole number from 1 to 1048576, got 0"),
        (Size, 2**40, ValueError, "from 1 to 1048576"),
        (Size, 2.0, TypeError, "must be a whole number .* got 2.0"),
        (Size, True, TypeError, "got True"),
        (Size, "3", TypeError, "got '3'"),
        (Size, torch.tensor(3), TypeError, r"got tensor\(3\)"),
        (SizeOrZero, -1, ValueError, "got -1"),
        (Seed, 10**15, ValueError, "from 0 to 4294967295"),
        (bool, 1, TypeError, "must be True or False, got 1"),
        (float, NAN, ValueError, "must be a number, got nan"),
        (Positive, INF, ValueError, "a number above 0 and below infinity, got inf"),
        (Positive, 0, ValueError, "got 0"),
        (Positive, False, TypeError, "got False"),
        (Positive, 1j, TypeError, "got 1j"),
        (Finite, 10**400, ValueError, "got int, 1000"),
        (NonNegative, -1e-9, ValueError, "not below 0"),
        (Positive | None, "x", TypeError, "below infinity or None, got 'x'"),
        (Widths, 0, ValueError, "from 1 to 1048576 or a sequence of them, got 0"),
        (Widths, (64, 0), ValueError, "got 0 at position 1"),
        (Widths, (64, 2.5), TypeError, "got 2.5 at position 1"),
        (Widths, (), ValueError, r"got \(\)"),
        (Sizes, "12", TypeError, "got '12'"),
        (Sizes, b"2", TypeError, "got b'2'"),
        (Sizes, {2: 3}, TypeError, "got {2: 3}"),
        (tuple[Size, Size], (1, 2, 3), ValueError, r"of 2 whole numbers from 1 to 1048576, got \(1, 2, 3\)"),
        (tuple[Size, str], (1,), ValueError, r"of length 2: a whole number from 1 to 1048576, a string, got \(1,\)"),
        (tuple[Size, ...], 3, TypeError, "a sequence of whole numbers from 1 to 1048576, got 3"),
        (Mapping[str, Finite], {"kinetic": INF}, ValueError, "mapping of strings to .*, got inf at 'kinetic'"),
        (Mapping[str, Finite], 5, TypeError, "got 5"),
        (Sequence[Mapping[str, Size]], [{}, {"a": 0}], ValueError, "got 0 at 'a' at position 1"),
        (CHOICE, "x", ValueError, "must be one of 'encode', 'decode', got 'x'"),
        (CHOICE, None, TypeError, "got None"),
        (Annotated[str, one_of({"tanh": 1})], "x", ValueError, "must be one of 'tanh', got 'x'"),
        (Annotated[str, one_of({"tanh": 1})], ["tanh"], TypeError, r"got \['tanh'\]"),
        (Tensor, 1.0, TypeError, "must be a tensor, got 1.0"),
        (Reals, torch.tensor([1, NAN]), ValueError, r"without NaN and infinity, got tensor\(\[1., nan\]\)"),
        (Tensor, torch.zeros(2, dtype=torch.complex64), TypeError, "got tensor"),
        (Annotated[Tensor | float, above(0)], torch.tensor([1.0, -1.0]), ValueError, "above 0"),
        (Annotated[Tensor, of_floats(1)], torch.ones(3, dtype=torch.int), ValueError, "of floating point"),
        (nn.Module, nn.Linear, TypeError, "must be a torch.nn.Module, got the class Linear itself: call it"),
        (nn.Module | None, object, TypeError, "got the class object itself"),
        (Callable[[int], int], int, TypeError, "must be a function, got the class int itself"),
        (Callable[[int], int], 5, TypeError, "got 5"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_expected_and_what_came(hint, value, error, message):
    with pytest.raises(error, match=f"^argument must be .*{message.removeprefix('must be ')}"):
        conform("argument", hint, value)


@checked
@dataclass(frozen=True)
class Settings:
    width: Size = 3
    kind: Annotated[str, one_of({"a": 1})] = "a"

    def __post_init__(self) -> None:
        if self.width == 13:
            raise ValueError("13")


@checked
class Net(nn.Module):
    def __init__(self, dim: Size, *, rate: Positive = 1.0) -> None:
        super().__init__()
        self.dim, self.rate = dim, rate


class Wider(Net):
    def __init__(self, dim: int) -> None:
        super().__init__(2 * dim)


@checked
def total(*parts: Size, scale: Size = 1, **more: Size) -> int:
    return scale * sum(parts) + sum(more.values())


def test_settings_are_checked_however_they_are_made():
    with pytest.raises(ValueError, match="width must"):
        Settings(0)
    with pytest.raises(ValueError, match="kind must be one of 'a', got 'b'"):
        replace(Settings(), kind="b")
    with pytest.raises(ValueError, match="^13$"):
        Settings(width=13)
    assert pickle.loads(pickle.dumps(Settings(4))) == Settings(4)
    assert type(Settings(np.int32(4)).width) is int


def test_classes_keep_their_signature_and_their_subclasses():
    assert list(inspect.signature(Net).parameters) == ["dim", "rate"]
    assert Wider(3).dim == 6
    with pytest.raises(ValueError, match="dim must"):
        Wider(0)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'dim'"):
        Net()
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        Net(2, width=3)


def test_every_one_of_many_arguments_is_checked():
    assert total(1, 2, scale=2, other=5) == 11
    with pytest.raises(ValueError, match="parts must be .* got 0"):
        total(1, 0)
    with pytest.raises(TypeError, match="other must be .* got 'x'"):
        total(1, other="x")


def test_hints_of_what_is_checked():
    assert hints_of(total) == {"parts": Size, "scale": Size, "more": Size}
    assert hints_of(Net) == {"dim": Size, "rate": Positive}
    with pytest.raises(TypeError, match="is not checked"):
        hints_of(print)
