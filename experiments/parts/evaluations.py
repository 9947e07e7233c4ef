"""What an evaluation of a field with its trace costs, in units of one without."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cnf
from experiments.parts.work import Problem

Step = Callable[[], Tensor]  # a scalar with its graph


def seconds(step: Step, field: nn.Module) -> float:
    field.zero_grad()
    begun = time.perf_counter()
    step().backward()
    return time.perf_counter() - begun


def quantiles(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in np.quantile(values, [0.25, 0.5, 0.75])]


def cost(work: Problem, repeated: int, rounds: int) -> dict[str, Any]:
    """An evaluation of velocity and trace, forward and backward, divided by one of the velocity alone."""
    field, x = work.field, work.x.requires_grad_()
    t = torch.tensor(0.5)

    def alone() -> list[Tensor]:
        prepared = field.prepare()
        return [field.velocity(t, x, None, prepared).sum() for _ in range(repeated)]

    def with_trace(divergence: cnf.Divergence) -> list[Tensor]:
        probe = divergence.probe(x)
        prepared = divergence.prepare(field, None, probe)
        at = [field.linearize(t, x, None, prepared) for _ in range(repeated)]
        return [each.velocity.sum() + divergence(each, probe).sum() for each in at]

    kinds: dict[str, Step] = {
        "field alone": lambda: torch.stack(alone()).sum(),
        "closed form": lambda: torch.stack(with_trace(cnf.Exact())).sum(),
        "one probe": lambda: torch.stack(with_trace(cnf.Hutchinson())).sum(),
    }
    times = [{name: seconds(step, field) for name, step in kinds.items()} for _ in range(rounds)]
    ratios = {name: quantiles([each[name] / each["field alone"] for each in times[2:]]) for name in kinds}
    milliseconds = 1e3 * np.median([each["field alone"] for each in times[2:]]) / repeated
    return {
        "sizes": f"D = {work.case.dim}, H = {work.case.hidden[0]}",
        "field alone, ms": float(f"{milliseconds:.3g}"),
        **ratios,
    }
