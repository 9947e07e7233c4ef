"""How well samples predict observations: probability integral transform, coverage, proper scores."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from cnf.arguments import Numbers, Share, checked
from cnf.metrics.estimates import Estimate, mean_and_error

BLOCK = 2**24  # distances held at once: 64 MB of float32


@checked
@torch.no_grad()
def pit(samples: Numbers, x: Numbers, *, generator: Generator | None = None) -> Tensor:
    """Probability integral transform `F(x)` by samples: uniform on [0, 1] where x follows the samples' distribution.

    `u = (#{s < x} + v (#{s = x} + 1)) / (S + 1)`, `v ~ U(0, 1)`, is exactly uniform if x and the S samples have the
    same distribution, for any S, with and without ties. The histogram of many u is flat for a calibrated flow, U-shaped
    for a flow that is too narrow, and bell-shaped for one that is too wide.

    Args:
        samples: S predictions of each observation, `(S, *shape)`, such as
            `flow.distribution(context).sample((S,))`; or `(S, 1, ...)`, the same for all.
        x: Observations `(*shape)`, one number each.
        generator: Source of v; the global one of torch by default.

    Returns:
        u, in the shape of x: one for each number.

    Raises:
        TypeError: No tensors of floating point.
        ValueError: NaN or infinite values, or shapes that do not fit together.

    References:
        Dawid 1984, Journal of the Royal Statistical Society A 147; Czado, Gneiting, Held 2009, Biometrics 65.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(1000, 2)
        >>> u = pit(torch.randn(99, 1, 2), x)
        >>> u.shape, bool((u.mean(0) - 0.5).abs().max() < 0.05)
        (torch.Size([1000, 2]), True)
    """
    _check_shapes(samples, x)
    below, equal = (samples < x).sum(0), (samples == x).sum(0)
    v = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return (below + v * (equal + 1)) / (len(samples) + 1)


@checked
def interval_coverage(u: Numbers, level: Share = 0.9) -> Estimate:
    """Share of observations inside their central prediction interval; it is `level` if the predictions are calibrated.

    The interval of level l reaches from the quantile (1 − l)/2 to the quantile (1 + l)/2, so that it contains x where
    `|F(x) − ½| ≤ l/2`.

    Args:
        u: `F(x)` of independent observations, `(N,)`, from `pit`.
        level: l, the probability of the interval.

    Returns:
        The share and its standard error.

    Raises:
        ValueError: Values outside [0, 1] or of another shape, or a level outside (0, 1].

    References:
        Gneiting, Balabdaoui, Raftery 2007, Journal of the Royal Statistical Society B 69.

    Example:
        >>> import torch
        >>> u = (torch.arange(100) + 0.5) / 100
        >>> round(interval_coverage(u, 0.8).mean, 2)
        0.8
    """
    if u.dim() != 1 or not bool(((u >= 0) & (u <= 1)).all()):
        raise ValueError(
            f"expected values (N,) in [0, 1] of one column, got shape {tuple(u.shape)}: give the result of "
            "cnf.metrics.pit, column by column"
        )
    return mean_and_error(((u - 0.5).abs() <= level / 2).double())


@checked
@torch.no_grad()
def crps(samples: Numbers, x: Numbers, *, fair: bool = True) -> Tensor:
    """Continuous ranked probability score, `∫ (F(y) − 1{y ≥ x})² dy = E|X − x| − ½ E|X − X'|`; lower is better.

    Its unit is that of x, and it is the absolute error if all samples are equal. It is estimated from S samples by
    `1/S Σᵢ |sᵢ − x| − 1/(2 S (S − 1)) Σᵢⱼ |sᵢ − sⱼ|`, whose expectation does not depend on S ("fair").

    Args:
        samples: S predictions of each observation, `(S, *shape)`, or `(S, 1, ...)`, the same for all.
        x: Observations `(*shape)`, one number each.
        fair: Whether to divide by S (S − 1), as above. Otherwise by S²: the score of the empirical distribution, which
            is too large for few samples.

    Returns:
        The score of each number, in the shape of x.

    Raises:
        TypeError: No tensors of floating point.
        ValueError: Fewer than 2 samples, NaN or infinite values, or shapes that do not fit together.

    References:
        Gneiting and Raftery 2007, Journal of the American Statistical Association 102; Ferro 2014, Quarterly Journal
        of the Royal Meteorological Society 140.

    Example:
        >>> import torch
        >>> samples = torch.tensor([[0.0], [1.0], [2.0]])  # of one observation
        >>> print(crps(samples, torch.tensor([1.0])), crps(samples, torch.tensor([4.0])))
        tensor([0.]) tensor([2.3333])
    """
    _check_shapes(samples, x, fewest=2)
    n = len(samples)
    weights = 2 * torch.arange(1, n + 1, dtype=samples.dtype, device=samples.device) - n - 1
    spread = torch.tensordot(weights, samples.sort(0).values, 1)  # Σ over i < j of |sᵢ − sⱼ|
    return (samples - x).abs().mean(0) - spread / (n * (n - 1) if fair else n**2)


@checked
@torch.no_grad()
def energy_score(samples: Numbers, x: Numbers, *, fair: bool = True) -> Tensor:
    """Energy score `E‖X − x‖ − ½ E‖X − X'‖`, the continuous ranked probability score of vectors; lower is better.

    Columns of different units should be standardised first, since the norm adds them.

    Args:
        samples: S predictions of each observation, `(S, *batch, D)`, or `(S, 1, D)`, the same for all.
        x: Observations `(*batch, D)`.
        fair: As for `crps`.

    Returns:
        The score of each vector, `(*batch)`.

    Raises:
        TypeError: No tensors of floating point.
        ValueError: Fewer than 2 samples, NaN or infinite values, or shapes that do not fit together.

    References:
        Gneiting and Raftery 2007, Journal of the American Statistical Association 102; Székely and Rizzo 2013, Journal
        of Statistical Planning and Inference 143.

    Example:
        >>> import torch
        >>> square = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> print(energy_score(square[:, None], torch.zeros(1, 2)))
        tensor([0.2761])
    """
    _check_shapes(samples, x, fewest=2)
    n = len(samples)
    columns = samples.flatten(1, -2).transpose(0, 1) if samples.dim() > 2 else samples[None]  # (N, S, D)
    pieces = columns.split(max(1, BLOCK // n**2))
    spread = torch.cat([_distances(piece).sum((1, 2)) / 2 for piece in pieces])
    distance = torch.linalg.vector_norm(samples - x, dim=-1).mean(0)
    return distance - spread.reshape(samples.shape[1:-1]) / (n * (n - 1) if fair else n**2)


def _distances(points: Tensor) -> Tensor:
    """Between all points of each group, `(N, S, D)` to `(N, S, S)`; no `‖a‖² − 2a·b + ‖b‖²`, in which digits cancel."""
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def _check_shapes(samples: Tensor, x: Tensor, fewest: int = 1) -> None:
    shape = samples.shape[1:]
    fits = len(shape) == x.dim() > 0 and all(own in (1, other) for own, other in zip(shape, x.shape, strict=False))
    if not fits:
        raise ValueError(
            f"samples must have shape (S, *shape) for observations of shape {tuple(x.shape)}, got "
            f"{tuple(samples.shape)}: give flow.distribution(context).sample((S,)), or samples[:, None] where the same "
            "samples predict all observations"
        )
    if len(samples) < fewest:
        raise ValueError(f"expected at least {fewest} samples of each observation, got {len(samples)}")
