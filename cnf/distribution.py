"""A flow as a distribution of torch."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl

DRAWS = 1024  # samples of a Monte Carlo mean


class Sampled(Protocol):
    """The methods of a flow that its distribution uses."""

    event_shape: torch.Size

    @property
    def support(self) -> constraints.Constraint: ...

    def context_rows(self, context: Tensor | None, batch: torch.Size) -> Tensor | None: ...

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor: ...

    def rsample(self, shape: Sequence[int], context: Tensor | None = None) -> Tensor: ...

    def sample_and_log_prob(self, shape: Sequence[int], context: Tensor | None = None) -> tuple[Tensor, Tensor]: ...


class FlowDistribution(Distribution):
    """A flow as a `torch.distributions.Distribution`, for BoTorch, sbi, Pyro and similar libraries.

    If Pyro is imported, `flow.distribution()` returns one that also has Pyro's methods (`to_event`, `mask`, plates, …),
    so that `pyro.sample("z", flow.distribution())` works in models and guides.

    Args:
        flow: The flow.
        context: `(*batch, C)` for a batch of distributions, one for each condition; None for unconditional flows.
        validate_args: As for every distribution of torch.

    Raises:
        ValueError: A missing or unexpected context, or one of another shape.

    Example:
        >>> import torch, cnf
        >>> posterior = cnf.build("maf", 2, context_dim=1).distribution(torch.zeros(3, 1))
        >>> posterior.batch_shape, posterior.sample((5,)).shape
        (torch.Size([3]), torch.Size([5, 3, 2]))
    """

    has_rsample = True
    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, flow: Sampled, context: Tensor | None = None, *, validate_args: bool | None = None) -> None:
        self.flow, self.context = flow, context
        flow.context_rows(context, _batch(context))  # a context that does not fit is an error now
        super().__init__(_batch(context), flow.event_shape, validate_args=validate_args)

    def __call__(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        return self.rsample(sample_shape)

    @property
    def support(self) -> constraints.Constraint:
        return self.flow.support

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> FlowDistribution:
        batch, new = torch.Size(batch_shape), self._get_checked_instance(FlowDistribution, _instance)
        try:
            torch.empty(self.batch_shape).expand(batch)
        except RuntimeError as error:
            raise ValueError(
                f"distributions of batch shape {tuple(self.batch_shape)} do not expand to {tuple(batch)}: "
                "the shape must end in theirs, where 1 may become any number"
            ) from error
        context = self.context
        new.flow, new.context = self.flow, None if context is None else context.expand(*batch, context.shape[-1])
        Distribution.__init__(new, batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        return self.flow.rsample(*self._drawn(sample_shape))

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = torch.Size()) -> tuple[Tensor, Tensor]:
        """Samples and their log-densities in one pass."""
        return self.flow.sample_and_log_prob(*self._drawn(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        batch = value.shape[: value.dim() - len(self.event_shape)]
        shape = torch.broadcast_shapes(batch, self.batch_shape)
        return self.flow.log_prob(value.expand(shape + value.shape[len(batch) :]), self._context(shape))

    def entropy(self) -> Tensor:
        """The entropy in nats as a mean over 1024 samples, differentiable; `cnf.metrics.entropy` also has its error."""
        return -self.rsample_and_log_prob((DRAWS,))[1].mean(0)

    @property
    def mean(self) -> Tensor:
        return self._without("mean", "distribution.sample((10_000,)).mean(0)")

    @property
    def mode(self) -> Tensor:
        return self._without("mode", "gradient ascent on distribution.log_prob from several samples")

    @property
    def variance(self) -> Tensor:
        return self._without("variance", "distribution.sample((10_000,)).var(0)")

    def cdf(self, value: Tensor) -> Tensor:
        self._without("cdf", "(distribution.sample((10_000,)) <= value).all(-1).double().mean(0)")

    def icdf(self, value: Tensor) -> Tensor:
        self._without("icdf", "distribution.sample((10_000,)).quantile(q, 0) for each coordinate")

    def _without(self, what: str, instead: str) -> NoReturn:
        raise NotImplementedError(f"a flow has no closed form of its {what}: estimate it with {instead}")

    def _drawn(self, sample_shape: Sequence[int]) -> tuple[torch.Size, Tensor | None]:
        shape = torch.Size(sample_shape) + self.batch_shape
        return shape, self._context(shape)

    def _context(self, shape: torch.Size) -> Tensor | None:
        return None if self.context is None else self.context.expand(*shape, self.context.shape[-1])


def distribution_of(flow: Sampled, context: Tensor | None = None) -> FlowDistribution:
    """The distribution of a flow; if Pyro is imported, with its methods."""
    guest = sys.modules.get("pyro.distributions")
    return (FlowDistribution if guest is None else _mixed(guest.TorchDistribution))(flow, context)


@functools.cache
def _mixed(guest: type) -> type[FlowDistribution]:
    return types.new_class("FlowDistribution", (FlowDistribution, guest))


def _batch(context: Tensor | None) -> torch.Size:
    return context.shape[:-1] if isinstance(context, Tensor) else torch.Size()


@register_kl(FlowDistribution, FlowDistribution)
@register_kl(FlowDistribution, Distribution)
def kl_of_flow(p: FlowDistribution, q: Distribution) -> Tensor:
    """`KL(p ‖ q)`, a Monte Carlo mean over 1024 samples of p, differentiable; see `cnf.metrics.kl_divergence`."""
    x, log_prob = p.rsample_and_log_prob((DRAWS,))
    return (log_prob - q.log_prob(x)).mean(0)


@register_kl(Distribution, FlowDistribution)
def kl_to_flow(p: Distribution, q: FlowDistribution) -> Tensor:
    """`KL(p ‖ q)`, a Monte Carlo mean over 1024 samples of p."""
    x = p.rsample((DRAWS,)) if p.has_rsample else p.sample((DRAWS,))
    return (p.log_prob(x) - q.log_prob(x)).mean(0)
