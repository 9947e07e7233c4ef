"""The model of tables: any cells of a row given any others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnf.arguments import Finite, SizeOrZero, Sizes, Widths, checked
from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import Divergence, Exact
from cnf.continuous.fields import MLPField, PartialField
from cnf.continuous.regularizers import KineticEnergy, Regularizer
from cnf.continuous.solvers import Solver
from cnf.discrete import AnyConditional, MixedMarginals
from cnf.distributions import StandardNormal
from cnf.flows import Flow
from cnf.models.assembly import EVALUATION
from cnf.models.fields import at_rest
from cnf.networks import ActivationName


@checked
def any_cnf(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    levels: Sequence[SizeOrZero] = (),
    atoms: Sequence[Sequence[Finite]] = (),
    whole: Sequence[SizeOrZero] = (),
    circles: Sequence[SizeOrZero] = (),
    hidden: Widths = (128, 128),
    activation: ActivationName = "silu",
    divergence: Divergence = Exact(),
    regularizers: Mapping[str, Regularizer] | None = None,
    solver: Solver = EVALUATION,
) -> Flow:
    """The density of any cells of a table's row given any others, for columns of all kinds, in one field.

    Columns become normal scores, levels with noise within their intervals; the scores are made white given the cells
    that are given. At the start of training this is the Gaussian copula with all its conditionals. A field that only
    moves the modelled cells learns the rest. The context, `cnf.discrete.cells_context`, says which cells are modelled,
    given and absent; without one all are modelled.

    Args:
        event_shape: `(D,)`, a row of D cells as numbers.
        context_dim: 0, for conditions are cells of the row.
        levels: For each column the number of its levels, see `MixedMarginals`.
        atoms: For each column of numbers the values that have a probability of their own.
        whole: Places of whole numbers without levels.
        circles: Places of angles in radians.
        hidden: Widths of the two hidden layers of the field.
        activation: Of the field.
        divergence: How the trace is found in evaluation.
        regularizers: Path costs by name; by default the kinetic energy, as `kinetic`.
        solver: Solver of evaluation.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("any_cnf", 2, levels=(3, 0))
        >>> flow.log_prob(torch.zeros(1, 2)).detach()  # before training: log(1/3) + log φ(0)
        tensor([-2.0176])
    """
    if len(event_shape) != 1 or context_dim:
        raise ValueError(
            f"rows are vectors (D,) and conditions are cells of them, got event_shape {tuple(event_shape)} and "
            f"context_dim {context_dim}: make conditions columns, and give them by cnf.discrete.cells_context"
        )
    dim, turns = event_shape[0], len(circles)
    network = MLPField(dim + turns, hidden=hidden, context_dim=3 * dim + turns, activation=activation)
    regularizers = {"kinetic": KineticEnergy()} if regularizers is None else regularizers
    field = PartialField(at_rest(network), circles=circles)
    marginals = MixedMarginals(dim, levels=levels, atoms=atoms, whole=whole, circles=circles)
    return Flow(AnyConditional(marginals, CNF(field, divergence, regularizers, solver)), StandardNormal(dim))
