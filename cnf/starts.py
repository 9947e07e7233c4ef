"""A data-dependent start that takes long tells of its steps, and leaves out the rest where it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watcher = Callable[[], bool]  # called after each step; whether to leave out those that are left

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Have the steps of starts in here watched; without that, they are all taken."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def time_is_up() -> bool:
    """Tell of a step of a start; whether the others are to be left out, as far as the flow is one without them."""
    watcher = _watcher.get()
    return watcher is not None and watcher()
