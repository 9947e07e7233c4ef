"""One number for each row: what divergences, regularizers and base densities return."""

from __future__ import annotations

from torch import Tensor


def one_a_row(owner: object, values: object, n: int) -> Tensor:
    """What a part computed for n rows, which must be one number for each.

    Args:
        owner: The part, for the message.
        values: What it returned.
        n: The number of rows.

    Raises:
        ValueError: It is of another shape than `(n,)`, which would broadcast to wrong numbers.

    Example:
        >>> import torch, cnf
        >>> one_a_row(cnf.Exact(), torch.tensor([1.0, 2.0]), 2)
        tensor([1., 2.])
        >>> one_a_row(cnf.Exact(), torch.tensor(3.0), 2)
        Traceback (most recent call last):
        ValueError: Exact must return one number for each row, (N,), got shape () for 2 rows: sum over dimensions only
    """
    if not isinstance(values, Tensor) or values.shape != (n,):
        came = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(
            f"{type(owner).__name__} must return one number for each row, (N,), got {came} for {n} rows: "
            "sum over dimensions only"
        )
    return values
