"""Neural ODEs for regression and classification: features at the end of a path, without a density."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnf.arguments import SizeOrZero, checked
from cnf.continuous.cnf import CNF
from cnf.continuous.solvers import RungeKutta, Solver
from cnf.continuous.times import as_times


@checked
class NeuralODE(nn.Module):
    """The features at t = 1 of `dh/dt = f(t, h)`, `h(0) = (x, 0)`: x with zeros appended.

    Paths in D dimensions cannot cross, so a map of the line keeps the order of its points. With a few extra dimensions
    paths can pass each other. The features have no density, because the appended zeros fill no volume. For a density
    with extra dimensions append noise; see `Augment`.

    Args:
        field: A `VectorField`, or any module with `(t, h, context)`, on `D + extra` dimensions.
        extra: Number of zeros appended along the first axis of an event: elements of a vector, channels of an image.
        solver: The ODE solver.

    Raises:
        ValueError: `extra` is negative.

    References:
        Dupont et al. 2019, Augmented neural ODEs, arXiv 1904.01681.

    Example:
        >>> import torch
        >>> from cnf import MLPField
        >>> NeuralODE(MLPField(3), extra=1)(torch.randn(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(self, field: nn.Module, extra: SizeOrZero = 0, solver: Solver = RungeKutta()) -> None:
        super().__init__()
        self.extra = extra
        self.cnf = CNF(field, solver=solver)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The features `(N, D + extra)` of `x`, `(N, D)`; images `(N, C, H, W)` get channels.

        Raises:
            ValueError: `x` has fewer than two axes.
        """
        return self.cnf.push(self._padded(x), context)

    def path(self, x: Tensor, times: Tensor | Sequence[float], context: Tensor | None = None) -> Tensor:
        """The features at increasing `times` in [0, 1], `(len(times), N, D + extra)`."""
        return self.cnf.path(self._padded(x), as_times(times, x), context)

    def _padded(self, x: Tensor) -> Tensor:
        if x.dim() < 2:
            raise ValueError(f"x must be rows (N, D) or images (N, C, H, W), got {tuple(x.shape)}")
        return torch.cat([x, x.new_zeros(len(x), self.extra, *x.shape[2:])], 1)
