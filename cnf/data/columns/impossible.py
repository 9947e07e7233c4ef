"""Reasons for which no density exists. Each rule yields sentences for the error message."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from cnf.data.columns.column import listed
from cnf.data.columns.look import Look

COARSE = 20  # numbers of the dtype that a standard deviation must hold, see `Standardize`


def _constant(look: Look) -> Iterator[str]:
    names = [f"{c.name} (always {c.raw[0]:g})" for c in look.x if (c.raw == c.raw[0]).all()]
    if look.n == 1:
        yield "there is one row, and a density cannot be learned from it: give more, (N, *event)"
    elif names:
        yield f"{listed(names)} has the same value {look.seen}, and a constant has no density: drop it"


def _coarse(look: Look) -> Iterator[str]:
    for column in look.x:
        centre, scale = column.scale
        if scale > COARSE * torch.finfo(look.rows.dtype).eps * abs(centre) or (column.raw == column.raw[0]).all():
            continue
        dtype, remedy = str(look.rows.dtype).removeprefix("torch."), f"subtract an offset such as {centre:.2g} from it"
        if np.abs(column.raw).max() < torch.finfo(look.rows.dtype).tiny:
            remedy = "multiply it by a power of ten"
        remedy += " in the table" if look.named else " in float64, or train flow.double() on data in float64"
        yield (
            f"{column.name} varies by {column.raw.std():.3g} around {centre:.6g}, where {dtype} has only "
            f"{column.distinct:,} values for its {len(np.unique(column.raw)):,}: {remedy}"
        )


def _follows(look: Look) -> Iterator[str]:
    if texts := [text for text, off in look.tied if not off]:
        yield f"{listed(texts)} {look.seen}: drop one of them, because together they have no density"


ERRORS = (_constant, _coarse, _follows)
