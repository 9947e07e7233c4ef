"""Training on any cells given any others: which are given is drawn anew at every step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cnf.arguments import Share, Size, checked
from cnf.discrete import States, cells_context
from cnf.flows import Flow
from cnf.objectives.interface import Loss, Objective, as_loss
from cnf.objectives.likelihood import MaximumLikelihood


@checked
@dataclass(frozen=True)
class AnyGiven:
    """An objective on rows of which random cells are given: `E_o objective(x_u | x_o)`, o from the cells present.

    For each group of rows one mask is drawn: none given with probability `joint`, otherwise each cell with a
    probability that is uniform on [0, 1]. Few groups keep the exact trace of a `PartialField` cheap.

    Args:
        objective: Of the conditional densities.
        joint: Share of the masks that give nothing.
        groups: Different masks in a batch.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("any_cnf", 2, hidden=(8, 8))
        >>> loss = AnyGiven()(flow, torch.zeros(4, 2))
        >>> loss.rows.shape
        torch.Size([4])
    """

    objective: Objective = MaximumLikelihood()
    joint: Share = 0.5
    groups: Size = 8

    def __call__(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Loss:
        states = States.of(context, x)
        present = states.modelled | states.given
        values = torch.where(states.given, states.values, x)
        given = self.masks(len(x), x.shape[1], x.device) & present
        return as_loss(self.objective(flow, x, cells_context(values, given, present & ~given)))

    def masks(self, n: int, dim: int, device: torch.device) -> Tensor:
        """Random masks of given cells, `(n, dim)`, in groups of consecutive rows; never all of a row."""
        groups = min(self.groups, n)
        share = torch.rand(groups, 1, device=device) * (torch.rand(groups, 1, device=device) >= self.joint)
        given = torch.rand(groups, dim, device=device) < share
        free = torch.randint(dim, (groups, 1), device=device)
        given.scatter_(1, free, False)
        return given.repeat_interleave(-(-n // groups), 0)[:n]
