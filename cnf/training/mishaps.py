"""Errors of a step of training: the reason, the rows of the data at fault, what the flow holds, and what to try."""

from __future__ import annotations

import copy
from pathlib import Path

from torch import Tensor

from cnf.errors import SampleError, TrainingError
from cnf.objectives.phases import Phase


def rows_at_fault(error: SampleError, rows: Tensor) -> tuple[str, Tensor, str]:
    """Words, rows of the data, and advice, of an error in some rows of a batch.

    Numbers of samples that the objective made itself stay in the words, since they are no rows of the data.

    Args:
        error: Counts the rows of the batch.
        rows: Numbers of these rows in the data.

    Example:
        >>> import torch
        >>> rows_at_fault(SampleError("the solve failed", torch.tensor([1])), torch.tensor([7, 9]))[1]
        tensor([9])
    """
    named = rows[error.samples] if all(sample < len(rows) for sample in error.samples) else rows[:0]
    told = copy.copy(error)
    told.samples, told.advice = ([] if len(named) else error.samples), ""
    return str(told).removesuffix("."), named, error.advice.removesuffix(".")


def bad_rows(losses: Tensor | None, rows: Tensor) -> Tensor:
    """The rows whose loss is not finite; all rows of the batch where the objective gives no loss for each row.

    Example:
        >>> import torch
        >>> bad_rows(torch.tensor([1.0, torch.inf]), torch.tensor([7, 9]))
        tensor([9])
    """
    return rows[~losses.isfinite()] if losses is not None and losses.shape == rows.shape else rows


def training_error(
    step: int, reason: str, rows: Tensor, *, judged: bool, path: Path | None, phase: Phase, advice: str = ""
) -> TrainingError:
    """The error that ends a run.

    Args:
        step: At which it happened.
        reason: What happened.
        rows: Of the data, that are at fault.
        judged: Whether the flow holds weights that were judged.
        path: The checkpoint, if there is one.
        phase: Has the learning rate and the clipping.
        advice: What else to try.
    """
    culprits = f". Rows of the data: {rows[:8].tolist()} ({len(rows)} in all)" if len(rows) else ""
    weights = "the best weights so far" if judged else "the averaged weights of the steps before"
    where = f", and {path} can be resumed" if path is not None and path.exists() else ""
    return TrainingError(
        f"step {step}: {reason}{culprits}",
        f"The flow holds {weights}{where}",
        f"a smaller learning_rate (now {phase.learning_rate:g}) or clip (now {phase.clip:g}), a longer warmup, "
        f"looking at these rows for outliers, or float64{f'; or {advice}' if advice else ''}.",
    )
