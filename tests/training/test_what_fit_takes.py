"""What `fit` takes: data of every kind or a remedy, weights of rows, objectives that return a number."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import cnf
from cnf.data.rows import Rows

X = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
C = torch.rand(60, 1, generator=torch.Generator().manual_seed(1))


def config(**changes: Any) -> cnf.FitConfig:
    return cnf.FitConfig(**{"steps": 4, "batch_size": 32, "checks": 2, "warmup": 0, "progress": False, **changes})


def flow(context: int = 0) -> cnf.Flow:
    torch.manual_seed(0)
    return cnf.build("realnvp", 2, context, layers=2, hidden=(8,))


class Stream(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Any:
        return iter(X)


class Unsized(Dataset[torch.Tensor]):
    def __getitem__(self, row: int) -> torch.Tensor:
        return X[row]


class Items(Dataset[Any]):
    def __init__(self, item: Any) -> None:
        self.item = item

    def __len__(self) -> int:
        return 60

    def __getitem__(self, row: int) -> Any:
        return self.item


class DataFrame:
    __module__ = "pandas.core.frame"


array = X.numpy()
REFUSED = {
    "complex": (X + 1j, ValueError, "must be real, got torch.complex64.*view_as_real"),
    "complex array": (array + 1j, ValueError, "must be real, got complex"),
    "complex context": ((X, C + 1j), ValueError, "must be real"),
    "masked": (np.ma.masked_greater(array, 1.0), ValueError, "masked array.*drop their rows"),
    "masked context": ((array, np.ma.masked_array(C.numpy())), ValueError, "masked array"),
    "objects": (array.astype(object), ValueError, r"must be numbers, got an array of object.*astype\(float\)"),
    "words": (array.astype(str), ValueError, "must be numbers"),
    "dates": (np.zeros((5, 2), "datetime64[s]"), ValueError, "must be numbers"),
    "records": (np.zeros(5, [("a", float), ("b", float)]), ValueError, "must be numbers"),
    "sparse": (X.to_sparse(), ValueError, r"dense tensor.*to_dense\(\)"),
    "list": ([X, C], TypeError, r"got list: give \(x, context\) as a tuple"),
    "list of numbers": ([[1.0, 2.0]], TypeError, r"torch.tensor\(data\)"),
    "frame": (DataFrame(), TypeError, r"got DataFrame: .*table.to_numpy\(\)"),
    "loader": (DataLoader(TensorDataset(X)), TypeError, "got DataLoader: give its dataset, loader.dataset"),
    "generator": ((row for row in X), TypeError, r"torch.stack\(list\(rows\)\)"),
    "stream": (Stream(), TypeError, r"got Stream.*torch.stack\(list\(dataset\)\)"),
    "unsized": (Unsized(), TypeError, "Unsized has no length"),
    "dict": ({"x": X}, TypeError, r"give x or \(x, context\)"),
    "path": ("x.npy", TypeError, "read it first"),
    "none": (None, TypeError, r"MaximumLikelihood\(weights=\{\}\) needs rows"),
    "number": (torch.tensor(3.0), TypeError, "without dimensions"),
    "three": ((X, C, C), ValueError, "a tuple of 3"),
    "empty": (X[:0], ValueError, "there are no rows"),
    "empty pair": ((), ValueError, "a tuple of 0"),
    "unequal": ((X, C[:50]), ValueError, r"lengths \[50, 60\]"),
    "words in a dataset": (Items("a"), TypeError, r"must be x or \(x, context\) of real numbers"),
    "dicts in a dataset": (Items({"x": X[0]}), TypeError, r"must be x or \(x, context\) of real numbers"),
    "triples in a dataset": (Items((X[0], C[0], C[0])), TypeError, r"must be x or \(x, context\) of real numbers"),
    "complex in a dataset": (Items(X[0] + 1j), TypeError, r"must be x or \(x, context\) of real numbers"),
    "objects in a dataset": (Items(object()), TypeError, "items of a dataset must be numbers"),
    "overflow": (X.double() * 1e39, ValueError, r"overflows float32.*in .. of 60 rows.*flow.double\(\)"),
    "width": (torch.randn(9, 3), ValueError, "data that does not fit the flow: each row must have shape"),
    "unexpected context": ((X, C), ValueError, "data that does not fit the flow: this flow takes no context"),
}


@pytest.mark.parametrize(("data", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_data_without_real_rows_are_refused_with_a_remedy(data: Any, error: type[Exception], message: str) -> None:
    for given in ({"data": data}, {"data": X, "validation": data}):
        if data is None and "validation" in given:
            continue
        wanted = message.replace("data that", "validation that") if "validation" in given else message
        with pytest.raises(error, match=wanted):
            cnf.fit(flow(), config=config(), **given)


def test_numbers_of_every_kind_are_rows(tmp_path: Path) -> None:
    whole = (10 * X).round()
    np.save(tmp_path / "x.npy", whole.numpy().astype(">f8"))
    for data in (
        whole.int(), whole.half(), whole.bfloat16(), whole.numpy().astype(">i4"), whole.numpy().astype(np.longdouble),
        whole.numpy().astype(np.int8), np.load(tmp_path / "x.npy", mmap_mode="r"), whole.numpy()[::-1][::-1],
        Subset(TensorDataset(whole), range(60)), Rows(whole.double(), torch.float64), whole.clone().requires_grad_(),
        np.asmatrix(whole.numpy()),
    ):  # fmt: skip
        x, _, numbers = Rows(data).read(range(60)) if not isinstance(data, Rows) else data.read(range(60))
        assert torch.equal(x.float(), whole)
        assert torch.equal(numbers, torch.arange(60))
        cnf.fit(flow(), data, config=config(steps=1))


# Weights


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_flow_of_half_precision_is_refused_with_what_is_meant(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=r"computed in float32 or float64.*precision='bf16-mixed'"):
        cnf.fit(flow().to(dtype), X.to(dtype), config=config(steps=1))


def trained(data: Any = X, context: int = 0, **given: Any) -> torch.Tensor:
    made = cnf.fit(flow(context), data, config=config(**given.pop("settings", {})), **given).flow
    return torch.cat([parameter.detach().flatten() for parameter in made.parameters()])


def test_equal_weights_change_nothing_and_their_size_does_not_matter() -> None:
    assert torch.allclose(trained(), trained(weights=torch.ones(60)), atol=1e-7)
    uneven = torch.rand(60)
    assert torch.allclose(trained(weights=uneven), trained(weights=(40 * uneven).tolist()), atol=1e-6)
    assert not torch.allclose(trained(), trained(weights=uneven), atol=1e-4)


def test_the_weighted_gradient_is_that_of_rows_written_as_often() -> None:
    times = torch.randint(0, 4, (60,))
    flows = flow(), flow()
    losses: list[torch.Tensor] = []
    for made, data, weights in ((flows[0], X, times), (flows[1], X.repeat_interleave(times, 0), None)):
        made.initialize(X)
        result = cnf.fit(made, data, weights=weights, config=config(steps=1, batch_size=1000, clip=0, weight_decay=0))
        losses.append(torch.tensor(result.history[-1]["loss"]))
    torch.testing.assert_close(losses[0], losses[1])
    for left, right in zip(flows[0].parameters(), flows[1].parameters(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)


def test_weights_go_with_their_rows(tmp_path: Path) -> None:
    weights = torch.rand(60)
    expected = trained((X, C), 1, weights=weights)
    for name, part in (("x", X), ("c", C)):
        np.save(tmp_path / f"{name}.npy", part.numpy())
    mapped = tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xc")
    assert torch.equal(trained(mapped, 1, weights=weights.numpy()), expected)
    more = torch.cat([torch.full((5, 2), 7.0), X]), torch.cat([torch.zeros(5, 1), C])
    assert torch.equal(trained(Rows(more, choice=np.arange(5, 65)), 1, weights=weights), expected)


def test_a_weighted_flow_learns_the_weighted_density() -> None:
    x = torch.cat([torch.randn(400, 1) - 2, torch.randn(400, 1) + 2])
    weights = torch.cat([torch.full((400,), 9.0), torch.ones(400)])
    torch.manual_seed(0)
    made = cnf.build("cnf", 1, hidden=(16, 16))
    cnf.fit(made, x, weights=weights, config=config(steps=200, batch_size=200))
    share = (made.sample(2000) < 0).double().mean().item()
    exact = 0.9 * 0.977 + 0.1 * 0.023
    assert share == pytest.approx(exact, abs=0.04)


def test_validation_takes_weights_of_its_own() -> None:
    made, weights = flow(), torch.rand(20) * (torch.arange(20) > 3)
    result = cnf.fit(made, X, validation=X[:20], validation_weights=weights, config=config())
    with torch.no_grad():
        nll = -(weights * made.log_prob(X[:20])).sum() / weights.sum()
    assert result.best_validation == pytest.approx(nll.item(), abs=1e-5)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (torch.ones(59), ValueError, r"must be one real number a row, \(60,\), got \(59,\)"),
        (torch.ones(60, 1), ValueError, "number a row"),
        (-torch.arange(60), ValueError, r"not negative, 59 are not, first in rows \[1, 2"),
        (torch.full((60,), math.nan), ValueError, "finite"),
        (torch.zeros(60), ValueError, "must not all be 0"),
        (torch.ones(60) + 1j, ValueError, "real"),
        ("abc", TypeError, "weights must be numbers"),
        ({"a": 1}, TypeError, "weights must be numbers"),
    ],
)
def test_weights_that_cannot_be(weights: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cnf.fit(flow(), X, weights=weights, config=config())
    with pytest.raises(ValueError, match="no validation rows"):
        cnf.fit(flow(), X, validation_weights=weights, config=config())


def test_weights_want_an_objective_of_rows() -> None:
    for objective in (cnf.ReverseKL(lambda x: -x.square().sum(1)), lambda flow, x, context: -flow.log_prob(x).mean()):
        with pytest.raises(TypeError, match="weights need an objective that gives the loss of each row"):
            cnf.fit(flow(), X, objective, weights=torch.ones(60), config=config())
    with pytest.raises(ValueError, match="takes no weights"):
        cnf.fit(cnf.build("rbig", 2, layers=3), X, weights=torch.ones(60), config=config())
    cnf.fit(cnf.build("cnf", 2, hidden=(8,)), X, cnf.FlowMatching(), weights=torch.ones(60), config=config())
    cnf.fit(cnf.build("free_form", 2), X, weights=torch.ones(60), config=config(steps=1))


# Objectives


def test_an_objective_may_return_a_number() -> None:
    plain = trained(objective=lambda flow, x, context: -flow.log_prob(x, context).mean())
    assert torch.allclose(plain, trained(objective=cnf.MaximumLikelihood()), atol=1e-7)
    result = cnf.fit(flow(), X, lambda f, x, c: cnf.Loss(-f.log_prob(x).mean(), {"three": 3}), config=config())  # type: ignore[dict-item]
    assert result.history[-1]["three"] == 3


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda nll: nll, ValueError, r"the loss must be one number, got \(32,\): return its mean"),
        (lambda nll: nll.mean().item(), TypeError, r"must return cnf.Loss\(value\) or a scalar tensor, got float"),
        (lambda nll: (nll.mean(), {}), TypeError, "got tuple"),
        (lambda nll: None, TypeError, "got NoneType"),
        (lambda nll: nll.mean().detach(), ValueError, "depends on no parameter"),
        (lambda nll: cnf.Loss(1.0), TypeError, "got Loss: keep the value a tensor"),
    ],
)
def test_an_objective_that_returns_no_number(returned: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cnf.fit(flow(), X, lambda flow, x, context: returned(-flow.log_prob(x)), config=config())


# Failed rows


class Stubborn(cnf.discrete.Affine):  # type: ignore[name-defined]
    """Its root is not found for large rows, at any time or in validation only."""

    def encode(self, x: torch.Tensor, context: torch.Tensor | None = None) -> cnf.Mapped:
        bad = (x > 50).any(1).nonzero().flatten().tolist()
        if bad:
            raise cnf.ConvergenceError("no root was found", bad)
        return super().encode(x, context)


def stubborn() -> cnf.Flow:
    trainable = flow().transform
    made = cnf.Flow(cnf.Compose([Stubborn(2), trainable]), cnf.StandardNormal(2))
    made.initialize(X)
    return made


def test_a_failed_root_names_the_rows_of_the_user_s_data() -> None:
    x = X.clone()
    x[41] = 99.0
    with pytest.raises(cnf.TrainingError, match=r"no root was found.*Rows of the data: \[41\] \(1 in all\)"):
        cnf.fit(stubborn(), Subset(TensorDataset(x), range(60)), config=config(batch_size=60))
    chosen = Rows(x, choice=np.array([3, 41, 5, 7]))
    with pytest.raises(cnf.TrainingError, match=r"Rows of the data: \[41\]"):
        cnf.fit(stubborn(), chosen, config=config())
    result = cnf.fit(stubborn(), X, validation=x, config=config())
    assert result.best_validation == math.inf


def test_a_failed_start_names_the_rows_of_the_user_s_data() -> None:
    x = X.clone()
    x[41] = 99.0
    made = cnf.Flow(cnf.Compose([Stubborn(2), cnf.build("realnvp", 2).transform]), cnf.StandardNormal(2))
    with pytest.raises(cnf.CnfError, match=r"Samples: 41 \(1 in all\)|Rows of the data: \[41\]"):
        cnf.fit(made, Rows(x, choice=np.arange(30, 60)), config=config())
