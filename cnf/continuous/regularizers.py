"""Regularizers: integrands of path costs, which keep a field easy to integrate.

A CNF integrates `C = ∫₀¹ c(t, x(t)) dt` along each sample's path; the objective weighs it. All integrands are sums over
dimensions, positive, and the same in both directions of time.
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
    """The integrand of a path cost.

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
        """The noise of one solve: the divergence's own where that lies in the space of x, unless more is asked for."""
        return probe if probe is not None and probe.shape[1:] == x.shape else None

    @abstractmethod
    def __call__(self, linearization: Linearization, probe: Tensor | None) -> Tensor:
        """The integrand, `(N,)`."""


@dataclass(frozen=True)
class KineticEnergy(Regularizer):
    """`‖f‖²`: its path integral is smallest for straight paths of constant speed.

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
    """`‖∂f/∂x‖_F²`, exactly or by `E ‖J ε‖²`.

    Args:
        probes: None takes the probes of the divergence, from the product that the trace already made, and the exact
            norm where the divergence has none; a number draws as many Rademacher probes of its own, and so does None
            where those of the divergence lie in a hidden layer (`Bottleneck`).

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
            Hutchinson(self.probes)  # refuses what is no number of probes

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
    """`‖(∂f/∂x) f‖²`, the part of the acceleration that comes from moving; one product.

    Codes of FFJORD and RNODE have a regularizer of this name with `(∂f/∂x)ᵀ f`, and a mean over dimensions.

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
    """TayNODE's `‖d^K x/dt^K‖²`: small where a solver of order K takes long steps.

    The published weights belong to means over the D dimensions: λ = 0.01 with K = 2 for MINIBOONE, with a loss in nats
    a sample, is `{"derivative": λ / D}` here; λ = 0.0003 with K = 2 for MNIST, with a loss in bits per dimension, is
    `{"derivative": λ · ln 2}`.

    Args:
        order: K; 1 is the kinetic energy, 2 the squared acceleration. Each order doubles the cost.

    Raises:
        ValueError: An order that is no whole number from 1 on.

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
    """`|∂Φ/∂t − ½ ‖∇Φ‖²|` of a `PotentialField`: zero along optimal transport.

    Raises:
        TypeError: The field is no potential.

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
