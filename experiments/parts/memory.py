"""The memory that a function needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch.profiler import ProfilerActivity, profile


def peak_megabytes(function: Callable[[], object]) -> float:
    """The most that tensors held at once, above what they held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return float(f"{max(held.max(initial=0), 0) / 2**20:.4g}")
