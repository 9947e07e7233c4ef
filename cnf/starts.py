"""Data-dependent starts: long ones report their steps, and a warning reminds of one that was forgotten."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Protocol
from weakref import WeakSet, ref

import torch
from torch import Tensor

from cnf.errors import DataWarning

Watcher = Callable[[], bool]  # called after each step; returns whether to skip the remaining steps

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Call `watcher` after each step of the starts in this block; without it, all steps are taken.

    Example:
        >>> with watched(lambda: True):
        ...     time_is_up()
        True
    """
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def time_is_up() -> bool:
    """Report a step of a start; True if the remaining steps are to be skipped, where the map is complete without.

    Example:
        >>> time_is_up()
        False
    """
    watcher = _watcher.get()
    return watcher is not None and watcher()


UNSTARTED = (
    "this flow is trained without its data-dependent start, so it has to learn the location and the scale of the data: "
    "call flow.initialize(x) on the training data first (cnf.fit does)"
)


class Started(Protocol):
    """What the reminder needs to know of a flow."""

    training: bool

    @property
    def initialized(self) -> bool: ...


_REMINDED: WeakSet[Started] = WeakSet()


def remind_of_start(flow: Started, log_prob: Tensor) -> None:
    """Warn, once a flow, when the gradient of its likelihood is computed in training before its start."""
    trained = flow.training and log_prob.requires_grad and not torch.compiler.is_compiling()
    if not trained or flow in _REMINDED or flow.initialized:
        return
    this = ref(flow)

    def remind(gradient: Tensor) -> None:
        if (trained := this()) is not None and trained not in _REMINDED:
            _REMINDED.add(trained)
            warnings.warn(DataWarning(UNSTARTED), stacklevel=2)

    with suppress(RuntimeError):  # of a transformation by torch.func, whose tensors take no hooks
        log_prob.register_hook(remind)
