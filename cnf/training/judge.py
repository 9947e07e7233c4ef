"""Validation: the likelihood of rows by which weights are judged, and the weights of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cnf.continuous.solvers import RungeKutta, Solver
from cnf.continuous.twins import cnfs_of, without_costs
from cnf.data.rows import Batch, Rows, row_weights
from cnf.failures import warn
from cnf.flows import Flow
from cnf.objectives.phases import Phase
from cnf.training.engine import mean_over_processes, seed_noise, with_settings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VALIDATION_ROWS = 4_096  # rows judged at once
JUDGED_ROWS = 10_000  # at most; of more, that many at equal distances: a check must not cost more than many steps
MOST_LOST = 0.01  # of the validation rows may have no density; more are no accident of a few
VALIDATION_TOLERANCE = 1e-3  # of the solves of a validation: a mean over rows is then off by some 1e-5 nats


class Weights:
    """Weights of the data and of the validation rows, by row number, in float64; None where all rows count alike.

    Args:
        rows: The data.
        weights: Of the data, as given to `cnf.fit`.
        validation: The validation rows.
        validation_weights: Of these.

    Raises:
        ValueError: Weights of validation rows that there are not, or weights that cannot be.
    """

    def __init__(self, rows: Rows, weights: Any, validation: Rows | None, validation_weights: Any) -> None:
        if validation is None and validation_weights is not None:
            raise ValueError("validation_weights are given, but no validation rows")
        self.data = None if weights is None else row_weights(rows, weights)
        self.validation = (
            None if validation is None or validation_weights is None else row_weights(validation, validation_weights)
        )


def check_fit(flow: Flow, name: str, batch: Batch) -> None:
    """Evaluate the flow on no rows of a batch, so that data that do not fit are an error before training.

    Raises:
        ValueError: The rows do not fit the flow, or its parts each other.
    """
    x, context, _ = batch
    event, given = tuple(flow.event_shape), tuple(x.shape[1:])
    if event != given:
        raise ValueError(f"{name} that does not fit the flow: each row must have shape {event}, got {given}")
    rows = x[:0], None if context is None else context[:0]
    try:
        flow.rows(*rows)
    except ValueError as error:
        raise ValueError(f"{name} that does not fit the flow: {error}") from error
    with torch.no_grad():
        flow.log_prob(*rows)  # its own parts must fit together


class Judge:
    """The mean negative log-likelihood of validation rows in nats, with the same rows and noise at every call.

    Args:
        fabric: The engine.
        flow: The flow whose weights are judged.
        phases: Each may have a divergence of its own.
        rows: Validation rows.
        weights: Their weights, with mean 1.
        seed: Random seed of the noise.
    """

    def __init__(
        self, fabric: Fabric, flow: Flow, phases: Sequence[Phase], rows: Rows, weights: Tensor | None, seed: int
    ) -> None:
        self.fabric, self.rows, self.weights, self.seed = fabric, rows, weights, seed
        self.judged = range(0, len(rows), math.ceil(len(rows) / JUDGED_ROWS))
        judge, solver = without_costs(flow), judging_solver(flow)
        self.flows = [with_settings(judge, solver, phase.divergence) for phase in phases]

    @torch.no_grad()
    def __call__(self, phase: int) -> float:
        """Judge with the settings of a phase.

        Rows whose density cannot be found are named in a warning and left out. If there are more than one in a hundred,
        the result is infinite.
        """
        seed_noise(self.seed, self.fabric.device)
        total, lost, every, failures = 0.0, 0.0, 0.0, dict[int, str]()
        share = self.judged[self.fabric.global_rank :: self.fabric.world_size]
        for first in range(0, len(share), VALIDATION_ROWS):
            x, context, numbers = self.fabric.to_device(self.rows.read(share[first : first + VALIDATION_ROWS]))
            log_prob, failed = self.flows[phase].scored(x, context)
            log_prob, weights, bad = log_prob.double().cpu(), self._weights(numbers.cpu()), [*failed]
            every, lost = every + weights.sum().item(), lost + weights[bad].sum().item()
            weights[bad] = 0.0
            total -= torch.where(weights > 0, weights * log_prob, 0.0).sum().item()  # 0 leaves out any density
            failures |= {int(numbers[row]): reason for row, reason in failed.items()}
        warn(failures, len(share), "this validation leaves them out")
        sums = torch.tensor([total, lost, every], dtype=torch.float64)
        total, lost, every = mean_over_processes(self.fabric, sums).tolist()
        nll = total / max(every - lost, 1e-9)
        return nll if math.isfinite(nll) and lost <= MOST_LOST * every else math.inf

    def _weights(self, numbers: Tensor) -> Tensor:
        return torch.ones(len(numbers), dtype=torch.float64) if self.weights is None else self.weights[numbers].clone()


def judging_solver(flow: Flow) -> Solver | None:
    """The flow's adaptive solver at the tolerance of validation, which costs a third; None for other solvers.

    Example:
        >>> import cnf
        >>> judging_solver(cnf.build("cnf", 2)).rtol
        0.001
    """
    solvers = [part.solver for part in cnfs_of(flow)]
    solver = next(iter(solvers), None)
    if not isinstance(solver, RungeKutta) or solver.steps is not None or any(other != solver for other in solvers):
        return None
    loose = VALIDATION_TOLERANCE
    return replace(solver, rtol=max(solver.rtol, loose), atol=max(solver.atol, loose))
