"""The errors of the package: one family, so that one `except cnf.CnfError` sees all of them.

Wrong arguments are plain ValueErrors and TypeErrors, as everywhere in Python.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

Self = TypeVar("Self", bound="SampleError")


class CnfError(Exception):
    """The base of all errors of the package."""


class SampleError(CnfError, RuntimeError):
    """A computation that failed for some rows of a batch.

    Args:
        reason: What happened.
        samples: Rows of the batch that failed.
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
        """What happened to each of the samples."""
        return [self.reason] * len(self.samples)

    def renumbered(self: Self, rows: Sequence[int]) -> Self:
        """The same error, where the batch was the given rows of more data."""
        error = copy.copy(self)
        error.samples = list(dict.fromkeys(int(rows[sample]) for sample in self.samples))  # each row once
        return error


class SolverError(SampleError):
    """A solve that cannot reach its end within its tolerance.

    Args:
        reason: What happened.
        samples: Rows of the batch that stopped it.
        advice: What to try.
        time: Where the solve stood.
        each: Reason and time of each of the samples, where they are known; else those of all.
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
    """An iteration, such as that of an inverse without a closed form, that ended before it met its tolerance."""


class TrainingError(CnfError, RuntimeError):
    """Training that cannot go on; the message says at which step, for which rows and what to try.

    Args:
        reason: What happened, at which step and for which rows.
        kept: What the flow and the folder hold now.
        advice: What to try.
    """

    def __init__(self, reason: str, kept: str = "", advice: str = "") -> None:
        super().__init__(reason, kept, advice)
        self.reason, self.kept, self.advice = reason, kept, advice

    def __str__(self) -> str:
        parts = (f"{self.reason}.", f"{self.kept}." * bool(self.kept), f"Try: {self.advice}" * bool(self.advice))
        return " ".join(part for part in parts if part)


class CheckpointError(CnfError, RuntimeError):
    """A saved model or checkpoint that cannot be read; the message names the file and what is wrong with it."""


class DataError(CnfError, ValueError):
    """Data that cannot be used; the message says what was expected, what came, and what to do."""


class DataWarning(UserWarning):
    """Data of which a density means little; the message names the columns and says what to do."""


class FailedRowsWarning(UserWarning):
    """Rows whose density cannot be found; the message names them, each with its reason."""
