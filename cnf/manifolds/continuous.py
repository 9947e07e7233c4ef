"""Continuous flows on manifolds: a CNF whose points stay there, with log-determinants in the Riemannian volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from cnf.arguments import checked
from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import Divergence, Exact
from cnf.continuous.fields import VectorField
from cnf.continuous.regularizers import Regularizer
from cnf.continuous.solvers import RungeKutta, Solution, Solver
from cnf.manifolds.fields import SphereField, TorusField
from cnf.manifolds.geometry import Manifold, Sphere, Torus
from cnf.transforms import ContinuousPart

TANGENT: dict[type, Callable[[Manifold, nn.Module], VectorField]] = {
    Sphere: lambda manifold, field: SphereField(manifold.ambient_dimension, field),
    Torus: lambda manifold, field: TorusField(manifold.dimension, field),
}


@checked
class ManifoldCNF(CNF):
    """`dx/dt = f(t, x)` on a sphere or a torus, f tangent, `d log_det/dt = div f`, in the Riemannian volume.

    f is the tangent part of any field of the space around the manifold (`SphereField`, `TorusField`). The solution is
    brought back to the manifold, which undoes what rounding and the solver's error put between them: lengths, which
    neither directions nor the divergence depend on, or whole turns. So any solver, divergence and regularizer will do,
    and points are on the manifold as exactly as their dtype allows. Regularizers see the Jacobian of the extended
    field: `‖∂f/∂x‖_F²` on the sphere is that of the covariant derivative and `2‖f‖²`.

    Args:
        manifold: A `Sphere(n)` or a `Torus(d)`.
        field: A `VectorField`, or any module with `(t, x, context)`, on `(N, n)`; for a torus on `(N, 2d)`, of the
            cosines and sines of the angles.
        divergence, regularizers, solver: As in `CNF`.

    Raises:
        TypeError: Another manifold.
        ValueError: In a solve, points off the manifold; the message says how far.

    References:
        Mathieu and Nickel 2020, arXiv 2006.10605; Rezende et al. 2020, arXiv 2002.02428; the extension is ours.

    Example:
        >>> import torch, cnf
        >>> from cnf.distributions import SphereUniform
        >>> flow = cnf.Flow(ManifoldCNF(Sphere(3), cnf.MLPField(3)), SphereUniform(3))
        >>> flow.log_prob(torch.eye(3)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        manifold: Manifold,
        field: nn.Module,
        divergence: Divergence = Exact(),
        regularizers: Mapping[str, Regularizer] = {},
        solver: Solver = RungeKutta(),
    ) -> None:
        if type(manifold) not in TANGENT:
            known = ", ".join(kind.__name__ for kind in TANGENT)
            raise TypeError(f"a continuous flow needs a manifold without boundary, {known}; got {manifold!r}")
        super().__init__(TANGENT[type(manifold)](manifold, field), divergence, regularizers, solver)
        self.manifold, self.domain, self.codomain = manifold, manifold.domain, manifold.domain

    def move(self, x: Tensor, start: float, end: float, context: Tensor | None = None) -> Solution:
        self.manifold.check(x)
        return self._brought_back(super().move(x, start, end, context))

    def solve(self, x: Tensor, start: float, end: float, context: Tensor | None = None) -> Solution:
        self.manifold.check(x)
        return self._brought_back(super().solve(x, start, end, context))

    def continuous_part(self, z: Tensor, x: Tensor, context: Tensor | None = None) -> ContinuousPart:
        """See `Transform.continuous_part`; its velocity refuses points off the manifold, as straight paths make."""
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

    def _brought_back(self, solution: Solution) -> Solution:
        state = solution.state
        return solution._replace(state=state._replace(x=self.manifold.project(state.x)))
