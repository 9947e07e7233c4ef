"""Log-densities of many rows, in pieces of bounded memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from cnf.arguments import Count, checked
from cnf.continuous.twins import without_costs
from cnf.data.rows import as_rows
from cnf.errors import SampleError
from cnf.failures import OnFailure, warn
from cnf.flows import Flow


@checked
@torch.no_grad()
def log_prob_of_rows(
    flow: Flow,
    data: Any,
    *,
    batch_size: Count = 2048,
    progress: bool = False,
    on_failure: OnFailure = "nan",
) -> Tensor:
    """Log-densities of many rows in nats, computed in pieces of bounded memory, without gradients.

    Args:
        flow: The density.
        data: N rows of any kind that `cnf.fit` takes; a memory-mapped file stays on disk.
        batch_size: Rows evaluated together.
        progress: Whether to show a progress bar.
        on_failure: As for `Flow.log_prob`, but "nan" by default, so that a few bad rows do not lose the others. Rows
            are named by their numbers in `data`.

    Returns:
        `(N,)` on the CPU.

    Raises:
        DataError: NaN or infinite values in the data.
        SampleError: The density of some rows cannot be found within the tolerance, and `on_failure` is "raise".

    Warns:
        FailedRowsWarning: The density of some rows cannot be found, and `on_failure` is "nan".

    Example:
        >>> import numpy as np, cnf
        >>> flow = cnf.build("maf", 2, layers=1, hidden=8)
        >>> cnf.metrics.log_prob_of_rows(flow, np.zeros((5000, 2))).shape
        torch.Size([5000])
    """
    scored = score_rows(flow, data, batch_size=batch_size, progress=progress, on_failure=on_failure)
    warn(scored.failures, len(scored.log_prob))
    return scored.log_prob


class Scored(NamedTuple):
    """Log-densities of rows.

    Attributes:
        log_prob: `(N,)`, NaN where no density was found.
        failures: The reason for each of these rows, by row number.

    Example:
        >>> import torch
        >>> scored = Scored(torch.tensor([-1.0, float("nan")]), {1: "no root was found"})
        >>> len(scored.log_prob) - len(scored.failures), "rows have a density"
        (1, 'rows have a density')
    """

    log_prob: Tensor
    failures: dict[int, str]


@torch.no_grad()
def score_rows(
    flow: Flow,
    data: Any,
    *,
    batch_size: Count = 2048,
    progress: bool = False,
    on_failure: OnFailure = "nan",
) -> Scored:
    """Log-densities of many rows as `log_prob_of_rows` gives them, with the reason for each row that has none.

    Args:
        flow: As for `log_prob_of_rows`.
        data: As for `log_prob_of_rows`.
        batch_size: As for `log_prob_of_rows`.
        progress: As for `log_prob_of_rows`.
        on_failure: As for `log_prob_of_rows`.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.Flow(cnf.Compose([]), cnf.StandardNormal(2))
        >>> score_rows(flow, torch.zeros(2, 2))
        Scored(log_prob=tensor([-1.8379, -1.8379]), failures={})
    """
    flow = without_costs(flow)
    rows = as_rows(data, flow.base.dtype)
    log_prob, failures = torch.empty(len(rows), dtype=flow.base.dtype), dict[int, str]()
    with tqdm(total=len(rows), desc="log p", unit="row", unit_scale=True, disable=not progress) as bar:
        for chosen in torch.arange(len(rows)).split(batch_size):
            x, context, numbers = rows.read(chosen.tolist())
            try:
                log_prob[chosen], failed = _scored_on_device(flow, x, context, on_failure)
            except SampleError as error:
                raise error.renumbered(numbers.tolist()) from error
            failures |= {int(numbers[row]): reason for row, reason in failed.items()}
            bar.update(len(chosen))
    return Scored(log_prob, failures)


def _scored_on_device(flow: Flow, x: Tensor, context: Tensor | None, on_failure: str) -> Scored:
    given = x.to(flow.base.device), None if context is None else context.to(flow.base.device)
    if on_failure == "raise":
        return Scored(flow.log_prob(*given).cpu(), {})
    log_prob, failures = flow.scored(*given)
    return Scored(log_prob.cpu(), failures)
