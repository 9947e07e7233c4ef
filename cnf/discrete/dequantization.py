"""Dequantisation: whole numbers with noise between them, so that a density can give them probabilities."""

from __future__ import annotations

import math
from typing import Annotated, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from cnf.arguments import Rule, checked
from cnf.distributions import standard_normal_log_prob
from cnf.tracing import rows_with
from cnf.transforms import Mapped, Transform

Levels = Annotated[int, Rule("2 or more, or None", lambda value: value >= 2)]


class NoiseModel(Protocol):
    """What can be the noise of `Dequantize`: a flow with a context."""

    def sample_and_log_prob(self, shape: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]: ...

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor: ...


@checked
class Dequantize(Transform):
    """Whole numbers x with noise u in [0, 1): `v = (x + u) / L`, `u ~ q(u | x)`, `log_det = −D log L − log q(u | x)`.

    With a density p(v), a flow's `log_prob` is one draw of `log p(v) − D log L − log q(u | x)`, whose mean is at most
    `log P(x)`, the logarithm of a probability. The noise is uniform, or that of a flow, which learns with the rest and
    makes the bound tighter (variational dequantisation). `cnf.metrics.importance_log_prob` comes as close to `log P(x)`
    as one likes. `decode` rounds down: samples are whole numbers.

    Args:
        levels: L, for x in {0, …, L − 1}; None for counts without an upper end, with `v = x + u`.
        noise: None for uniform noise; or a flow of the shape of x with a context of as many numbers as x has: it draws
            a on the line, and `u = Φ(a)`, so that a standard normal is uniform noise.

    Raises:
        ValueError: In use, data that are no whole numbers from 0 to L − 1.

    References:
        Theis et al. 2016, arXiv 1511.01844; Ho et al. 2019, Flow++, arXiv 1902.00275.

    Example:
        >>> import math, torch, cnf
        >>> flow = cnf.Flow(Dequantize(256), cnf.Uniform(4))
        >>> flow.log_prob(torch.tensor([[0.0, 3.0, 100.0, 255.0]])) / (4 * math.log(2))  # −8 bits a dimension
        tensor([-8.])
        >>> Dequantize(256).decode(torch.tensor([[0.5, 0.999]])).value
        tensor([[128., 255.]])
    """

    domain: constraints.Constraint

    def __init__(self, levels: Levels | None, noise: nn.Module | None = None) -> None:
        super().__init__()
        self.levels, self.noise = levels, noise
        self.domain = constraints.nonnegative_integer if levels is None else constraints.integer_interval(0, levels - 1)

    @property
    def exact(self) -> bool:
        return False

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        self._check(x)
        u, log_q = self._drawn(x)
        scale = self.levels or 1
        return Mapped((x + u) / scale, -log_q - x.shape[1:].numel() * math.log(scale))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        scale = self.levels or 1
        inside = (z * scale).clamp(0, self.levels and self.levels * (1 - torch.finfo(z.dtype).eps))
        x = inside.detach().floor()
        return Mapped(x, self._log_noise(x, inside - x) + z.shape[1:].numel() * math.log(scale))

    def _drawn(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Noise in [0, 1) and the logarithm of its density."""
        if self.noise is None:
            return torch.rand_like(x), x.new_zeros(len(x))
        a, log_q = self.noise.sample_and_log_prob(len(x), self._seen(x))  # type: ignore[operator]
        largest = 1 - torch.finfo(x.dtype).eps  # or the next level would be meant
        return torch.special.ndtr(a).clamp(max=largest), log_q - standard_normal_log_prob(a)

    def _log_noise(self, x: Tensor, u: Tensor) -> Tensor:
        if self.noise is None:
            return x.new_zeros(len(x))
        a = torch.special.ndtri(u.clamp(torch.finfo(u.dtype).eps, 1 - torch.finfo(u.dtype).eps))
        log_q: Tensor = self.noise.log_prob(a, self._seen(x))  # type: ignore[operator]
        return log_q - standard_normal_log_prob(a)

    def _seen(self, x: Tensor) -> Tensor:
        """The data as the noise reads them, `(N, D)`, of the size of 1."""
        flat = x.flatten(1)
        return flat.log1p() if self.levels is None else (2 * flat + 1) / self.levels - 1

    def _check(self, x: Tensor) -> None:
        outside = (x < 0) | (x != x.floor())
        if self.levels is not None:
            outside |= x >= self.levels
        if rows := rows_with(outside):
            numbers = "from 0 upwards" if self.levels is None else f"from 0 to {self.levels - 1}"
            raise ValueError(
                f"expected whole numbers {numbers}; {len(rows)} rows have others, first {rows[:5]}: give the values "
                "before they were scaled, and the number of levels they have"
            )

    def extra_repr(self) -> str:
        return f"levels={self.levels}, noise={'uniform' if self.noise is None else 'a flow'}"
