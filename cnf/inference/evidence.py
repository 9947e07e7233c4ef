"""Importance sampling: a flow as proposal for an unnormalised density, with error and diagnosis."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.distributions import Distribution

from cnf.arguments import Count, Size, above, checked, inside
from cnf.flows import Flow
from cnf.inference.diagnosis import smoothed
from cnf.metrics import Estimate

LogDensity = Callable[[Tensor], Tensor]
UNRELIABLE = 0.7  # k̂ beyond which the weights have no useful mean


class UnreliableWarning(UserWarning):
    """The weights of an importance sample have a tail too heavy for their mean to be estimated.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", UnreliableWarning)  # an error in its place
        >>> warnings.resetwarnings()
    """


@dataclass(frozen=True, eq=False)
class Evidence:
    """What importance sampling finds of a density p̃ with `Z = ∫ p̃`.

    Attributes:
        log_z: Estimate of `log Z`.
        standard_error: Of `log_z`, by the delta method, from the weights as they are or smoothed, whichever is larger.
        ess: Effective sample size `(Σ w)² / Σ w²`, as a share of the draws.
        k_hat: Pareto shape of the largest weights: above 0.7 nothing here is to be trusted; None without arviz-stats.
        samples: The draws, `(n, *event)`.
        log_weights: `log p̃(x) − log q(x)`, `(n,)`, the largest smoothed where `k_hat` is known.

    Example:
        >>> import cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> evidence = importance(flow, lambda x: -(x / 1.1).square().sum(1) / 2, 100)
        >>> round(evidence.log_z, 1), evidence.ess < 1  # log Z = log(2π · 1.1²) = 2.03
        (2.0, True)
    """

    log_z: float
    standard_error: float
    ess: float
    k_hat: float | None
    samples: Tensor
    log_weights: Tensor

    def __repr__(self) -> str:
        k_hat = "" if self.k_hat is None else f", k_hat={self.k_hat:.2f}"
        log_z = f"{self.log_z:.4f} ± {self.standard_error:.2g}"
        return f"Evidence(log_z={log_z}, ess={self.ess:.3f}{k_hat}, n={len(self.samples)})"

    def expectation(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        """`E_p[f]` by self-normalised weights, with its standard error.

        Args:
            function: From draws `(n, *event)` to `(n,)`.
        """
        weights = self.log_weights.double().softmax(0)
        values = function(self.samples).double()
        mean = (weights * values).sum()
        return Estimate(mean.item(), (weights * (values - mean)).square().sum().sqrt().item())

    def resample(self, n: Size, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws of p itself, `(n, *event)`, with replacement."""
        weights = self.log_weights.double().softmax(0).cpu()
        return self.samples[
            torch.multinomial(weights, n, replacement=True, generator=generator).to(self.samples.device)
        ]


@checked
@dataclass(frozen=True)
class Defence:
    """A second proposal p₀ that keeps weights bounded where the flow has no mass: `(1 − α) q + α p₀`.

    Args:
        base: p₀, whose tails should be heavier than those of the target.
        share: α.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> wide = torch.distributions.MultivariateNormal(torch.zeros(2), 9 * torch.eye(2))
        >>> importance(flow, lambda x: -x.square().sum(1) / 2, 100, defence=Defence(wide)).ess < 1
        True
    """

    base: Distribution
    share: Annotated[float, inside(0, 1)] = 0.1


