"""Elementwise maps: monotone functions of one variable whose parameters come from elsewhere.

A map holds no state. It reads `size` raw numbers for each element, from a conditioner, a MADE or an `nn.Parameter`, and
any numbers will do: `raw = 0` is the identity. One `CouplingLayer` and one `Autoregressive` take all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import constraints

from cnf.arguments import Size, checked, inside
from cnf.discrete.implicit import solution
from cnf.discrete.roots import Monotone


@dataclass(frozen=True)
class ElementwiseMap(ABC):
    """An increasing function of the line, or of the circle, for each element; its parameters are given with each call.

    To write one, derive a frozen dataclass and define `size`, `encode` and `decode`. `raw = 0` should be the identity.
    On a circle or an interval, set `domain` and `codomain`. `CouplingLayer`, `Autoregressive` and `Conditional` take
    it.

    Attributes:
        domain: Where an element of the data may lie, a constraint of torch.
        codomain: Where its image lies.

    Example:
        >>> import torch
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Stretch(ElementwiseMap):
        ...     @property
        ...     def size(self):
        ...         return 1
        ...
        ...     def encode(self, x, raw):
        ...         return x * raw[..., 0].exp(), raw[..., 0]
        ...
        ...     def decode(self, z, raw):
        ...         return z * (-raw[..., 0]).exp(), -raw[..., 0]
        >>> Stretch().encode(torch.ones(2), torch.tensor([[0.0], [1.0]]))
        (tensor([1.0000, 2.7183]), tensor([0., 1.]))
    """

    domain: ClassVar[constraints.Constraint] = constraints.real  # where an element of the data may lie
    codomain: ClassVar[constraints.Constraint] = constraints.real  # where its image lies

    @property
    @abstractmethod
    def size(self) -> int:
        """How many raw numbers an element needs."""

    @abstractmethod
    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Map data to base.

        Args:
            x: Elements `(…)`.
            raw: Their parameters `(…, size)`; a mixture's may be fewer and broadcast.

        Returns:
            `z` and `log dz/dx`, both `(…)`.
        """

    @abstractmethod
    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Map base to data: `x` and `log dx/dz`, both `(…)`."""


@dataclass(frozen=True)
class Shift(ElementwiseMap):
    """`z = x + t`, the map of additive coupling, with slope 1.

    References:
        Dinh et al. 2014, NICE, arXiv 1410.8516.

    Example:
        >>> import torch
        >>> z, log_slope = Shift().encode(torch.zeros(2), torch.tensor([[1.0], [2.0]]))
        >>> z, log_slope
        (tensor([1., 2.]), tensor([0., 0.]))
    """

    @property
    def size(self) -> int:
        return 1

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        return x + raw[..., 0], torch.zeros_like(x)

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        return z - raw[..., 0], torch.zeros_like(z)


LogBound = Annotated[float, inside(0, 80)]  # of the logarithm of a scale: float32 ends at 88


@checked
@dataclass(frozen=True)
class AffineMap(ElementwiseMap):
    """`z = eˢ x + t` with `s = b tanh(r / b)`: the slope stays within `e⁻ᵇ` and `eᵇ`, whatever the raw numbers (t, r).

    Args:
        bound: b, the largest `|s|`. With 3, a layer scales by up to 20, and five layers can be inverted in float32.

    Raises:
        ValueError: The bound is not positive.

    References:
        Dinh et al. 2017, RealNVP, arXiv 1605.08803. Behrmann et al. 2021, arXiv 2006.09347, on unbounded scales.

    Example:
        >>> import torch
        >>> z, log_slope = AffineMap(bound=2.0).encode(torch.ones(2), torch.tensor([[0.0, 0.0], [1.0, 100.0]]))
        >>> z.round(decimals=3), log_slope
        (tensor([1.0000, 8.3890]), tensor([0., 2.]))
    """

    bound: LogBound = 3.0

    @property
    def size(self) -> int:
        return 2

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._parameters(raw)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._parameters(raw)
        return (z - shift) * (-log_scale).exp(), -log_scale

    def _parameters(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = raw.unbind(-1)
        return shift, self.bound * torch.tanh(log_scale / self.bound)


@checked
@dataclass(frozen=True)
class LogisticMixture(ElementwiseMap):
    """`z = logit F(x)` with the distribution function F of a mixture of logistics, `F(x) = Σₖ wₖ σ((x − μₖ) / sₖ)`.

    `log dz/dx = log F' − log F − log(1 − F)`. One component is an affine map. The inverse has no closed form: it lies
    between the quantiles `μₖ + sₖ z` of the components and is found by `solve_monotone`.

    Args:
        components: K.
        bound: Largest `|log sₖ|`.

    Raises:
        ValueError: No components, or a bound that is not positive.

    References:
        Ho et al. 2019, Flow++, arXiv 1902.00275.

    Example:
        >>> import torch
        >>> mixture = LogisticMixture(components=2)
        >>> raw = mixture.raw(torch.tensor([[-1.0, 1.0]]), torch.tensor([[0.5, 0.5]]))
        >>> z, log_slope = mixture.encode(torch.tensor([2.0]), raw)
        >>> z.round(decimals=3), mixture.decode(z, raw)[0].round(decimals=3)
        (tensor([2.7370]), tensor([2.]))
    """

    components: Size = 8
    bound: LogBound = 3.0

    @property
    def size(self) -> int:
        return 3 * self.components

    def raw(self, mean: Tensor, scale: Tensor) -> Tensor:
        """The raw numbers `(…, size)` of components of equal weight, their means and scales given as `(…, K)`.

        Scales at or beyond the bound are brought within it.
        """
        log_scale = torch.atanh((scale.log() / self.bound).clamp(-0.95, 0.95)) * self.bound
        return torch.cat((torch.zeros_like(mean), mean / self._gain(mean), log_scale), -1)

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        return self._encode(x, *self._parameters(raw))

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        parameters = self._parameters(raw)
        x = solution(Monotone(self._distance, self._bracket), z, *parameters)
        return x, -self._encode(x, *parameters)[1]

    def _distance(self, x: Tensor, z: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        """How far `encode` of x is above z, and its slope."""
        value, log_slope = self._encode(x, *parameters)
        return value - z, log_slope.exp()

    def _bracket(self, z: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """The outermost of the components' quantiles."""
        quantiles = torch.addcmul(mean, log_scale.exp(), z)
        return quantiles.amin(0), quantiles.amax(0)

    def _encode(self, x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        u = (x - mean) * (-log_scale).exp()
        below, above = F.logsigmoid(u), F.logsigmoid(-u)
        log_cdf, log_survival = (log_weight + below).logsumexp(0), (log_weight + above).logsumexp(0)
        log_density = (log_weight - log_scale + below + above).logsumexp(0)
        return log_cdf - log_survival, log_density - log_cdf - log_survival

    def _parameters(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`log wₖ`, `μₖ` and `log sₖ`, each `(K, …)`: operations along a short last dimension are slow.

        Every mean has a gain of its own: equal components at `raw = 0` would get equal gradients and never part.
        """
        logits, mean, log_scale = raw.movedim(-1, 0).unflatten(0, (3, self.components)).contiguous().unbind(0)
        gain = self._gain(raw).reshape(-1, *[1] * (raw.dim() - 1))
        return logits.log_softmax(0), gain * mean, self.bound * torch.tanh(log_scale / self.bound)

    def _gain(self, like: Tensor) -> Tensor:
        return torch.linspace(0.5, 1.5, self.components, dtype=like.dtype, device=like.device)
