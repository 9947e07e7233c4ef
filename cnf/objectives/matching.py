"""Flow matching: train a CNF's field by regression on velocities, without solving its equation.

A path leads from a point of the base to a point of the data, a coupling says which base point goes with which row of
data. The field that minimises the squared distance to the velocities of all these paths carries the base to the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cnf.arguments import Positive, ShareOrZero, checked
from cnf.flows import Flow
from cnf.objectives.couplings import Coupling, IndependentCoupling
from cnf.objectives.interface import Loss, some
from cnf.objectives.paths import Path, StraightPath


@checked
@dataclass(frozen=True)
class FlowMatching:
    """Flow matching: regression of the field on velocities, `E ‖f(t, x_t) − u_t‖²` over times, base points and data.

    The minimum is a field that carries the base to the data. No equation is solved, so a step costs about three
    evaluations of the field. The log-density of the trained flow is as exact as that of any other. Transforms around
    the CNF (standardisation, a logit) act on data and base, and are not trained.

    The metric `matching` is the loss. It does not go to zero: the rest is the variance of the velocities that meet in a
    point, which an optimal coupling makes small.

    Args:
        path: From base to data; `PATHS`.
        coupling: Which base point goes with which row; `COUPLINGS`.
        source: A function of n that gives n finite points in the place of base samples, for transport from one data
            set to another. The densities of the flow are still those of its base and mean nothing then, so `cnf.fit`
            takes no validation rows.
        late: Times are `1 − u^late` with u uniform: above 1 more of them are near the data, where edges and details are
            formed. The minimum is the same field.
        forget: Share of the rows whose context is left out, so that the field can be `cnf.guided`; 0.1 is usual. The
            field then reads zeros, the mean of a standardised context.

    Raises:
        TypeError: The flow has no CNF, or path or coupling is none, such as a name or a class.
        ValueError: It has more than one, a source of another shape, `late` is not positive, or a context is to be
            left out where there is none.

    References:
        Lipman et al. 2023, arXiv 2210.02747; Tong et al. 2024, arXiv 2302.00482; without context: Ho and Salimans
        2022, arXiv 2207.12598.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("cnf", 2, hidden=8)
        >>> loss = cnf.FlowMatching(coupling=cnf.OptimalTransport())(flow, torch.randn(64, 2))
        >>> loss.value.shape, loss.rows.shape
        (torch.Size([]), torch.Size([64]))
    """

    path: Path = StraightPath()
    coupling: Coupling = IndependentCoupling()
    source: Callable[[int], Tensor] | None = None
    late: Positive = 1.0
    forget: ShareOrZero = 0.0

    def __call__(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Loss:
        x, context = some(*flow.rows(x, context))
        base = flow.base.rsample(len(x)) if self.source is None else self._drawn(x)
        if self.forget and context is None:
            raise ValueError("forget leaves the context out in some rows, and this flow has none: leave forget out")
        return _regress(flow, base, x, context, self.path, self.coupling, self.late, self.forget)

    def _drawn(self, x: Tensor) -> Tensor:
        assert self.source is not None
        base = torch.as_tensor(self.source(len(x))).to(x)
        if not base.isfinite().all():
            raise ValueError("the source returned NaN or infinite values: every point that it draws must be finite")
        return base


@checked
@dataclass(frozen=True)
class Reflow:
    """Flow matching on pairs that a trained flow makes: base points and where it carries them.

    The paths of a flow do not cross. So a second flow that is trained on straight lines between their ends has
    straighter paths, and can be sampled in fewer steps. The rows of data only say how many pairs to make, and give the
    contexts.

    Args:
        teacher: The trained flow; a loose tolerance makes it cheaper (`cnf.reconfigure`).
        path: From base to data.

    Raises:
        TypeError: The teacher is no flow.
        ValueError: A teacher whose base has other dimensions than its data (`Augment`): the image of a base point is
            drawn at random then. In use, a teacher of other events or contexts than the flow.

    References:
        Liu et al. 2023, Rectified flow, arXiv 2209.03003.

    Example:
        >>> import copy, torch, cnf
        >>> flow = cnf.build("cnf", 2, hidden=8)
        >>> objective = cnf.Reflow(teacher=copy.deepcopy(flow))
        >>> [points.shape for points in objective.pairs(3)]
        [torch.Size([3, 2]), torch.Size([3, 2])]
        >>> loss = objective(flow, torch.randn(64, 2))
    """

    teacher: Flow
    path: Path = StraightPath()

    def __post_init__(self) -> None:
        if self.teacher.base.event_shape != self.teacher.event_shape:
            raise ValueError("an augmented flow has no pairs of a base point and its image: take another teacher")

    @torch.no_grad()
    def pairs(self, n: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`n` base points and their images, each `(n, *event)`."""
        base = self.teacher.base.sample(n)
        return base, self.teacher.transform.push(base, context)

    def __call__(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Loss:
        x, context = self.teacher.rows(*some(*flow.rows(x, context)))
        base, data = self.pairs(len(x), context)
        loss = _regress(flow, base, data, context, self.path, IndependentCoupling())
        return loss._replace(rows=None)  # these are pairs, not rows of the data


def _regress(
    flow: Flow,
    base: Tensor,
    data: Tensor,
    context: Tensor | None,
    path: Path,
    coupling: Coupling,
    late: float = 1.0,
    forget: float = 0.0,
) -> Loss:
    """The squared distance of the field to the velocities of paths, `(N,)` and its mean."""
    part = flow.transform.continuous_part(base, data, context)  # a network on the context is trained along
    part = part._replace(base=part.base.detach(), data=part.data.detach())  # what stands before the field is not
    with torch.no_grad():
        if part.base.shape != part.data.shape:
            raise ValueError(
                f"base and data must be of one shape, got {tuple(part.base.shape)} and {tuple(part.data.shape)}: "
                "check the source's points and the data"
            )
        start = part.base[_paired(coupling, part.base, part.data, part.context)]
        t = 1 - _times(len(data)).to(part.data) ** late
        noise = torch.randn_like(part.data)
        point, target = path(t.reshape(-1, *[1] * (noise.dim() - 1)), start, part.data, noise)
        if not point.shape == target.shape == noise.shape:
            came = f"{tuple(point.shape)} and {tuple(target.shape)}"
            raise ValueError(
                f"{type(path).__name__} must return point and velocity, both {tuple(noise.shape)}, got {came}"
            )
    read = part.context
    if read is not None and forget:
        read = read * (torch.rand(len(read), 1) >= forget).to(read)
    rows = (part.velocity(t, point, read) - target).square().flatten(1).sum(1)
    return Loss(rows.mean(), {"matching": rows.detach().mean()}, rows)


def _paired(coupling: Coupling, base: Tensor, data: Tensor, context: Tensor | None) -> Tensor:
    """The row of the base for each row of data, checked."""
    rows = coupling(base, data, context)
    if rows.dtype != torch.long or rows.shape != (len(data),):
        raise ValueError(
            f"{type(coupling).__name__} must return a row of the base for each row of data, torch.int64 of shape "
            f"({len(data)},), got {rows.dtype} of shape {tuple(rows.shape)}"
        )
    return rows


def _times(n: int) -> Tensor:
    """Uniform times in [0, 1], spread evenly over the batch, in random order."""
    return (torch.randperm(n) + torch.rand(())) / n
