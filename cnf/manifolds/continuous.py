"""Continuous flows on manifolds, with the manifold as their first argument."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from cnf.arguments import checked
from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import Divergence, Exact
from cnf.continuous.regularizers import Regularizer
from cnf.continuous.solvers import RungeKutta, Solver
from cnf.continuous.space import Space


@checked
class ManifoldCNF(CNF):
    """`CNF(field, divergence, regularizers, solver, manifold=manifold)`, under the name it had in version 0.1.

    Args:
        manifold: `Sphere(n)`, `Torus(d)` or any other `Space`.
        field: A `VectorField`, or any module with `(t, x, context)`, on `(N, n)`; for a torus on `(N, 2d)`, of the
            cosines and sines of the angles.
        divergence: As in `CNF`.
        regularizers: As in `CNF`.
        solver: As in `CNF`.

    Raises:
        TypeError: `manifold` has a boundary.
        ValueError: In a solve, points are not on the manifold; the message says how far off they are.

    Example:
        >>> import torch, cnf
        >>> from cnf.manifolds import Sphere
        >>> from cnf.distributions import SphereUniform
        >>> flow = cnf.Flow(ManifoldCNF(Sphere(3), cnf.MLPField(3)), SphereUniform(3))
        >>> flow.log_prob(torch.eye(3)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        manifold: Space,
        field: nn.Module,
        divergence: Divergence = Exact(),
        regularizers: Mapping[str, Regularizer] = {},
        solver: Solver = RungeKutta(),
    ) -> None:
        super().__init__(field, divergence, regularizers, solver, manifold=manifold)
