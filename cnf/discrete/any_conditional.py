"""Densities of any cells of a row given any others, around a transform that respects which are which."""

from __future__ import annotations

import torch
from torch import Tensor

from cnf.arguments import checked
from cnf.discrete.cells import PartialWhiten, States
from cnf.discrete.elementwise import limited
from cnf.discrete.mixed import MixedMarginals
from cnf.distributions import LOG_2PI
from cnf.transforms import ContinuousPart, Mapped, Transform

EDGE = 1e-6  # of a turn: where float32 still tells a share from 0 or 1


@checked
class AnyConditional(Transform):
    """A transform of tables with `log p(x_u | x_o)` for all sets of cells u and o, in one `log_prob`.

    Cells become normal scores (`MixedMarginals`), white given the given ones (`PartialWhiten`), and pass the inner
    transform, which moves only modelled cells. Cells that are not modelled become 0 and count for nothing. The context
    `(N, 2D)` says which is which, see `cells_context`; without one all cells are modelled. `decode` leaves given cells
    as they are given, and makes absent ones NaN.

    The conditional densities of a trained flow are those that it has learnt. They agree with each other as far as they
    are accurate, not exactly.

    Args:
        marginals: Of the columns.
        transform: Acts on `(N, D)` with a context `(N, 3D)`, see `PartialField`; moves no cell that is not modelled.

    References:
        Li, Akbar and Oliva 2020, ACFlow, arXiv 1909.06319.

    Example:
        >>> import torch, cnf
        >>> from cnf.discrete import cells_context
        >>> flow = cnf.build("any_cnf", 2)
        >>> x = torch.randn(500, 1) + torch.randn(500, 2)
        >>> flow.initialize(x)
        >>> given = cells_context(x[:1], torch.tensor([True, False]))
        >>> flow.log_prob(x[:1], given).shape  # log p(x₂ | x₁)
        torch.Size([1])
        >>> bool((flow.sample(3, given[0])[:, 0] == x[0, 0]).all())
        True
    """

    data_dependent, continuous = True, True
    context_dim = None

    def __init__(self, marginals: MixedMarginals, transform: Transform) -> None:
        super().__init__()
        self.marginals, self.transform = marginals, transform
        self.whiten = PartialWhiten(marginals.dim)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        states = States.of(context, x)
        scores = self._scores(states)
        values, far = limited(torch.where(states.modelled, x, 0.0))
        cells, log_slope = self.marginals.cells(values)
        white, log_det = self.whiten.encode(cells, scores, states)
        white, further = limited(white)
        moved = self.transform.encode(white, _seen(scores, states))
        z, turned = self._unwound(moved.value, states)
        log_det = log_det + (log_slope * states.modelled).sum(1) + moved.log_det + turned + _uncounted(states, z)
        return moved._replace(value=z, log_det=log_det.masked_fill(far | further, -torch.inf))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        states = States.of(context, z)
        scores = self._scores(states)
        moved = self.transform.decode(self._wound(z, states), _seen(scores, states))
        cells, log_det = self.whiten.decode(moved.value, scores, states)
        x = self._values(cells, states)
        turned = self._unwound(self._wound(z, states), states)[1]
        log_det = (
            log_det
            + (self.marginals.values(cells).log_slope * states.modelled).sum(1)
            + moved.log_det
            - turned
            - _uncounted(states, z)
        )
        return moved._replace(value=x, log_det=log_det)

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        states = States.of(context, z)
        scores = self._scores(states)
        moved = self.transform.push(self._wound(z, states), _seen(scores, states))
        return self._values(self.whiten.decode(moved, scores, states)[0], states)

    def path(self, z: Tensor, times: Tensor, context: Tensor | None = None) -> Tensor:
        states = States.of(context, z)
        scores = self._scores(states)
        path = self.transform.path(self._wound(z, states), times, _seen(scores, states))
        return torch.stack([self._values(self.whiten.decode(point, scores, states)[0], states) for point in path])

    def base_of_scores(self, cells: Tensor, context: Tensor | None = None) -> Tensor:
        """Base points of normal scores `(N, D)`, such as the ends of `MixedMarginals.intervals`; without noise.

        Where one cell alone is modelled, its base point rises with its score, so `Φ` of it is a distribution function.
        """
        states = States.of(context, cells)
        scores = self._scores(states)
        white = self.whiten.encode(cells, scores, states)[0]
        return self._unwound(self.transform.encode(white, _seen(scores, states)).value, states)[0]

    def continuous_part(self, z: Tensor, x: Tensor, context: Tensor | None = None) -> ContinuousPart:
        states = States.of(context, x)
        scores = self._scores(states)
        cells = self.marginals.cells(torch.where(states.modelled, x, 0.0)).value
        white = self.whiten.encode(cells, scores, states)[0]
        return self.transform.continuous_part(self._wound(z, states), white, _seen(scores, states))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Fit marginals and correlations to the cells of `x` that are not absent."""
        states = States.of(context, x)
        present = states.modelled | states.given
        values = torch.where(states.given, states.values, x)
        self.marginals.initialize(values, present=present)
        free = torch.ones(x.shape[1], device=x.device)
        free[list(self.marginals.circles)] = 0
        self.whiten.initialize(self.marginals.scores(torch.where(present, values, 0.0)), present, free)

    def _scores(self, states: States) -> Tensor:
        """The mean scores of given cells, 0 elsewhere."""
        return torch.where(states.given, self.marginals.scores(torch.where(states.given, states.values, 0.0)), 0.0)

    def _values(self, cells: Tensor, states: States) -> Tensor:
        """The cells of scores, those that are given, and NaN for absent ones."""
        values = self.marginals.values(cells).value
        circles = list(self.marginals.circles)
        values[:, circles] = (values[:, circles] + torch.pi).remainder(2 * torch.pi) - torch.pi
        return torch.where(states.modelled, values, torch.where(states.given, states.values, torch.nan))

    def _unwound(self, x: Tensor, states: States) -> tuple[Tensor, Tensor]:
        """Uniform angles as normal numbers, and the log-determinant, `(N,)`."""
        circles = list(self.marginals.circles)
        if not circles:
            return x, x.new_zeros(len(x))
        there, z = states.modelled[:, circles], x.clone()
        share = (x[:, circles] / (2 * torch.pi) + 0.5).remainder(1).clamp(EDGE, 1 - EDGE)
        normal = torch.where(there, torch.special.ndtri(share), 0.0)
        z[:, circles] = normal
        return z, ((0.5 * normal.square() - 0.5 * LOG_2PI) * there).sum(1)

    def _wound(self, z: Tensor, states: States) -> Tensor:
        """Base points as the inner transform sees them: normal numbers, uniform angles, 0 for what is not modelled."""
        circles, x = list(self.marginals.circles), z.clone()
        x[:, circles] = 2 * torch.pi * (torch.special.ndtr(z[:, circles]) - 0.5)
        return x * states.modelled


def _seen(scores: Tensor, states: States) -> Tensor:
    """The context of the inner transform."""
    return torch.cat((states.modelled.to(scores), states.given.to(scores), scores), 1)


def _uncounted(states: States, z: Tensor) -> Tensor:
    """What a standard normal at 0 takes for cells that are not modelled, `½ log 2π` each."""
    return 0.5 * LOG_2PI * (~states.modelled).sum(1).to(z)
