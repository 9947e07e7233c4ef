"""Regularizers: integrands of path costs, which keep a field easy to integrate.

A CNF integrates `C = ∫₀¹ c(t, x(t)) dt` along each sample's path; the objective weighs it. All integrands are sums over
dimensions, positive, and the same in both directions of time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from cnf.continuous.divergences import Hutchinson
from cnf.continuous.linearization import Linearization, PotentialLinearization


class Regularizer(ABC):
    """The integrand of a path cost."""

    def probe(self, x: Tensor, probe: Tensor | None) -> Tensor | None:
        """The noise of one solve: the divergence's own, unless the regularizer asks for more."""
        return probe

    @abstractmethod
    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        """The integrand, `(N,)`."""


@dataclass(frozen=True)
class KineticEnergy(Regularizer):
    """`‖f‖²`: its path integral is smallest for straight paths of constant speed.

    References:
        Finlay et al. 2020, arXiv 2002.02798 (whose code has ½ and a mean over dimensions).
    """

    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        return linearization.velocity.square().flatten(1).sum(1)


@dataclass(frozen=True)
class JacobianFrobenius(Regularizer):
    """`‖∂f/∂x‖_F²`, exactly or by `E ‖J ε‖²`.

    Args:
        probes: None takes the probe of the divergence, from the product that the trace already made, and the exact
            norm where the divergence has none; a number draws its own Rademacher probes once a solve.

    References:
        Finlay et al. 2020, arXiv 2002.02798.
    """

    probes: int | None = None

    def probe(self, x: Tensor, probe: Tensor | None) -> Tensor | None:
        return probe if self.probes is None else Hutchinson(self.probes).probe(x)

    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        if probe is None:
            return linearization.jacobian.square().sum((1, 2))
        return linearization.jvp(probe).square().flatten(2).sum(2).mean(0)


@dataclass(frozen=True)
class HamiltonJacobi(Regularizer):
    """`|∂Φ/∂t − ½ ‖∇Φ‖²|` of a `PotentialField`: zero along optimal transport.

    Raises:
        TypeError: The field is no potential.

    References:
        Onken et al. 2021, OT-Flow, arXiv 2006.00104.
    """

    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        if not isinstance(linearization, PotentialLinearization):
            raise TypeError("HamiltonJacobi needs a potential: build the CNF on a PotentialField")
        return (linearization.time_derivative - 0.5 * linearization.velocity.square().sum(1)).abs()


REGULARIZERS = {"kinetic": KineticEnergy, "frobenius": JacobianFrobenius, "hjb": HamiltonJacobi}
