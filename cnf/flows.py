"""Flows: a transform and a base density make a density one can evaluate, sample and train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from cnf.arguments import checked
from cnf.continuous.cnf import as_times, cnfs_of, reconfigure, refined, without_costs
from cnf.continuous.divergences import Hutchinson
from cnf.distributions import BaseDensity
from cnf.errors import SampleError
from cnf.noise import Recorded, Replayed
from cnf.transforms import Transform


class Density(NamedTuple):
    """What a flow returns for data of shape `(*batch, *event)`.

    Attributes:
        log_prob: Log-density in nats, `(*batch)`.
        z: The point in base space, `(*batch, *event)`; `event` as the base has it, where dimensions are added.
        costs: Path integrals by name, each `(*batch)`; empty for discrete flows.
    """

    log_prob: Tensor
    z: Tensor
    costs: Mapping[str, Tensor]


class Uncertain(NamedTuple):
    """A log-density with its two errors, each `(*batch)`.

    Attributes:
        value: Log-density in nats; the mean over independent probes where it is estimated.
        standard_error: Of the noise in `value`, `s/√n` over n probes; exactly 0 where log-determinants are exact.
        solver_error: Size of the error in `value` that solving the ODE makes, rounding included; 0 without a CNF.
    """

    value: Tensor
    standard_error: Tensor
    solver_error: Tensor


@checked
class Flow(nn.Module):
    """A density by change of variables, `log p(x) = log p_base(f(x)) + log |det ∂f/∂x|` with `f` = encode.

    Any leading batch shape is taken and given back. Densities are in the units of the data.

    Args:
        transform: The invertible map; `encode` leads from data to base.
        base: The density at its other end.

    Attributes:
        event_shape: Shape of one sample.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("cnf", 2)
        >>> flow.log_prob(torch.zeros(5, 3, 2)).shape
        torch.Size([5, 3])
    """

    _initialized: Tensor

    def __init__(self, transform: Transform, base: BaseDensity) -> None:
        super().__init__()
        self.transform = transform
        self.base = base
        self.event_shape = transform.data_shape(base.event_shape)
        self.register_buffer("_initialized", torch.tensor(False))
        self.spec: Mapping[str, Any] | None = None  # how `cnf.build` made this flow; `cnf.save` writes it

    @property
    def initialized(self) -> bool:
        """Whether `initialize` has been called, in this process or before the flow was saved."""
        return bool(self._initialized)

    @property
    def exact(self) -> bool:
        """Whether densities are exact but for the error of solving: not estimated with noise or cut-off series, and of
        a map whose inverse is not merely learned."""
        return self.transform.exact

    @property
    def support(self) -> constraints.Constraint:
        """Where the data may lie, as a torch constraint."""
        domain = self.transform.domain
        return constraints.independent(domain, len(self.event_shape) - domain.event_dim)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Density:
        """The log-density of `x`, its place in base space and the path costs, in one pass.

        Args:
            x: Data `(*batch, *event)` in the dtype and on the device of the flow.
            context: Conditions `(*batch, C)`, or any shape that broadcasts to it; None for unconditional flows.

        Raises:
            ValueError: Wrong event shape, dtype or device, NaN or infinite values, a missing, unexpected or
                wrongly shaped context. The message says what was expected and what came.
        """
        batch = self._batch_shape(x)
        value, log_det, costs = self.transform.encode(*self.rows(x, context))
        log_prob = self.base.log_prob(value) + log_det
        return Density(
            log_prob.reshape(batch),
            value.reshape(*batch, *self.base.event_shape),
            {name: cost.reshape(batch) for name, cost in costs.items()},
        )

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The log-density in nats, exactly of the batch shape of `x`; see `forward`."""
        return self(x, context).log_prob

    @torch.no_grad()
    def log_prob_with_error(self, x: Tensor, context: Tensor | None = None, *, probes: int = 8) -> Uncertain:
        """The log-density with the error of its estimate and that of its solver, without gradient.

        Where log-determinants are estimated, `x` is evaluated `probes` times in one call, each with noise of its own;
        `(value − log p)/standard_error` then follows Student's distribution with `probes − 1` degrees of freedom. With
        an `Augment` in the flow, `value` is the mean of the lower bound, not of log p. What a truncated series leaves
        out is in neither error, nor is what an encoder without an inverse (`EncoderDecoder`) makes of the density. The
        solver's error is the distance to a second solve with the same noise, in float64 (if the field has numbers of
        another dtype of its own, in that of the flow) and with every step taken in four, which takes about five times
        as many evaluations as the first. In two dimensions a Rademacher probe, whose estimates take one of two values
        and may agree by chance, is replaced by one that is uniform on the circle.

        Args:
            x: Data `(*batch, *event)`, as for `forward`.
            context: Conditions, as for `forward`.
            probes: Independent evaluations; where log-determinants are exact there is only one.

        Raises:
            ValueError: Fewer than 2 probes for an estimate; else as `forward`.
            TypeError: No whole number of probes, or a solver whose error cannot be measured, such as `RandomEnd`.
        """
        repeats = 1 if self.exact else probes
        if not isinstance(repeats, int):
            raise TypeError(f"probes must be a whole number, got {probes!r}")
        if repeats < 2 and not self.exact:
            raise ValueError(f"a standard error needs at least 2 probes, got {probes}")
        flow = _with_many_estimates(without_costs(self))
        twin = refined(flow) if cnfs_of(flow) else None
        rows = self._batch_shape(x).numel()
        repeated = x.expand(repeats, *x.shape)
        try:
            with Recorded() as noise:
                values = flow.log_prob(repeated, context)
            value = values.mean(0)
            spread = ((values - value).square().sum(0) / max(repeats * (repeats - 1), 1)).sqrt()
            if twin is None:
                return Uncertain(value, spread, torch.zeros_like(value))
            reference = _again(twin, repeated, context, noise.draws).mean(0)
        except SampleError as error:
            raise error.renumbered([*range(rows)] * repeats) from error
        return Uncertain(value, spread, (value - reference).abs().to(value))

    @torch.no_grad()
    def sample(self, n: int, context: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw `(n, *event)` without gradient; see `rsample`."""
        return self.rsample(n, context, generator=generator)

    def sample_in_pieces(
        self,
        n: int,
        context: Tensor | None = None,
        *,
        batch_size: int = 2048,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Draw `(n, *event)` without gradient in pieces of bounded memory, `(batch_size, *event)` or less each.

        Args:
            n: How many samples.
            context: As for `rsample`.
            batch_size: Samples at a time.
            generator: As for `rsample`.

        Raises:
            ValueError: A batch size below 1, or a context that does not fit.

        Example:
            >>> import cnf
            >>> flow = cnf.build("cnf", 2)
            >>> [len(piece) for piece in flow.sample_in_pieces(10, batch_size=4)]
            [4, 4, 2]
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        shared = context is None or context.dim() < 2
        rows = None if shared else self._context_rows(context, torch.Size([n]))
        for start in range(0, max(n, 1), batch_size):
            size = min(batch_size, n - start)
            yield self.sample(size, context if rows is None else rows[start : start + size], generator=generator)

    def rsample(self, n: int, context: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw `(n, *event)`, differentiable in the parameters and the context.

        Args:
            n: How many samples.
            context: `(C,)`, one condition for all, or `(n, C)`, one for each sample.
            generator: Source of the base noise; the global one by default.
        """
        z = self._base_sample(n, generator)
        return self.transform.push(z, self._context_rows(context, torch.Size([n])))

    def sample_and_log_prob(
        self, n: int, context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw `(n, *event)` with their log-densities `(n,)` in one pass, differentiable; see `rsample`."""
        z = self._base_sample(n, generator)
        x, log_det, _ = self.transform.decode(z, self._context_rows(context, torch.Size([n])))
        return x, self.base.log_prob(z) - log_det

    def distribution(self, context: Tensor | None = None) -> FlowDistribution:
        """The flow as a `torch.distributions.Distribution`, one for each row of a context `(*batch, C)`."""
        return FlowDistribution(self, context)

    def trajectory(self, z: Tensor, times: Tensor | Sequence[float], context: Tensor | None = None) -> Tensor:
        """Where base points `z` are at `times` on their way to the data; continuous flows only.

        Args:
            z: Base points `(N, *event)`, `event` as the base has it.
            times: Increasing times in [0, 1]; 0 is the base, 1 the data.
            context: `(C,)` or `(N, C)`.

        Returns:
            `(len(times), N, *event)`. Discrete transforms around the continuous one are applied at every
            time, so that all frames are in the units of the data.

        Raises:
            TypeError: The flow has no continuous transform.
            ValueError: No times, times outside [0, 1] or not increasing.
        """
        event = self.base.event_shape
        batch = self._batch_shape(z, "z", event)
        if len(batch) != 1:
            raise ValueError(f"z must be (N, {', '.join(map(str, event))}), got {tuple(z.shape)}")
        _check_values("z", z)
        return self.transform.path(z, as_times(times, z), self._context_rows(context, batch))

    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Take the data-dependent start (standardisation, ActNorm, …) of all transforms from `x`; see `forward`."""
        rows, context = self.rows(x, context)
        if len(rows) < 2:
            raise ValueError(f"a data-dependent start needs at least 2 rows, got {len(rows)}")
        self.transform.initialize(rows, context)
        self._initialized.fill_(True)

    def rows(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Data and context as transforms see them, `(N, *event)` and `(N, C)` or None; checked, see `forward`."""
        batch = self._batch_shape(x)
        rows = x.reshape(-1, *self.event_shape)
        _check_values("x", rows)
        return rows, self._context_rows(context, batch)

    def _base_sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        return self.base.sample(n, generator)

    def _batch_shape(self, x: Tensor, name: str = "x", event: torch.Size | None = None) -> torch.Size:
        if not isinstance(x, Tensor):
            kind = f"torch.as_tensor({name}, dtype={self.base.dtype})"
            raise TypeError(f"{name} must be a tensor, got {type(x).__name__}: give {kind}")
        event = self.event_shape if event is None else event
        batch = len(x.shape) - len(event)
        if batch < 0 or x.shape[batch:] != event:
            raise ValueError(f"{name} must have shape (*batch, {', '.join(map(str, event))}), got {tuple(x.shape)}")
        self._check_kind(name, x)
        return x.shape[:batch]

    def _check_kind(self, name: str, tensor: Tensor) -> None:
        base = self.base
        if tensor.dtype != base.dtype:
            other = f" or the flow with flow.to({tensor.dtype})" if tensor.is_floating_point() else ""
            raise ValueError(
                f"{name} is {tensor.dtype}, but the flow computes in {base.dtype}: "
                f"convert the data with {name}.to({base.dtype}){other}"
            )
        if tensor.device != base.device:
            raise ValueError(
                f"{name} is on {tensor.device}, but the flow is on {base.device}: move one of them with .to(device)"
            )

    def _context_rows(self, context: Tensor | None, batch: torch.Size) -> Tensor | None:
        expected = self.transform.context_dim
        if context is None:
            if expected:
                raise ValueError(f"this flow is conditional: give a context of shape (*batch, {expected})")
            return None
        if expected == 0:
            raise ValueError(f"this flow takes no context, got one of shape {tuple(context.shape)}")
        self._check_kind("context", context)
        width = expected or (context.shape[-1] if context.dim() else 1)
        try:
            if context.shape[-1:] != (width,):  # one column would broadcast to all
                raise ValueError
            rows = context.expand(*batch, width).reshape(-1, width)
        except (RuntimeError, ValueError) as error:
            wanted = f"({', '.join(map(str, (*batch, width)))})"
            raise ValueError(
                f"context must have shape {wanted} or broadcast to it, got {tuple(context.shape)}"
            ) from error
        _check_values("context", rows)
        return rows


def _with_many_estimates(flow: Flow) -> Flow:
    """With a probe on the circle in the place of a Rademacher one in two dimensions."""
    divergence = next((cnf.divergence for cnf in cnfs_of(flow)), None)
    if flow.base.event_shape.numel() == 2 and divergence == Hutchinson():
        return reconfigure(flow, divergence=replace(divergence, noise="orthogonal"))
    return flow


def _again(twin: Flow, x: Tensor, context: Tensor | None, draws: Sequence[Tensor]) -> Tensor:
    """The log-density with noise that was drawn before, in float64 if the field can."""
    try:
        with Replayed(draws):
            return twin.log_prob(x.double(), None if context is None else context.double())
    except RuntimeError as error:
        if isinstance(error, SampleError) or "dtype" not in str(error):
            raise
    with Replayed(draws):
        return twin.to(x.dtype).log_prob(x, context)


def _check_values(name: str, rows: Tensor) -> None:
    if rows.isfinite().all():
        return
    bad = (~rows.isfinite()).flatten(1).any(1).nonzero().flatten()
    raise ValueError(
        f"{name} has NaN or infinite values in {len(bad)} of {len(rows)} rows, first in rows {bad[:5].tolist()}: "
        "remove or impute them"
    )


class FlowDistribution(Distribution):
    """A flow as a `torch.distributions.Distribution`, for Pyro, BoTorch, sbi and the like.

    Args:
        flow: The flow.
        context: `(*batch, C)`: a batch of distributions, one for each condition; None for unconditional flows.
        batch_shape: Set by `expand`; the batch shape of the context by default.
    """

    has_rsample = True
    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        flow: Flow,
        context: Tensor | None = None,
        *,
        batch_shape: torch.Size | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if batch_shape is None:
            batch_shape = torch.Size() if context is None else context.shape[:-1]
            flow._context_rows(context, batch_shape)  # a context that does not fit is an error now
        self.flow = flow
        self.context = context
        super().__init__(batch_shape, flow.event_shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return self.flow.support

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> FlowDistribution:
        context = self.context
        if context is not None:
            context = context.expand(*batch_shape, context.shape[-1])
        return FlowDistribution(self.flow, context, batch_shape=torch.Size(batch_shape))

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        samples = self.flow.rsample(shape.numel(), self._context(shape, flat=True))
        return samples.reshape(shape + self.event_shape)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = torch.Size()) -> tuple[Tensor, Tensor]:
        """Samples with their log-densities in one pass."""
        shape = torch.Size(sample_shape) + self.batch_shape
        samples, log_prob = self.flow.sample_and_log_prob(shape.numel(), self._context(shape, flat=True))
        return samples.reshape(shape + self.event_shape), log_prob.reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        batch = value.shape[: value.dim() - len(self.event_shape)]
        shape = torch.broadcast_shapes(batch, self.batch_shape)
        value = value.expand(shape + value.shape[len(batch) :])
        return self.flow.log_prob(value, self._context(shape))

    def _context(self, shape: torch.Size, *, flat: bool = False) -> Tensor | None:
        if self.context is None:
            return None
        rows = self.context.expand(*shape, self.context.shape[-1])
        return rows.reshape(-1, rows.shape[-1]) if flat else rows
