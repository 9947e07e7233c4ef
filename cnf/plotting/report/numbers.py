"""Numbers, dates and levels as they are written on a page and along an axis."""

from __future__ import annotations

import datetime
import math

import numpy as np
from matplotlib.ticker import MaxNLocator

from cnf.tables import Column

MINUS = "\N{MINUS SIGN}"


def number(value: float, digits: int = 4) -> str:
    """A number in few signs.

    Example:
        >>> number(-1234.5678), number(2.5e7), number(0.0)
        ('−1234.57', '2.5e7', '0')
    """
    if not math.isfinite(value):
        return "—" if math.isnan(value) else "∞" if value > 0 else MINUS + "∞"
    size = abs(value)
    if value and not 1e-3 <= size < 1e5:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        text = f"{float(mantissa):.{digits}g}e{int(power)}"
    else:
        text = f"{value:.{max(digits, 2 + len(str(int(size))))}g}"
    return text.replace("-", MINUS)


def with_error(mean: float, error: float) -> str:
    """A mean and its standard error, `1.23 ± 0.04`, in the digits that the error allows.

    Example:
        >>> with_error(-12.34567, 0.0421), with_error(5.0, float("nan"))
        ('−12.346 ± 0.042', '5.000')
    """
    if not math.isfinite(error):
        return f"{mean:.3f}".replace("-", MINUS)
    places = 3 if error <= 0 else min(max(1 - math.floor(math.log10(error)), 0), 6)
    return f"{mean:.{places}f} ± {error:.{places}f}".replace("-", MINUS)


def cell(value: float, column: Column) -> str:
    """A value of a column that is coded as a number: a level, a date, or a number."""
    if math.isnan(value):
        return "empty"
    if column.levels:
        level = column.levels[int(value)]
        return number(level) if isinstance(level, float) else str(level)
    if column.kind == "date":
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(days=value)
        return f"{moment:%Y-%m-%d}" if value == round(value) else f"{moment:%Y-%m-%d %H:%M}"
    return number(value, 5)


def ticks(low: float, high: float, most: int = 3) -> list[float]:
    """Few round numbers between two ends.

    Example:
        >>> ticks(-0.2, 10.3)
        [0.0, 5.0, 10.0]
    """
    places = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(place) for place in np.asarray(places) if low <= place <= high]


def share(value: float) -> str:
    """A share of 1 in per cent; what is not nothing is never written as 0 %."""
    if 0 < value < 0.001:
        return "< 0.1 %"
    return f"{100 * value:.{1 if value < 0.1 else 0}f} %"
