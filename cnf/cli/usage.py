"""What all commands share."""

from __future__ import annotations

import torch

from cnf.errors import CnfError
from cnf.flows import Flow

SMALL = 100_000  # parameters


class UsageError(CnfError, ValueError):
    """A request that cannot be met; the message says what was expected, what came and what to do."""


def use_threads(flow: Flow, threads: int | None = None) -> None:
    """Small matrices are multiplied faster than threads are woken, above all on a machine with other work."""
    small = sum(parameter.numel() for parameter in flow.parameters()) < SMALL
    if threads or small:
        torch.set_num_threads(threads or 1)
