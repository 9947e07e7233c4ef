"""The continuous normalizing flow: a field, a divergence, regularizers and a solver as one transform."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cnf.arguments import checked
from cnf.continuous.divergences import Divergence, Exact
from cnf.continuous.growth import Motion, growth
from cnf.continuous.regularizers import Regularizer
from cnf.continuous.solvers import RandomEnd, RungeKutta, Solution, Solver, State
from cnf.continuous.space import Euclidean, Space
from cnf.inputs import require_vectors
from cnf.transforms import ContinuousPart, Mapped, Transform


@checked
class CNF(Transform):
    """`dx/dt = f(t, x)`, `d log_det/dt = tr ∂f/∂x`: base at t = 0, data at t = 1.

    `decode` integrates from 0 to 1, `encode` from 1 to 0. Regularizers are integrated along the path and returned as
    costs. They affect training if the objective has a weight for them.

    Args:
        field: A `VectorField`, or any `nn.Module` with `(t, x, context)`.
        divergence: Computes or estimates the trace.
        regularizers: Path costs by name.
        solver: The ODE solver.
        manifold: The space of the points, such as `Sphere(3)`; ℝⁿ by default. On a manifold the log-determinant is with
            respect to the Riemannian volume.

    Raises:
        TypeError: `manifold` has no tangent fields, for example because it has a boundary.
        ValueError: In a solve, points have the wrong length or are not on the manifold.
        SolverError: In a solve, the solver cannot reach the end within its tolerance.

    References:
        Chen et al. 2018, arXiv 1806.07366; Grathwohl et al. 2019, FFJORD, arXiv 1810.01367.

    Example:
        >>> import torch, cnf
        >>> layer = CNF(cnf.MLPField(2, hidden=8), regularizers={"kinetic": cnf.KineticEnergy()})
        >>> x = torch.randn(5, 2)
        >>> z, log_det, costs = layer.encode(x)
        >>> z.shape, log_det.shape, list(costs)
        (torch.Size([5, 2]), torch.Size([5]), ['kinetic'])
        >>> torch.allclose(layer.decode(z).value, x, atol=1e-3)
        True
    """

    continuous = True

    def __init__(
        self,
        field: nn.Module,
        divergence: Divergence = Exact(),
        regularizers: Mapping[str, Regularizer] = {},
        solver: Solver = RungeKutta(),
        *,
        manifold: Space | None = None,
    ) -> None:
        super().__init__()
        self.manifold = manifold or Euclidean()
        self.domain = self.codomain = self.manifold.domain
        self.field = self.manifold.tangent_field(field)
        self.divergence = divergence
        self.regularizers = dict(regularizers)
        self.solver = solver
        self.context_dim = self.field.context_dim

    def extra_repr(self) -> str:
        settings = [f"divergence={self.divergence}", f"solver={self.solver}"]
        settings += [f"regularizers={self.regularizers}"] if self.regularizers else []
        settings += [f"manifold={self.manifold}"] if self.manifold != Euclidean() else []
        return ",\n".join(settings)

    @property
    def exact(self) -> bool:
        return self.divergence.exact and not isinstance(self.solver, RandomEnd)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        return self._mapped(self.solve(x, 1.0, 0.0, context))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        return self._mapped(self.solve(z, 0.0, 1.0, context))

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.move(z, 0.0, 1.0, context).state.x

    def path(self, z: Tensor, times: Tensor, context: Tensor | None = None) -> Tensor:
        states, before = [], 0.0
        for time in times.tolist():
            z, before = self.move(z, before, time, context).state.x, time
            states.append(z)
        return torch.stack(states)

    def continuous_part(self, z: Tensor, x: Tensor, context: Tensor | None = None) -> ContinuousPart:
        """See `Transform.continuous_part`; on a manifold, a velocity off it is an error, which straight paths cause."""
        for points in (z, x):
            self.manifold.check(points)
        return ContinuousPart(self._velocity, z, x, context)

    def _velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        try:
            self.manifold.check(x)
        except ValueError as error:
            advice = f"flow matching here needs geodesics, FlowMatching(path=GeodesicPath({self.manifold!r}))"
            raise ValueError(f"the path leaves the manifold: {advice}") from error
        velocity: Tensor = self.field(t, x, context)
        return velocity

    def move(self, x: Tensor, start: float, end: float, context: Tensor | None = None) -> Solution:
        """Integrate `x` alone, without log-determinant and costs."""
        self._check(x)
        rhs = Motion(self.field, context, self.field.prepare(context))
        return self._brought_back(self.solver(rhs, State(x), start, end, self._differentiable(context)))

    def solve(self, x: Tensor, start: float, end: float, context: Tensor | None = None) -> Solution:
        """Integrate `x`, its log-determinant and the path costs.

        Args:
            x: `(N, *event)`.
            start: Time of x, in [0, 1].
            end: Time of the result, in [0, 1].
            context: `(N, C)` or None.

        Returns:
            The solution. In its state, `integrals` is `(log_det,)`, and `costs` has the path costs in the order of the
            regularizers.

        Raises:
            SolverError: The end cannot be reached within the tolerance.
        """
        self._check(x)
        direction = 1.0 if end > start else -1.0
        rhs = growth(self.field, context, self.divergence, tuple(self.regularizers.values()), direction, x)
        zero = x.new_zeros(len(x))
        state = State(x, (zero,), tuple(zero for _ in self.regularizers))
        return self._brought_back(self.solver(rhs, state, start, end, self._differentiable(context)))

    def _brought_back(self, solution: Solution) -> Solution:
        """The solution with its points projected to the manifold, without the errors of rounding and of the solver."""
        state = solution.state
        return solution._replace(state=state._replace(x=self.manifold.project(state.x)))

    def _check(self, x: Tensor) -> None:
        self.manifold.check(x)
        if self.field.dim is not None:
            require_vectors(x, self.field.dim)

    def _mapped(self, solution: Solution) -> Mapped:
        x, (log_det,), costs = solution.state
        return Mapped(x, log_det, dict(zip(self.regularizers, costs, strict=True)))

    def _differentiable(self, context: Tensor | None) -> tuple[Tensor, ...]:
        tensors = (*self.field.parameters(), *([] if context is None else [context]))
        return tuple(tensor for tensor in tensors if tensor.requires_grad)