@checked
@torch.no_grad()
def importance(
    flow: Flow,
    log_density: LogDensity,
    n: Annotated[Count, above(1)] = 10_000,
    *,
    context: Tensor | None = None,
    defence: Defence | None = None,
    batch_size: Count = 10_000,
) -> Evidence:
    """Evidence of an unnormalised density by draws of a flow: `log Z ≈ logsumexp(log p̃ − log q) − log n`.

    Args:
        flow: The proposal q, trained by `cnf.ReverseKL`, say.
        log_density: `log p̃`, from points `(N, *event)` to `(N,)`; −∞ outside the support.
        n: Draws.
        context: A condition `(C,)` of the flow.
        defence: A second proposal beside it.
        batch_size: Draws at a time.

    Raises:
        ValueError: The flow's density is an estimate: `E[1/ŵ]` is not `1/E[ŵ]`. Or `log_density` gives another shape,
            NaN or +∞, or −∞ everywhere.

    Warns:
        UnreliableWarning: k̂ is above 0.7.

    References:
        Vehtari et al. 2024, Pareto smoothed importance sampling, arXiv 1507.02646; Owen and Zhou 2000, Safe and
        effective importance sampling.

    Example:
        >>> import torch, cnf
        >>> _ = torch.manual_seed(0)
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> evidence = importance(flow, lambda x: -x.square().sum(1) / 2, 1000)
        >>> round(evidence.log_z, 4), round(evidence.ess, 4)  # log 2π, for the proposal is exact
        (1.8379, 1.0)
    """
    if not flow.exact:
        raise ValueError(
            "weights need exact densities, and this flow's are estimated: give cnf.reconfigure(flow, "
            "divergence=cnf.Exact()), or a flow without noise beside the data"
        )
    pieces = [_weighed(flow, log_density, min(batch_size, n - k), context, defence) for k in range(0, n, batch_size)]
    samples, log_weights = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    if not log_weights.isfinite().any():
        raise ValueError(f"the density is 0 at all {n} draws: the flow is elsewhere, train it first")
    k_hat, smooth = smoothed(log_weights)
    if k_hat is not None and k_hat > UNRELIABLE:
        warnings.warn(
            f"k̂ = {k_hat:.2f} is above {UNRELIABLE}: a few draws carry the weight, so that log Z and its error are not "
            "to be trusted; train the flow longer, or give a defence",
            UnreliableWarning, stacklevel=3,
        )  # fmt: skip
    return _summed(samples, log_weights, smooth, k_hat)


def _weighed(
    flow: Flow, log_density: LogDensity, n: int, context: Tensor | None, defence: Defence | None
) -> tuple[Tensor, Tensor]:
    """Draws and their log-weights."""
    others = 0 if defence is None else int(torch.rand(n).lt(defence.share).sum())
    samples, log_q = flow.sample_and_log_prob(n - others, context)
    if defence is not None:
        far = defence.base.sample(torch.Size([others])).to(samples)
        log_q = torch.cat([log_q, flow.log_prob(far, None if context is None else context.expand(others, -1))])
        samples = torch.cat([samples, far])
        log_q = torch.logaddexp(log_q + math.log1p(-defence.share), _base(defence, samples) + math.log(defence.share))
    return samples, checked_values(log_density, samples) - log_q


def _base(defence: Defence, samples: Tensor) -> Tensor:
    log_prob = defence.base.log_prob(samples)
    return log_prob.flatten(1).sum(1) if log_prob.dim() > 1 else log_prob


def checked_values(log_density: LogDensity, x: Tensor) -> Tensor:
    """The log-density of each point, `(N,)`.

    Raises:
        ValueError: Another shape, NaN or +∞.
    """
    values = log_density(x)
    if values.shape != (len(x),):
        raise ValueError(f"log_density must give a number for each of {len(x)} points, got {tuple(values.shape)}")
    if bad := int((values.isnan() | (values == math.inf)).sum()):
        raise ValueError(f"log_density is NaN or +∞ at {bad} of {len(x)} points: it may be −∞ outside the support only")
    return values


def _summed(samples: Tensor, raw: Tensor, smooth: Tensor, k_hat: float | None) -> Evidence:
    """Smoothing cuts the largest weights, and makes up for some that were not drawn: the error must cover both."""
    relative, log_z = _relative(smooth), smooth.double().logsumexp(0).item() - math.log(len(smooth))
    error = max(relative.std().item(), _relative(raw).std().item()) / len(smooth) ** 0.5
    return Evidence(log_z, error, (1 / relative.square().mean()).item(), k_hat, samples, smooth)


def _relative(log_weights: Tensor) -> Tensor:
    """Weights of mean 1."""
    return log_weights.double().softmax(0) * len(log_weights)
