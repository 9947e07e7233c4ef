"""Numbers to report: likelihoods of many rows with their errors, bits per dimension, normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution
from tqdm import tqdm

from cnf.arguments import Ambient, Count, Finite, Size, checked
from cnf.continuous.cnf import CNF, without_costs
from cnf.data.rows import as_rows
from cnf.discrete.residual import Residual
from cnf.errors import SampleError
from cnf.failures import OnFailure, warn
from cnf.flows import Flow, FlowDistribution


class Estimate(NamedTuple):
    """A mean and its standard error."""

    mean: float
    error: float


def mean_and_error(values: Tensor) -> Estimate:
    """Mean of `(N,)` and the standard error `s/√N` of it, NaN where there is one value only.

    Raises:
        ValueError: No values.
    """
    if not values.numel():
        raise ValueError("a mean needs at least one value, got none")
    values = values.flatten().double()
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(values.mean().item(), error)


@checked
@torch.no_grad()
def log_prob_of_rows(
    flow: Flow,
    data: Any,
    *,
    batch_size: Count = 2048,
    progress: bool = False,
    on_failure: OnFailure = "nan",
) -> Tensor:
    """Log-densities in nats of many rows, in pieces of bounded memory.

    Args:
        flow: The density.
        data: Any data that `cnf.fit` takes; a memory-mapped file stays on disk.
        batch_size: Rows at a time.
        progress: Whether to show a progress bar.
        on_failure: As for `Flow.log_prob`, but "nan" by default: a few bad rows of many do not lose the others. Rows
            are named by their numbers in `data`.

    Returns:
        `(N,)` on the CPU.

    Raises:
        ValueError: A batch size below 1, or NaN or infinite values in the data.
        SampleError: The density of some rows cannot be found within the tolerance, and `on_failure` is "raise".
    """
    scored = score_rows(flow, data, batch_size=batch_size, progress=progress, on_failure=on_failure)
    warn(scored.failures, len(scored.log_prob))
    return scored.log_prob


class Scored(NamedTuple):
    """Log-densities of rows, `(N,)`, NaN where there is none, and what happened to those rows, by number."""

    log_prob: Tensor
    failures: dict[int, str]


@torch.no_grad()
def score_rows(
    flow: Flow,
    data: Any,
    *,
    batch_size: Count = 2048,
    progress: bool = False,
    on_failure: OnFailure = "nan",
) -> Scored:
    """What `log_prob_of_rows` returns, and which rows failed for what reason."""
    flow = without_costs(flow)
    rows = as_rows(data, flow.base.dtype)
    log_prob, failures = torch.empty(len(rows), dtype=flow.base.dtype), dict[int, str]()
    with tqdm(total=len(rows), desc="log p", unit="row", unit_scale=True, disable=not progress) as bar:
        for chosen in torch.arange(len(rows)).split(batch_size):
            x, context, numbers = rows.read(chosen.tolist())
            try:
                log_prob[chosen], failed = _scored_on_device(flow, x, context, on_failure)
            except SampleError as error:
                raise error.renumbered(numbers.tolist()) from error
            failures |= {int(numbers[row]): reason for row, reason in failed.items()}
            bar.update(len(chosen))
    return Scored(log_prob, failures)


def _scored_on_device(flow: Flow, x: Tensor, context: Tensor | None, on_failure: str) -> Scored:
    given = x.to(flow.base.device), None if context is None else context.to(flow.base.device)
    if on_failure == "raise":
        return Scored(flow.log_prob(*given).cpu(), {})
    log_prob, failures = flow.scored(*given)
    return Scored(log_prob.cpu(), failures)


class LogMean(NamedTuple):
    """The logarithm of a mean for each row, `(*batch)`, and its standard error."""

    value: Tensor
    standard_error: Tensor


@checked
@torch.no_grad()
def importance_log_prob(flow: Flow, x: Tensor, context: Tensor | None = None, *, samples: Size = 64) -> LogMean:
    """`log 1/K Σ_k p(x, e_k)/q(e_k)`, `e_k ~ q`: the density of a flow with noise beside the data, see `Augment`.

    A lower bound of `log p(x)` in expectation, tighter with every sample and tight as K grows; with K = 1 that of
    `flow.log_prob`. The error is that of the logarithm by the delta method, `s/(m √K)` with mean m and standard
    deviation s of the ratios. All samples of all rows are in memory at once. Where the density is exact there is
    nothing to average.

    Args:
        flow: The density.
        x: Data `(*batch, *event)`.
        context: As for `flow.log_prob`.
        samples: K.

    Raises:
        ValueError: Fewer than 2 samples, or log-determinants that are estimated: the exponential of their noise
            would push the mean above the truth.

    References:
        Burda et al. 2016, Importance weighted autoencoders, arXiv 1509.00519.
    """
    if samples < 2:
        raise ValueError(f"a standard error needs at least 2 samples, got {samples}")
    if any(not part.exact for part in flow.modules() if isinstance(part, (CNF, Residual))):
        raise ValueError(
            "importance weights need exact log-determinants: give cnf.reconfigure(flow, divergence=cnf.Exact()), "
            "or with_log_det(flow, ExactLogDet()) for residual layers"
        )
    ratios = flow.log_prob(x.expand(1 if flow.exact else samples, *x.shape), context)
    value = ratios.logsumexp(0) - math.log(len(ratios))
    if flow.exact:
        return LogMean(value, torch.zeros_like(value))
    return LogMean(value, (ratios - value).exp().std(0) / samples**0.5)


@checked
@torch.no_grad()
def kl_divergence(p: Flow | Distribution, q: Flow | Distribution, *, samples: Ambient = 10_000) -> Estimate:
    """`KL(p ‖ q) = E_p[log p(x) − log q(x)]` in nats, by samples of p; infinite where a sample has no density under q.

    Args:
        p: What is sampled; conditional flows as `flow.distribution(context)` with one condition `(C,)`.
        q: What it is compared with.
        samples: Number of samples.

    Raises:
        ValueError: A batch of distributions, or fewer than 2 samples.

    Example:
        >>> import torch, cnf
        >>> from torch.distributions import MultivariateNormal
        >>> p = MultivariateNormal(torch.zeros(2), torch.eye(2))
        >>> cnf.metrics.kl_divergence(p, p)  # a flow in either place
        Estimate(mean=0.0, error=0.0)
    """
    p, q = _one_distribution(p), _one_distribution(q)
    x, log_prob = _drawn(p, samples)
    return mean_and_error(log_prob - q.log_prob(x))


@checked
@torch.no_grad()
def entropy(p: Flow | Distribution, *, samples: Ambient = 10_000) -> Estimate:
    """`H(p) = −E_p[log p(x)]` in nats, by samples of p.

    Args:
        p: As in `kl_divergence`.
        samples: Number of samples.

    Raises:
        ValueError: A batch of distributions, or fewer than 2 samples.
    """
    return mean_and_error(-_drawn(_one_distribution(p), samples)[1])


def _one_distribution(p: Flow | Distribution) -> Distribution:
    distribution = p.distribution() if isinstance(p, Flow) else p
    if distribution.batch_shape:
        raise ValueError(
            f"one distribution is needed, got a batch {tuple(distribution.batch_shape)} of them: take one condition, "
            "flow.distribution(context[i]), or make the batch an event with torch.distributions.Independent"
        )
    return distribution


def _drawn(p: Distribution, samples: int) -> tuple[Tensor, Tensor]:
    if isinstance(p, FlowDistribution):
        return p.rsample_and_log_prob((samples,))
    x = p.sample((samples,))
    log_prob: Tensor = p.log_prob(x)
    return x, log_prob


@checked
def bits_per_dim(log_prob: Tensor, dims: Size, *, levels: Ambient = 256) -> Tensor:
    """`−(log p / D − log levels) / log 2` for dequantised data in [0, 1): bits a dimension of the discrete data.

    Args:
        log_prob: Log-densities in nats of the data in [0, 1), the log-determinant of any logit included.
        dims: Number D of dimensions.
        levels: Values a dimension can take, at least 2.

    Raises:
        TypeError: Arguments of another type.
        ValueError: No dimension, or fewer than 2 levels.

    References:
        Theis et al. 2016, arXiv 1511.01844.
    """
    return -(log_prob / dims - math.log(levels)) / math.log(2)


@checked
@torch.no_grad()
def normalization(
    flow: Flow, low: Sequence[Finite], high: Sequence[Finite], *, points: Ambient = 200, batch_size: Count = 4096
) -> float:
    """`∫ p(x) dx` over a box by the midpoint rule: 1 for a density that lies within it and is solved well.

    Args:
        flow: A density in one or two dimensions.
        low: Lower corner.
        high: Upper corner.
        points: Points along each side.
        batch_size: Points at a time.

    Raises:
        ValueError: More than two dimensions, or corners that are no box.
    """
    dims = flow.event_shape.numel()
    if dims > 2 or not len(low) == len(high) == dims or not all(a < b for a, b in zip(low, high, strict=True)):
        raise ValueError(
            f"a grid needs 1 or 2 dimensions and corners low < high of that length, "
            f"got {dims} dimensions, low={tuple(low)}, high={tuple(high)}"
        )
    like = {"dtype": flow.base.dtype, "device": flow.base.device}
    steps = [(b - a) / points for a, b in zip(low, high, strict=True)]
    axes = [a + step * (torch.arange(points, **like) + 0.5) for a, step in zip(low, steps, strict=True)]  # type: ignore[call-overload]
    grid = torch.cartesian_prod(*axes).reshape(-1, *flow.event_shape)
    total = sum(flow.log_prob(part).double().exp().sum().item() for part in grid.split(batch_size))
    return total * math.prod(steps)
