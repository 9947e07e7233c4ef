"""The errors and warnings of the package; `except cnf.CnfError` catches all of the errors.

Wrong arguments are ValueErrors and TypeErrors, as usual in Python.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

__all__ = [
    "CheckpointError",
    "CnfError",
    "ConvergenceError",
    "DataError",
    "DataWarning",
    "FailedRowsWarning",
    "SampleError",
    "SolverError",
    "TrainingError",
]

Self = TypeVar("Self", bound="SampleError")


class CnfError(Exception):
    """The base class of all errors of the package.

    Example:
        >>> import cnf
        >>> try:
        ...     cnf.load("no/such/folder")
        ... except cnf.CnfError as error:
        ...     print(type(error).__name__)
        CheckpointError
    """


class SampleError(CnfError, RuntimeError):
    """A computation that failed for some rows of a batch.

    Args:
        reason: What happened.
        samples: Numbers of the rows that failed.
        advice: What to try.

    Example:
        >>> error = SampleError("no root was found", [2, 5], "look for huge values in these rows.")
        >>> print(error.renumbered([10, 11, 12, 13, 14, 15]))
        no root was found. Samples: 12, 15 (2 in all). Try: look for huge values in these rows.
    """

    def __init__(self, reason: str, samples: Sequence[int] = (), advice: str = "") -> None:
        super().__init__(reason, samples, advice)
        self.reason, self.samples, self.advice = reason, [int(sample) for sample in samples], advice

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.samples[:8])) + (", …" if len(self.samples) > 8 else "")
        rows = f" Samples: {shown} ({len(self.samples)} in all)." if self.samples else ""
        return f"{self._what()}.{rows}" + (f" Try: {self.advice}" if self.advice else "")

    def _what(self) -> str:
        return self.reason

    def reasons(self) -> list[str]:
        """What happened to each of the samples, in their order."""
        return [self.reason] * len(self.samples)

    def renumbered(self: Self, rows: Sequence[int]) -> Self:
        """The same error for a batch that consists of the given rows of a larger data set."""
        error = copy.copy(self)
        error.samples = list(dict.fromkeys(int(rows[sample]) for sample in self.samples))  # each row once
        return error


class SolverError(SampleError):
    """An ODE solve that cannot reach its end within its tolerance.

    Args:
        reason: What happened.
        samples: Numbers of the rows that failed.
        advice: What to try.
        time: The time t at which the solve stopped.
        each: Reason and time for each of the samples; by default `reason` and `time` for all.

    Example:
        >>> print(SolverError("the state is infinite", [3], "a smaller learning rate.", time=0.25))
        the state is infinite at t = 0.25. Samples: 3 (1 in all). Try: a smaller learning rate.
    """

    def __init__(
        self,
        reason: str,
        samples: Sequence[int] = (),
        advice: str = "",
        time: float = float("nan"),
        each: Sequence[tuple[str, float]] = (),
    ) -> None:
        super().__init__(reason, samples, advice)
        self.time, self.each = time, list(each)

    def reasons(self) -> list[str]:
        each = self.each or [(self.reason, self.time)] * len(self.samples)
        return [f"{reason} at t = {time:.6g}" for reason, time in each]

    def _what(self) -> str:
        return f"{self.reason} at t = {self.time:.6g}"


class ConvergenceError(SampleError):
    """An iteration that ended before it met its tolerance, such as that of an inverse without a closed form.

    Example:
        >>> print(ConvergenceError("no root was found", [7]))
        no root was found. Samples: 7 (1 in all).
    """


class TrainingError(CnfError, RuntimeError):
    """Training that cannot continue; the message says at which step, for which rows, and what to try.

    Args:
        reason: What happened, at which step and for which rows.
        kept: What the flow and the folder contain now.
        advice: What to try.

    Example:
        >>> print(TrainingError("the loss is NaN at step 12", "The flow has its weights of step 10", "other data."))
        the loss is NaN at step 12. The flow has its weights of step 10. Try: other data.
    """

    def __init__(self, reason: str, kept: str = "", advice: str = "") -> None:
        super().__init__(reason, kept, advice)
        self.reason, self.kept, self.advice = reason, kept, advice

    def __str__(self) -> str:
        parts = (f"{self.reason}.", f"{self.kept}." * bool(self.kept), f"Try: {self.advice}" * bool(self.advice))
        return " ".join(part for part in parts if part)


class CheckpointError(CnfError, RuntimeError):
    """A saved model or checkpoint that cannot be read; the message names the file and says what is wrong with it.

    Example:
        >>> import cnf
        >>> cnf.load("no/such/folder")
        Traceback (most recent call last):
        cnf.errors.CheckpointError: there is no model.json in no/such/folder: is it a folder that cnf wrote?
    """


class DataError(CnfError, ValueError):
    """Data that cannot be used; the message says what was expected, what came, and what to do.

    Example:
        >>> import torch, cnf
        >>> cnf.data.Rows(torch.tensor([[1.0], [float("nan")]]))
        Traceback (most recent call last):
        cnf.errors.DataError: column 0 of x has NaN or infinite values in 1 of 2 rows read, first in rows [1]: ...
    """


class DataWarning(UserWarning):
    """Data whose density means little; the message names the columns and says what to do.

    Example:
        >>> import warnings
        >>> import torch
        >>> from cnf.data import Rows, check_rows
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     check_rows(Rows(torch.randn(1000, 2).round()))  # whole numbers have no density
        >>> caught[0].category.__name__
        'DataWarning'
    """


class FailedRowsWarning(UserWarning):
    """Rows whose density cannot be computed; the message names them, each with its reason.

    Example:
        To have an error instead:

        >>> import warnings
        >>> warnings.simplefilter("error", FailedRowsWarning)
        >>> warnings.warn("1 of 20 rows have no log-density", FailedRowsWarning)
        Traceback (most recent call last):
        cnf.errors.FailedRowsWarning: 1 of 20 rows have no log-density
        >>> warnings.simplefilter("default", FailedRowsWarning)
    """
