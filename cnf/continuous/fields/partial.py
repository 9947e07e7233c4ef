"""A field for some of a row's cells given some of the others, with its exact trace in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cnf.arguments import SizeOrZero, checked
from cnf.continuous.chains import ChainLinearization
from cnf.continuous.fields.interface import VectorField
from cnf.continuous.fields.layers import linears
from cnf.continuous.fields.mlp import MLPField
from cnf.continuous.linearization import Linearization
from cnf.inputs import require_context

MOST_PATTERNS = 64  # of which the closed form prepares a matrix each; beyond, tangents take less


class Patterned(NamedTuple):
    """What the trace needs of a solve: a matrix for each set of modelled cells, and the rows that have it.

    Attributes:
        layers: What the network has prepared.
        matrices: `(P, 1 + 2K, H, H)` for P sets and K angles; None where there are too many sets.
        rows: The rows of each set.
    """

    layers: Any
    matrices: Tensor | None
    rows: Sequence[Tensor]


@checked
class PartialField(VectorField):
    """`f(t, x) = u ∘ g(t, x ∘ u, u, o, m ∘ o)`: only modelled cells move, by what they and the given cells are.

    The context is `[u, o, m]`, `(N, 3D)`: masks of the modelled and of the given cells, and the values of the latter.
    The network g is a perceptron with two hidden layers. It reads an angle by its cosine and sine. The trace over the
    modelled cells has a closed form for each mask u, so it costs least where few different masks are in a batch.

    Args:
        network: g, of dimension D + K and context dimension 3D + K, for K angles: cosines are in the angles' places,
            sines follow at the end.
        circles: Places of the angles, in radians.

    Raises:
        ValueError: Sizes that do not fit, or a network that has not two hidden layers or has gates.

    References:
        Li, Akbar and Oliva 2020, ACFlow, arXiv 1909.06319.

    Example:
        >>> import torch, cnf
        >>> from cnf.continuous.fields import PartialField
        >>> field = PartialField(cnf.MLPField(2, hidden=(8, 8), context_dim=6))
        >>> context = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0, 0.5]])  # the first cell is modelled, the second is 0.5
        >>> bool(field(torch.tensor(0.3), torch.ones(1, 2), context)[0, 1] == 0)
        True
    """

    dim: int

    def __init__(self, network: MLPField, *, circles: Sequence[SizeOrZero] = ()) -> None:
        super().__init__()
        self.network, self.circles = network, tuple(circles)
        self.dim = network.dim - len(self.circles)
        self.context_dim = 3 * self.dim
        if network.context_dim != self.context_dim + len(self.circles) or len(network.layers) != 3 or network.gates:
            raise ValueError(
                f"expected a network with two hidden layers, no gates and a context of "
                f"{self.context_dim + len(self.circles)}, got {network}"
            )

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.velocity(t, x, context)

    def velocity(
        self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Patterned | None = None
    ) -> Tensor:
        modelled, seen = self._masks(context)
        layers = None if prepared is None else prepared.layers
        moved = self.network.velocity(t, self._seen(x) * self._wide(modelled), seen, layers)
        return modelled * moved[:, : self.dim]

    def prepare(self, context: Tensor | None = None, *, trace: bool = False, probe: Tensor | None = None) -> Patterned:
        modelled, seen = self._masks(context)
        layers = self.network.prepare(seen)
        if not trace:
            return Patterned(layers, None, ())
        masks, place, counts = torch.unique(modelled, dim=0, return_inverse=True, return_counts=True)
        if len(masks) > MOST_PATTERNS:
            return Patterned(layers, None, ())
        rows = (
            [torch.arange(len(place), device=place.device)]
            if len(masks) == 1
            else place.argsort().split(counts.tolist())
        )
        return Patterned(layers, self._matrices(masks), rows)

    def _matrices(self, masks: Tensor) -> Tensor:
        """`M_jk = W₂jk Σ_i u_i W₁ki W₃ij` over plain cells, then over each angle with its cosine and its sine."""
        first, second, last = (layer.weight for layer in linears(self.network.layers))
        first, last = first[:, : self.network.dim], last[: self.dim]
        plain = masks.clone()
        plain[:, self.circles] = 0
        parts = [torch.einsum("pi,ki,ij->pjk", plain, first[:, : self.dim], last)]
        for number, place in enumerate(self.circles):
            there = masks[:, place, None, None]
            parts += [there * torch.outer(last[place], first[:, column]) for column in (place, self.dim + number)]
        return second * torch.stack(parts, 1)

    def linearize(
        self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Patterned | None = None
    ) -> PartialLinearization:
        modelled, seen = self._masks(context)
        prepared = prepared or self.prepare(context, trace=True)
        at = self.network.linearize(t, self._seen(x) * self._wide(modelled), seen, prepared.layers)
        return PartialLinearization(x, modelled, at, prepared, self.circles)

    def _masks(self, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The mask of modelled cells, and the context as the network reads it."""
        context = require_context(context, "field", self.context_dim)
        modelled, given, values = context.chunk(3, 1)
        sines = values[:, self.circles].sin() * given[:, self.circles]
        values = values.clone()
        values[:, self.circles] = values[:, self.circles].cos()
        return modelled, torch.cat((modelled, given, values * given, sines), 1)

    def _seen(self, x: Tensor) -> Tensor:
        """Points as the network reads them: cosines in the places of angles, sines at the end."""
        if not self.circles:
            return x
        seen = torch.cat((x, x[:, self.circles].sin()), 1)
        seen[:, self.circles] = x[:, self.circles].cos()
        return seen

    def _wide(self, modelled: Tensor) -> Tensor:
        return torch.cat((modelled, modelled[:, self.circles]), 1)


