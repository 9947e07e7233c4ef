"""Flows: a transform and a base density make a density one can evaluate, sample and train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from cnf.arguments import Size, checked, conform
from cnf.continuous.times import as_times
from cnf.density import Density, Uncertain
from cnf.distribution import FlowDistribution, distribution_of
from cnf.distributions import BaseDensity, as_base
from cnf.failures import OnFailure, surviving, warn
from cnf.inputs import as_shape, batch_shape, context_rows, require_precision, require_values, sample_context_rows
from cnf.pieces import block_sizes, regrouped
from cnf.row_values import one_a_row
from cnf.starts import remind_of_start
from cnf.transforms import Transform
from cnf.uncertainty import log_prob_with_error

if TYPE_CHECKING:
    from cnf.objectives.phases import Phase

__all__ = ["Density", "Flow", "FlowDistribution", "Uncertain"]


@checked
class Flow(nn.Module):
    """A density by change of variables, `log p(x) = log p_base(f(x)) + log |det ∂f/∂x|` with `f` = encode.

    All methods take any leading batch shape and return it. Densities are in the units of the data.

    Args:
        transform: The invertible map; `encode` leads from data to base.
        base: The density of the base points; a distribution of torch becomes a `TorchBase`.
        recipe: The phases of training that `cnf.fit` uses by default; if empty, maximum likelihood.

    Attributes:
        event_shape: Shape of one sample.
        recipe: The phases of training; `cnf.build` sets those of the model.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))  # the identity: a standard normal density
        >>> flow.log_prob(torch.zeros(5, 3, 2)).shape
        torch.Size([5, 3])
        >>> flow.log_prob(torch.zeros(2))
        tensor(-1.8379)
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
        """Whether densities are exact, apart from the error of an ODE solver; see `Transform.exact`."""
        return self.transform.exact

    @property
    def support(self) -> constraints.Constraint:
        """Where the data may lie, as a torch constraint."""
        domain = self.transform.domain
        return constraints.independent(domain, len(self.event_shape) - domain.event_dim)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Density:
        """The log-density of `x`, its base point and the path costs, in one pass.

        Args:
            x: Data `(*batch, *event)`, of the dtype and on the device of the flow.
            context: Conditions `(*batch, C)`, or a shape that broadcasts to it; None for unconditional flows.

        Raises:
            ValueError: Another shape, dtype or device; NaN or infinite values; a missing or unexpected context.
        """
        batch = self._batch_shape(x)
        value, log_det, costs = self.transform.encode(*self.rows(x, context))
        log_prob = one_a_row(self.base, self.base.log_prob(value), len(value)) + log_det
        if self.transform.data_dependent:
            remind_of_start(self, log_prob)
        return Density(
            log_prob.reshape(batch),
            value.reshape(*batch, *self.base.event_shape),
            {name: cost.reshape(batch) for name, cost in costs.items()},
        )

    def log_prob(self, x: Tensor, context: Tensor | None = None, *, on_failure: OnFailure = "raise") -> Tensor:
        """The log-density in nats, `(*batch)`; see `forward`.

        With gradients enabled, a CNF keeps kilobytes a row for the backward pass. For many rows, call it within
        `torch.no_grad()`, or use `cnf.metrics.log_prob_of_rows`, which also bounds the memory.

        Args:
            x: Data `(*batch, *event)`, as for `forward`.
            context: Conditions, as for `forward`.
            on_failure: What to do with rows whose density cannot be computed to the tolerance: "raise" a `SampleError`
                that names them, or return "nan" for them, with a `FailedRowsWarning`. With "nan", the other rows are
                evaluated again; where the density is estimated, with new noise.

        Raises:
            SampleError: Rows failed, and `on_failure` is "raise".
            ValueError: As `forward`, or another `on_failure`.
        """
        if on_failure == "raise":
            log_prob: Tensor = self(x, context).log_prob
            return log_prob
        conform("on_failure", OnFailure, on_failure)
        values, failures = self.scored(x, context)
        warn(failures, values.numel())
        return values

    def scored(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, dict[int, str]]:
        """The log-densities `(*batch)`, NaN where a row failed, and the reasons of those failures by row number."""
        rows, conditions = self.rows(x, context)
        values, failures = surviving(lambda *chosen: self(*chosen).log_prob, rows, conditions)
        return values.reshape(self._batch_shape(x)), failures

    def log_prob_with_error(self, x: Tensor, context: Tensor | None = None, *, probes: int = 8) -> Uncertain:
        """The log-density with its standard error and the error of the ODE solver, without gradient.

        Where log-determinants are estimated, `value` is the mean of `probes` independent estimates, and
        `(value − log p)/standard_error` follows Student's distribution with `probes − 1` degrees of freedom. In few
        dimensions the exact trace costs less: `cnf.reconfigure(flow, divergence=cnf.Exact())`. The solver's error is
        the distance to a finer solve with the same noise. See `cnf.uncertainty` for details and costs.

        Args:
            x: Data `(*batch, *event)`, as for `forward`.
            context: Conditions, as for `forward`.
            probes: Independent estimates, at least 2; exact log-determinants are computed once.

        Raises:
            ValueError: Fewer than 2 probes for an estimate; else as `forward`.
            TypeError: `probes` is not a whole number, or the solver has no finer one (`RandomEnd`).

        Example:
            >>> import torch, cnf
            >>> solver = cnf.RungeKutta("rk4", steps=4)
            >>> flow = cnf.Flow(cnf.CNF(cnf.MLPField(2), cnf.Hutchinson(), solver=solver), cnf.StandardNormal(2))
            >>> value, standard_error, solver_error = flow.log_prob_with_error(torch.ones(3, 2), probes=2)
            >>> bool((standard_error > 0).all()), bool((solver_error < 1e-3).all())
            (True, True)
        """
        return log_prob_with_error(self, x, context, probes, self._batch_shape(x).numel())

    @torch.no_grad()
    def sample(
        self, shape: int | Sequence[int], context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw samples `(*shape, *event)` without gradient; see `rsample`."""
        return self.rsample(shape, context, generator=generator)

    def rsample(
        self, shape: int | Sequence[int], context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw samples `(*shape, *event)`, differentiable in the parameters and the context.

        Args:
            shape: Number of samples, or a shape.
            context: `(C,)`, one condition for all, or `(*shape, C)`, one for each sample. For several samples of each
                condition, use `flow.distribution(context).sample((n,))`.
            generator: Source of the base noise; by default the global one.

        Raises:
            TypeError: A shape that does not consist of whole numbers.
            ValueError: A negative number of samples, or a context of another shape.

        Example:
            >>> import cnf
            >>> flow = cnf.build("realnvp", 2)
            >>> flow.sample(5).shape, flow.sample((4, 3)).shape
            (torch.Size([5, 2]), torch.Size([4, 3, 2]))
        """
        shape, z, rows = self._drawn(shape, context, generator)
        return self.transform.push(z, rows).reshape(shape + self.event_shape)

    def sample_and_log_prob(
        self, shape: int | Sequence[int], context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw samples `(*shape, *event)` and their log-densities `(*shape)` in one pass; see `rsample`."""
        shape, z, rows = self._drawn(shape, context, generator)
        x, log_det, _ = self.transform.decode(z, rows)
        return x.reshape(shape + self.event_shape), (self.base.log_prob(z) - log_det).reshape(shape)

    def sample_in_pieces(
        self, n: int, context: Tensor | None = None, *, batch_size: int = 2048, generator: torch.Generator | None = None
    ) -> Iterator[Tensor]:
        """Draw `(n, *event)` without gradient in pieces of at most `batch_size` samples, to bound the memory.

        One seed gives the same samples for every `batch_size`, up to rounding and the error of the solver.

        Args:
            n: Number of samples.
            context: As for `rsample`.
            batch_size: Samples at a time.
            generator: As for `rsample`.

        Example:
            >>> import cnf
            >>> flow = cnf.build("realnvp", 2)
            >>> [len(piece) for piece in flow.sample_in_pieces(10, batch_size=4)]
            [4, 4, 2]
        """
        batch_size, shape = conform("batch_size", Size, batch_size), as_shape(n)
        rows, start = sample_context_rows(context, shape, self.transform.context_dim, self.base), 0
        with torch.no_grad():
            blocks = (self._base_sample(size, generator) for size in block_sizes(shape.numel()))
            for z in regrouped(blocks, batch_size):
                yield self.transform.push(z, None if rows is None else rows[start : start + len(z)])
                start += len(z)

    def distribution(self, context: Tensor | None = None) -> FlowDistribution:
        """The flow as a `torch.distributions.Distribution`; a context `(*batch, C)` makes a batch of them."""
        return distribution_of(self, context)

    def trajectory(self, z: Tensor, times: Tensor | Sequence[float], context: Tensor | None = None) -> Tensor:
        """The states at `times` on the path from base points `z` to the data; continuous flows only.

        Args:
            z: Base points `(N, *event)`, with the event shape of the base.
            times: Increasing times in [0, 1]; 0 is the base, 1 the data.
            context: `(C,)` or `(N, C)`.

        Returns:
            `(len(times), N, *event)`, all in the units of the data: discrete transforms act on every state.

        Raises:
            TypeError: The flow has no continuous transform.
            ValueError: No times, times outside [0, 1], or times that do not increase.

        Example:
            >>> import torch, cnf
            >>> flow = cnf.Flow(cnf.CNF(cnf.MLPField(2)), cnf.StandardNormal(2))
            >>> flow.trajectory(torch.zeros(3, 2), [0.0, 0.5, 1.0]).shape
            torch.Size([3, 3, 2])
        """
        event = self.base.event_shape
        batch = self._batch_shape(z, "z", event)
        if len(batch) != 1:
            raise ValueError(f"z must be (N, {', '.join(map(str, event))}), got {tuple(z.shape)}")
        require_values("z", z)
        return self.transform.path(z, as_times(times, z), self.context_rows(context, batch))

    def initialize(self, x: Tensor | None, context: Tensor | None = None) -> None:
        """Set the data-dependent parameters of all transforms (standardisation, ActNorm, …) from data; see `forward`.

        If `x` is None, the transforms stay as they are, and the flow counts as initialised.

        Raises:
            ValueError: Fewer than 2 rows; else as `forward`.
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

    def _drawn(
        self, shape: int | Sequence[int], context: Tensor | None, generator: torch.Generator | None
    ) -> tuple[torch.Size, Tensor, Tensor | None]:
        """The shape, base points and context rows of samples."""
        batch = as_shape(shape)
        rows = sample_context_rows(context, batch, self.transform.context_dim, self.base)
        return batch, self._base_sample(batch.numel(), generator), rows

    def _base_sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        require_precision(self.base)
        return self.base.draw(n, generator)

    def _batch_shape(self, x: Tensor, name: str = "x", event: torch.Size | None = None) -> torch.Size:
        return batch_shape(name, x, self.event_shape if event is None else event, self.base)
