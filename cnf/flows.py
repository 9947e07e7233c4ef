"""Flows: a transform and a base density make a density one can evaluate, sample and train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from cnf.arguments import Size, checked, conform
from cnf.continuous.cnf import as_times
from cnf.distribution import FlowDistribution, distribution_of
from cnf.distributions import BaseDensity, as_base
from cnf.failures import OnFailure, surviving, warn
from cnf.inputs import (
    as_shape,
    batch_shape,
    context_rows,
    require_precision,
    require_values,
    sample_context_rows,
)
from cnf.pieces import block_sizes, regrouped
from cnf.starts import remind_of_start
from cnf.transforms import Transform
from cnf.uncertainty import Uncertain, log_prob_with_error

if TYPE_CHECKING:
    from cnf.objectives.phases import Phase

__all__ = ["Density", "Flow", "FlowDistribution", "Uncertain"]


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


@checked
class Flow(nn.Module):
    """A density by change of variables, `log p(x) = log p_base(f(x)) + log |det ∂f/∂x|` with `f` = encode.

    Any leading batch shape is taken and given back. Densities are in the units of the data.

    Args:
        transform: The invertible map; `encode` leads from data to base.
        base: The density at its other end; a distribution of torch is taken as it is, see `TorchBase`.
        recipe: Phases by which `cnf.fit` trains the flow unless told otherwise; none for plain maximum likelihood.

    Attributes:
        event_shape: Shape of one sample.
        recipe: As given, and to be set; `cnf.build` sets that of the model.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("cnf", 2)
        >>> with torch.no_grad():  # where no gradient is wanted, a graph of all steps would only cost memory
        ...     print(flow.log_prob(torch.zeros(5, 3, 2)).shape)
        torch.Size([5, 3])
    """

    _initialized: Tensor

    def __init__(self, transform: Transform, base: BaseDensity | Distribution, *, recipe: Sequence[Any] = ()) -> None:
        super().__init__()
        self.transform = transform
        self.base = as_base(base)
        self.event_shape = transform.data_shape(self.base.event_shape)
        self.register_buffer("_initialized", torch.tensor(False))
        self.recipe: tuple[Phase, ...] = tuple(recipe)
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
        if self.transform.data_dependent:
            remind_of_start(self, log_prob)
        return Density(
            log_prob.reshape(batch),
            value.reshape(*batch, *self.base.event_shape),
            {name: cost.reshape(batch) for name, cost in costs.items()},
        )

    def log_prob(self, x: Tensor, context: Tensor | None = None, *, on_failure: OnFailure = "raise") -> Tensor:
        """The log-density in nats, exactly of the batch shape of `x`; see `forward`.

        With gradients enabled it keeps what a backward pass needs, kilobytes a row for a CNF. To evaluate many rows,
        call it within `torch.no_grad()`, or take `cnf.metrics.log_prob_of_rows`, which also bounds the memory.

        Args:
            x: Data `(*batch, *event)`, as for `forward`.
            context: Conditions, as for `forward`.
            on_failure: What is done about rows whose density cannot be found within the tolerance: "raise" an error
                that names them, or put "nan" in their place, with a `FailedRowsWarning` that gives time and reason of
                each (rows are counted over the whole batch). Where the density is estimated, rows that are left are
                evaluated again with other noise.

        Raises:
            SampleError: Rows failed, and `on_failure` is "raise".
            ValueError: As `forward`, or another `on_failure`.

        Example:
            >>> import torch, cnf
            >>> flow, x = cnf.build("cnf", 2), torch.zeros(5, 2)
            >>> with torch.no_grad():
            ...     flow.log_prob(x).shape
            torch.Size([5])
        """
        if on_failure == "raise":
            log_prob: Tensor = self(x, context).log_prob
            return log_prob
        if on_failure != "nan":
            raise ValueError(f'on_failure must be "raise" or "nan", got {on_failure!r}')
        values, failures = self.scored(x, context)
        warn(failures, values.numel())
        return values

    def scored(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, dict[int, str]]:
        """The log-density of all rows that have one, NaN for the others, and what happened to those, by number."""
        batch = self._batch_shape(x)
        rows, conditions = self.rows(x, context)

        def evaluate(chosen: Tensor) -> Tensor:
            chosen = chosen.to(rows.device)
            values: Tensor = self(rows[chosen], None if conditions is None else conditions[chosen]).log_prob
            return values

        values, failures = surviving(evaluate, len(rows))
        return values.reshape(batch), failures

    def log_prob_with_error(self, x: Tensor, context: Tensor | None = None, *, probes: int = 8) -> Uncertain:
        """The log-density with the error of its estimate and that of its solver, without gradient.

        Where log-determinants are estimated, `value` is the mean of `probes` independent estimates, and
        `(value − log p)/standard_error` follows Student's distribution with `probes − 1` degrees of freedom. So that
        this holds for few of them, each is the mean of 8 evaluations, and the noise is not always that of the flow:
        probes are uniform on the sphere (Rademacher's take few values in few dimensions, which agree by chance), those
        of Hutch++ are Hutchinson's (what it leaves is far from normal where the Jacobian has nearly low rank), and a
        series that is cut off, or ends at random, has ten terms or more and goes on at random. The expectation is log p
        in every case. A row takes `8 probes` evaluations, so in few dimensions the exact trace,
        `cnf.reconfigure(flow, divergence=cnf.Exact())`, costs less and has no noise.

        With an `Augment` in the flow, `value` is the mean of the lower bound, not of log p. What an encoder without an
        inverse (`EncoderDecoder`) makes of the density is in neither error. The solver's error is the distance to a
        second solve with the same noise, in float64 (if the field has numbers of another dtype of its own, in that of
        the flow) and with every step taken in four, which takes about five times as many evaluations as the first.

        Args:
            x: Data `(*batch, *event)`, as for `forward`.
            context: Conditions, as for `forward`.
            probes: Independent estimates, at least 2; where log-determinants are exact there is only one.

        Raises:
            ValueError: Fewer than 2 probes for an estimate; else as `forward`.
            TypeError: No whole number of probes, or a solver whose error cannot be measured, such as `RandomEnd`.
        """
        return log_prob_with_error(self, x, context, probes, self._batch_shape(x).numel())

    @torch.no_grad()
    def sample(
        self, shape: int | Sequence[int], context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw `(*shape, *event)` without gradient; see `rsample`."""
        return self.rsample(shape, context, generator=generator)

    def rsample(
        self, shape: int | Sequence[int], context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw `(*shape, *event)`, differentiable in the parameters and the context.

        Args:
            shape: How many samples: n, or a shape.
            context: `(C,)`, one condition for all, or `(*shape, C)`, one for each sample. For several samples of each
                condition, take `flow.distribution(context).sample((n,))`.
            generator: Source of the base noise; the global one by default.

        Raises:
            TypeError: A shape that does not consist of whole numbers.
            ValueError: A negative number of samples, or a context that does not fit.

        Example:
            >>> import cnf
            >>> flow = cnf.build("cnf", 2)
            >>> flow.sample(5).shape, flow.sample((4, 3)).shape
            (torch.Size([5, 2]), torch.Size([4, 3, 2]))
        """
        shape = as_shape(shape)
        z, context = self._base_sample(shape.numel(), generator), self._contexts(context, shape)
        return self.transform.push(z, context).reshape(shape + self.event_shape)

    def sample_and_log_prob(
        self, shape: int | Sequence[int], context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw `(*shape, *event)` with their log-densities `(*shape)` in one pass, differentiable; see `rsample`."""
        shape = as_shape(shape)
        z, context = self._base_sample(shape.numel(), generator), self._contexts(context, shape)
        x, log_det, _ = self.transform.decode(z, context)
        return x.reshape(shape + self.event_shape), (self.base.log_prob(z) - log_det).reshape(shape)

    def sample_in_pieces(
        self,
        n: int,
        context: Tensor | None = None,
        *,
        batch_size: int = 2048,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Draw `(n, *event)` without gradient in pieces of bounded memory, `(batch_size, *event)` or less each.

        The noise is drawn in blocks that do not depend on `batch_size`, so that one seed gives the same samples with
        any, as far as the solver and the rounding of a batch allow.

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
        batch_size, shape = conform("batch_size", Size, batch_size), as_shape(n)
        rows, start = self._contexts(context, shape), 0
        with torch.no_grad():
            blocks = (self._base_sample(size, generator) for size in block_sizes(shape.numel()))
            for z in regrouped(blocks, batch_size):
                yield self.transform.push(z, None if rows is None else rows[start : start + len(z)])
                start += len(z)

    def distribution(self, context: Tensor | None = None) -> FlowDistribution:
        """The flow as a `torch.distributions.Distribution`, one for each row of a context `(*batch, C)`."""
        return distribution_of(self, context)

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
        require_values("z", z)
        return self.transform.path(z, as_times(times, z), self.context_rows(context, batch))

    def initialize(self, x: Tensor | None, context: Tensor | None = None) -> None:
        """Take the data-dependent start (standardisation, ActNorm, …) of all transforms from `x`; see `forward`.

        With None in the place of `x`, all transforms stay as they are, and the flow counts as initialised.
        """
        if x is None:
            self._initialized.fill_(True)
            return
        rows, context = self.rows(x, context)
        if len(rows) < 2:
            raise ValueError(f"a data-dependent start needs at least 2 rows, got {len(rows)}")
        self.transform.initialize(rows, context)
        self._initialized.fill_(True)

    def rows(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Data and context as transforms see them, `(N, *event)` and `(N, C)` or None; checked, see `forward`."""
        batch = self._batch_shape(x)
        rows = x.reshape(-1, *self.event_shape)
        require_values("x", rows)
        return rows, self.context_rows(context, batch)

    def context_rows(self, context: Tensor | None, batch: torch.Size) -> Tensor | None:
        """The context of a batch as transforms see it, `(N, C)` or None; checked, see `forward`."""
        return context_rows(context, batch, self.transform.context_dim, self.base)

    def _base_sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        require_precision(self.base)
        return self.base.rsample(n, generator=generator)

    def _contexts(self, context: Tensor | None, shape: torch.Size) -> Tensor | None:
        return sample_context_rows(context, shape, self.transform.context_dim, self.base)

    def _batch_shape(self, x: Tensor, name: str = "x", event: torch.Size | None = None) -> torch.Size:
        return batch_shape(name, x, self.event_shape if event is None else event, self.base)