class PartialLinearization(Linearization):
    """A `PartialField` at one time and place, from the linearization of its network.

    Args:
        x: The points, `(N, D)`.
        modelled: u, `(N, D)`.
        network: The network at these points.
        prepared: What the field has prepared.
        circles: Places of angles.

    Example:
        >>> import torch, cnf
        >>> from cnf.continuous.fields import PartialField
        >>> field = PartialField(cnf.MLPField(2, hidden=(8, 8), context_dim=6))
        >>> context = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
        >>> at = field.linearize(torch.tensor(0.5), torch.randn(1, 2), context)
        >>> torch.allclose(at.trace(), at.jacobian.diagonal(dim1=1, dim2=2).sum(1), atol=1e-6)
        True
    """

    def __init__(
        self, x: Tensor, modelled: Tensor, network: ChainLinearization, prepared: Patterned, circles: Sequence[int]
    ) -> None:
        super().__init__(x)
        self.modelled, self.network, self.prepared, self.circles = modelled, network, prepared, list(circles)

    @property
    def velocity(self) -> Tensor:
        return self.modelled * self.network.velocity[:, : self.x.shape[1]]

    def pushforward(self, v: Tensor) -> Tensor:
        return self.modelled * self.network.pushforward(self._seen(v * self.modelled))[..., : self.x.shape[1]]

    def vjp(self, v: Tensor) -> Tensor:
        wide = torch.nn.functional.pad(v * self.modelled, (0, len(self.circles)))
        u = self.network.vjp(wide)
        moved, sines = u[..., : self.x.shape[1]].clone(), u[..., self.x.shape[1] :]
        angles = self.x[:, self.circles]
        moved[..., self.circles] = angles.cos() * sines - angles.sin() * moved[..., self.circles]
        return moved * self.modelled

    def _seen(self, v: Tensor) -> Tensor:
        """The rate of what the network reads, for a rate v of the points."""
        if not self.circles:
            return v
        angles, rates = self.x[:, self.circles], v[..., self.circles]
        seen = torch.cat((v, angles.cos() * rates), -1)
        seen[..., self.circles] = -angles.sin() * rates
        return seen

    def trace(self) -> Tensor:
        matrices = self.prepared.matrices
        if matrices is None:
            return self._by_tangents()
        inner, outer = self.network.scales
        if len(matrices) == 1:
            return self._of_pattern(matrices[0], inner, outer, self.x)
        traces = [
            self._of_pattern(matrix, inner[rows], outer[rows], self.x[rows])
            for matrix, rows in zip(matrices, self.prepared.rows, strict=True)
        ]
        order = torch.cat(list(self.prepared.rows))
        return torch.cat(traces).new_zeros(len(self.x)).index_copy(0, order, torch.cat(traces))

    def _of_pattern(self, matrix: Tensor, inner: Tensor, outer: Tensor, x: Tensor) -> Tensor:
        """`Σ_jk d_1j M_jk d_0k`; of angles, that by the cosine times −sin and that by the sine times cos."""
        total = ((inner @ matrix[0].mT) * outer).sum(1)
        for number, place in enumerate(self.circles):
            cosine, sine = (((inner @ matrix[1 + 2 * number + part].mT) * outer).sum(1) for part in (0, 1))
            total = total - x[:, place].sin() * cosine + x[:, place].cos() * sine
        return total

    def _by_tangents(self) -> Tensor:
        """Column by column of the Jacobian, all at once."""
        basis = torch.eye(self.x.shape[1]).to(self.x)[:, None].expand(-1, *self.x.shape)
        return (self.pushforward(basis) * basis).sum((0, 2))
