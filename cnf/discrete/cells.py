"""Rows of which some cells are modelled and others given: how a context says so, and whitening for all of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnf.arguments import Size, checked
from cnf.inputs import require_vectors

ABSENT, MODELLED, GIVEN = 0, 1, 2  # the states of a cell
SMALLEST = 1e-4  # eigenvalue of a correlation of scores, which are no finer than their estimates


class States(NamedTuple):
    """The cells of rows that are modelled and those that are given, and the values of the latter, `(N, D)` each.

    Attributes:
        modelled: Whether a cell is modelled.
        given: Whether a cell is given.
        values: Values of given cells; others do not matter.

    Example:
        >>> import torch
        >>> x = torch.tensor([[5.0, 7.0]])
        >>> States.of(cells_context(x, torch.tensor([True, False])), x).modelled
        tensor([[False,  True]])
    """

    modelled: Tensor
    given: Tensor
    values: Tensor

    @classmethod
    def of(cls, context: Tensor | None, like: Tensor) -> States:
        """The states in a context `(N, 2D)`, see `cells_context`; without one, all cells are modelled.

        Args:
            context: `(N, 2D)` or None.
            like: `(N, D)`.

        Raises:
            ValueError: A context of another width, or states that are none.
        """
        if context is None:
            none = torch.zeros_like(like, dtype=torch.bool)
            return cls(~none, none, torch.zeros_like(like))
        if context.shape[1] != 2 * like.shape[1]:
            raise ValueError(
                f"expected a context (N, {2 * like.shape[1]}), the states of {like.shape[1]} cells and the values of "
                f"those given, got {tuple(context.shape)}: make it by cnf.discrete.cells_context"
            )
        state, values = context.chunk(2, 1)
        return cls(state == MODELLED, state == GIVEN, values)


def cells_context(values: Tensor, given: Any = False, modelled: Any = None) -> Tensor:
    """The context of `any_cnf`, `(N, 2D)`: the states of cells (0 absent, 1 modelled, 2 given), then given values.

    Args:
        values: `(N, D)`; those of cells that are not given do not matter.
        given: Which cells are conditions: a mask `(N, D)`, or one that broadcasts to it.
        modelled: Which cells are modelled, likewise; by default all that are not given.

    Example:
        >>> import torch
        >>> cells_context(torch.tensor([[5.0, 7.0]]), torch.tensor([True, False]))
        tensor([[2., 1., 5., 0.]])
    """
    given = torch.as_tensor(given, device=values.device).expand(values.shape)
    modelled = ~given if modelled is None else torch.as_tensor(modelled, device=values.device).expand(values.shape)
    state = torch.where(given, GIVEN, torch.where(modelled, MODELLED, ABSENT)).to(values)
    return torch.cat((state, torch.where(given, values, 0.0)), 1)


class Patterns(NamedTuple):
    """The different rows of a mask, and which of them each row is.

    Attributes:
        masks: `(P, D)`.
        place: `(N,)`.
    """

    masks: Tensor
    place: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> Patterns:
        """The patterns of `(N, D)`."""
        return cls(*torch.unique(mask, dim=0, return_inverse=True))


@checked
class PartialWhiten(nn.Module):
    """`w = L⁻¹(z_u − S_uo S_oo⁻¹ m_o)`, `L Lᵀ = S_uu − S_uo S_oo⁻¹ S_ou`: modelled cells, white given the given ones.

    z are normal scores with the correlation S, u the modelled cells and o the given ones, of which m are the mean
    scores. Absent cells are integrated out. So with a standard normal behind it, this is the Gaussian copula for every
    u and o. `log_det` is `−log det L`. The factors are computed once for each pair (u, o) among the rows.

    Args:
        dim: D.

    Example:
        >>> import torch
        >>> from cnf.discrete.cells import PartialWhiten, States, cells_context
        >>> whiten = PartialWhiten(2)
        >>> z = torch.randn(2000, 1).expand(2000, 2) + 0.5 * torch.randn(2000, 2)
        >>> whiten.initialize(z, torch.ones(2000, 2, dtype=torch.bool), torch.ones(2))
        >>> w, log_det = whiten.encode(z, z, States.of(None, z))
        >>> bool((torch.corrcoef(w.T) - torch.eye(2)).abs().max() < 0.1)
        True
    """

    covariance: Tensor
    noise: Tensor

    def __init__(self, dim: Size) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("covariance", torch.eye(dim))  # of mean scores
        self.register_buffer("noise", torch.zeros(dim))  # what the variance of scores is above that of mean scores

    @torch.no_grad()
    def initialize(self, scores: Tensor, present: Tensor, free: Tensor) -> None:
        """Take the covariance of mean scores of rows, by the pairs of cells that are present.

        Args:
            scores: `(N, D)`.
            present: `(N, D)`, whether a cell has a value.
            free: `(D,)`, 0 for columns that are to stay uncorrelated with the others.
        """
        require_vectors(scores, self.dim)
        there = present.double() * free
        known = torch.where(present, scores.double(), 0.0) * free
        count = there.sum(0).clamp(min=1)
        centred = (known - known.sum(0) / count) * there
        pairs = there.mT @ there
        shrinkage = min(1.0, (self.dim / max(len(scores), 1)) ** 2)
        covariance = centred.mT @ centred / pairs.clamp(min=1) * (1 - shrinkage)
        covariance.diagonal().copy_(torch.where(free > 0, (centred.square().sum(0) / count).clamp(min=1e-3), 1.0))
        covariance = _positive(covariance)
        self.covariance.copy_(covariance)
        self.noise.copy_((1 - covariance.diagonal()).clamp(min=0))

    def encode(self, z: Tensor, scores: Tensor, states: States) -> tuple[Tensor, Tensor]:
        """The white cells, 0 where none is modelled, and `log_det`, `(N,)`."""
        factor, log_det = self._factors(states)
        values = torch.where(states.modelled, z, torch.where(states.given, scores, 0.0))
        white = torch.linalg.solve_triangular(*self._aligned(factor, values), upper=False).squeeze(-1)
        return self._back(white, factor) * states.modelled, log_det

    def decode(self, w: Tensor, scores: Tensor, states: States) -> tuple[Tensor, Tensor]:
        """The scores of modelled cells, and minus `log_det`."""
        factor, log_det = self._factors(states)
        given = torch.where(states.given, scores, 0.0)
        white = torch.linalg.solve_triangular(*self._aligned(factor, given), upper=False).squeeze(-1)
        mine = (w * states.modelled).gather(1, factor.order)
        z = torch.where(states.modelled.gather(1, factor.order), mine, white)
        moved = (self._lower(factor) @ z.unsqueeze(-1)).squeeze(-1)
        return self._back(moved, factor) * states.modelled, -log_det

    def _factors(self, states: States) -> tuple[Factors, Tensor]:
        """The factors of all patterns, and `log_det` of rows."""
        patterns = Patterns.of(torch.cat((states.modelled, states.given), 1))
        modelled, given = patterns.masks.chunk(2, 1)
        rank = torch.where(given, 0, torch.where(modelled, 1, 2))
        order = rank.argsort(dim=1, stable=True)
        there = (modelled | given).gather(1, order)
        covariance = self.covariance.double() + torch.diag_embed(self.noise.double() * ~given)
        sorted_ = covariance.gather(1, order[:, :, None].expand_as(covariance))
        sorted_ = sorted_.gather(2, order[:, None, :].expand_as(covariance))
        both = there[:, :, None] & there[:, None, :]
        lower = torch.linalg.cholesky(torch.where(both, sorted_, torch.eye(self.dim).to(sorted_)))
        log_diagonal = lower.diagonal(dim1=1, dim2=2).log() * modelled.gather(1, order)
        lower = lower.to(self.covariance.dtype)
        log_det = -log_diagonal.sum(1).to(lower)
        return Factors(lower, order[patterns.place], patterns.place), log_det[patterns.place]

    def _lower(self, factor: Factors) -> Tensor:
        return factor.lower[0] if len(factor.lower) == 1 else factor.lower[factor.place]

    def _aligned(self, factor: Factors, values: Tensor) -> tuple[Tensor, Tensor]:
        return self._lower(factor).expand(len(values), -1, -1), values.gather(1, factor.order).unsqueeze(-1)

    def _back(self, values: Tensor, factor: Factors) -> Tensor:
        return torch.zeros_like(values).scatter(1, factor.order, values)


class Factors(NamedTuple):
    """Cholesky factors of the patterns of rows, with the order of their columns: given, modelled, absent.

    Attributes:
        lower: `(P, D, D)`.
        order: `(N, D)`.
        place: `(N,)`, the pattern of each row.
    """

    lower: Tensor
    order: Tensor
    place: Tensor


def _positive(covariance: Tensor) -> Tensor:
    """The nearest covariance with the same diagonal whose correlation has no smaller eigenvalue than `SMALLEST`."""
    std = covariance.diagonal().sqrt()
    values, vectors = torch.linalg.eigh(covariance / std / std[:, None])
    correlation = vectors * values.clamp(min=SMALLEST) @ vectors.mT
    scale = correlation.diagonal().sqrt()
    return correlation / scale / scale[:, None] * std * std[:, None]
