"""The data-dependent start of a run: from some of its rows, shown if it takes long, and within the budget."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from cnf.data.rows import Rows
from cnf.errors import SampleError
from cnf.flows import Flow
from cnf.starts import watched

TRAINED_ROWS = 16_384  # for the start of a flow that is then trained
FITTED_ROWS = 65_536  # for the start of a flow that has no parameters to train
SHARE = 0.5  # of the seconds allowed that the start of a flow to be trained may take


def initialize(
    flow: Flow,
    rows: Rows | None,
    seed: int,
    *,
    trained: bool,
    seconds: float | None,
    shown: bool,
    clock: Callable[[], float] = time.perf_counter,
) -> bool:
    """Take the start from the first rows of a fixed permutation, and tell whether there was time for all of it.

    Args:
        flow: Left as it is if it was initialised before.
        rows: The data; without them no layer starts from data, now or later.
        seed: Random seed of the permutation.
        trained: Whether training follows, which needs time too.
        seconds: Allowed for all; None for no limit.
        shown: Whether to show a start of more than a second.
        clock: Gives the seconds that are counted.
    """
    if flow.initialized or not flow.transform.data_dependent:
        return True
    if rows is None:
        flow.initialize(None)
        return True
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    some = order[: TRAINED_ROWS if trained else FITTED_ROWS]
    x, context, numbers = rows.read(some.sort().values.tolist())
    device = flow.base.device
    watch = _Watch(None if seconds is None else seconds * (SHARE if trained else 1), shown, clock)
    try:
        with watch.bar, watched(watch):
            flow.initialize(x.to(device), None if context is None else context.to(device))
    except SampleError as error:
        raise error.renumbered(numbers.tolist()) from error
    if watch.late and trained:
        warnings.warn(
            f"the start from the data was ended after {SHARE:.0%} of the seconds allowed, {seconds:g}: the layers that "
            "are left start without the data; give more seconds, fewer columns or a smaller model",
            stacklevel=5,
        )
    return not watch.late


@dataclass
class _Watch:
    """Counts the steps of a start on a bar, and ends it when its time is up."""

    allowed: float | None
    shown: bool
    clock: Callable[[], float]
    late: bool = False

    def __post_init__(self) -> None:
        self.begun = self.clock()
        self.bar: Any = tqdm(desc="start", unit=" steps", delay=1.0, leave=False, disable=not self.shown)

    def __call__(self) -> bool:
        self.bar.update()
        self.late = self.allowed is not None and self.clock() - self.begun > self.allowed
        return self.late
