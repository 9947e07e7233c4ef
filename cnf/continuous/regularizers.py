"""Regularizers: integrands of path costs, which keep a field easy to integrate.

A CNF integrates `C = ∫₀¹ c(t, x(t)) dt` along the path of each sample, and the objective adds the cost with a weight.
All integrands are sums over dimensions, not negative, and independent of the direction of time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from cnf.arguments import Size, checked
from cnf.continuous.divergences import Hutchinson
from cnf.continuous.linearization import Linearization
from cnf.continuous.potentials import PotentialLinearization


class Regularizer(ABC):
    """The integrand `c(t, x)` of a path cost `∫₀¹ c(t, x(t)) dt`.

    To write one, define `__call__`; override `probe` if it needs random vectors of its own.

    Example: The fourth power of the speed.
        >>> import torch, cnf
        >>> class Quartic(cnf.Regularizer):
        ...     def __call__(self, at, probe):
        ...         return at.velocity.square().flatten(1).sum(1).square()
        >>> flow = cnf.CNF(cnf.MLPField(2, hidden=4), regularizers={"quartic": Quartic()})
        >>> flow.encode(torch.zeros(5, 2)).costs["quartic"].shape
        torch.Size([5])
    """

    example: ClassVar[str] = "cnf.KineticEnergy()"  # for messages

    def probe(self, x: Tensor, probe: Tensor | None) -> Tensor | None:
        """The random vectors of one solve: those of the divergence if they have the shape of x, else None."""
        return probe if probe is not None and probe.shape[1:] == x.shape else None

    @abstractmethod
    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        """The integrand, `(N,)`.

        Args:
            linearization: The field at one time and at points `(N, *event)`.
            probe: What `probe` returned for this solve.
        """


@dataclass(frozen=True)
class KineticEnergy(Regularizer):
    """The kinetic energy `‖f‖²`; its path integral is smallest for straight paths of constant speed.

    References:
        Finlay et al. 2020, arXiv 2002.02798 (whose code has ½ and a mean over dimensions).

    Example:
        >>> import torch, cnf
        >>> flow = cnf.CNF(cnf.MLPField(2, hidden=8), regularizers={"kinetic": cnf.KineticEnergy()})
        >>> flow.encode(torch.randn(3, 2)).costs["kinetic"].shape
        torch.Size([3])
    """

    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        return linearization.velocity.square().flatten(1).sum(1)


@checked
@dataclass(frozen=True)
class JacobianFrobenius(Regularizer):
    """The squared Frobenius norm `‖J‖_F² = E ‖J ε‖²` of `J = ∂f/∂x`, exact or estimated.

    Args:
        probes: Number of Rademacher probes, drawn for this cost alone. None uses the probes of the divergence, at no
            extra cost; with an exact divergence it computes the exact norm. With `Bottleneck`, whose probes lie in a
            hidden layer, None draws as many probes as that one has.

    Raises:
        ValueError: `probes` is below 1.

    References:
        Finlay et al. 2020, arXiv 2002.02798.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.CNF(cnf.MLPField(2, hidden=8), regularizers={"frobenius": cnf.JacobianFrobenius()})
        >>> flow.encode(torch.randn(3, 2)).costs["frobenius"].shape
        torch.Size([3])
    """

    probes: Size | None = None

    def __post_init__(self) -> None:
        if self.probes is not None:
            Hutchinson(self.probes)  # checks the number

    def probe(self, x: Tensor, probe: Tensor | None) -> Tensor | None:
        if self.probes is not None:
            return Hutchinson(self.probes).probe(x)
        shared = super().probe(x, probe)
        return shared if shared is not None or probe is None else Hutchinson(len(probe)).probe(x)

    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        if probe is None:
            return linearization.jacobian.square().sum((1, 2))
        return linearization.jvp(probe).square().flatten(2).sum(2).mean(0)


@dataclass(frozen=True)
class DirectionalJacobian(Regularizer):
    """`‖(∂f/∂x) f‖²`, the part of the squared acceleration that is due to motion in space; one Jacobian product.

    The code of FFJORD and RNODE has `(∂f/∂x)ᵀ f` under this name, with a mean over dimensions.

    References:
        Grathwohl et al. 2019, FFJORD, arXiv 1810.01367; Finlay et al. 2020, arXiv 2002.02798.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.CNF(cnf.MLPField(2, hidden=8), regularizers={"directional": cnf.DirectionalJacobian()})
        >>> flow.encode(torch.randn(3, 2)).costs["directional"].shape
        torch.Size([3])
    """

    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        return linearization.jvp(linearization.velocity.unsqueeze(0))[0].square().flatten(1).sum(1)


@checked
@dataclass(frozen=True)
class HigherDerivative(Regularizer):
    """TayNODE's `‖d^K x/dt^K‖²`; where it is small, a solver of order K takes long steps.

    The published weights λ are for means over the D dimensions. For MINIBOONE (K = 2, λ = 0.01, loss in nats per
    sample) the weight here is `{"derivative": λ / D}`. For MNIST (K = 2, λ = 0.0003, loss in bits per dimension) it is
    `{"derivative": λ · ln 2}`.

    Args:
        order: K; 1 is the kinetic energy, 2 the squared acceleration. Each order doubles the cost.

    Raises:
        ValueError: `order` is below 1.

    References:
        Kelly et al. 2020, Learning differential equations that are easy to solve, arXiv 2007.04504.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.CNF(cnf.MLPField(2, hidden=8), regularizers={"derivative": cnf.HigherDerivative(order=2)})
        >>> flow.encode(torch.randn(3, 2)).costs["derivative"].shape
        torch.Size([3])
    """

    order: Size = 2

    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        return linearization.derivative(self.order).square().flatten(1).sum(1)


@dataclass(frozen=True)
class HamiltonJacobi(Regularizer):
    """`|∂Φ/∂t − ½ ‖∇Φ‖²|` of a `PotentialField`: zero if the flow is an optimal transport map.

    Raises:
        TypeError: In a solve, the field is no `PotentialField`.

    References:
        Onken et al. 2021, OT-Flow, arXiv 2006.00104.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.CNF(cnf.PotentialField(2, hidden=8), regularizers={"hjb": cnf.HamiltonJacobi()})
        >>> flow.encode(torch.randn(3, 2)).costs["hjb"].shape
        torch.Size([3])
    """

    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        if not isinstance(linearization, PotentialLinearization):
            raise TypeError("HamiltonJacobi needs a potential: build the CNF on a PotentialField")
        return (linearization.time_derivative - 0.5 * linearization.velocity.square().sum(1)).abs()


REGULARIZERS = {
    "kinetic": KineticEnergy,
    "frobenius": JacobianFrobenius,
    "directional": DirectionalJacobian,
    "derivative": HigherDerivative,
    "hjb": HamiltonJacobi,
}
