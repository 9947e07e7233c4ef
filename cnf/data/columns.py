"""What the columns of a table have to be for a density to exist, and what they should be for it to mean something.

All is judged at the precision of the flow, from a bounded number of rows, and said once: one error or one warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from cnf.data.rows import Batch, Rows
from cnf.errors import DataError, DataWarning
from cnf.spread import FEWEST, WILD

MOST_CELLS = 2**22  # looked at: a second's work
MOST_ROWS = 65_536
MOST_ITEMS = 1024  # of a dataset, each of which may be read from a file
MOST_KEYS = 2**21  # rows looked through for copies
ORDERED = 1000  # rows whose order is compared
ALIKE = 1 - 1e-6  # correlation of ranks from which on all rows are compared: rounding may tie a few
MOST_PRODUCTS = 2**31  # in search for dependence: two seconds
SHOWN = 5  # columns that a message lists of a kind
FEW_VALUES = 256  # of which the likelihood finds each one: a marginal spline has as many knots
ATOM = 0.01  # share of the rows with one value, from which on the likelihood finds it
COPIES = 0.01  # share of rows that repeat another one: fewer change no mean by more than its noise
COARSE = 20  # numbers of the dtype that a standard deviation must hold, see `Standardize`
FAR = 1e4  # scales of the bulk, beyond which a value leaves four digits of float32 for the others
CURVED = 1e-3  # off the line between neighbours, in standard deviations, of a column on a curve over another one
CURVE_RATIO = 2.5  # of that at twice the distance: 4 on a curve, 1 for noise
MOST_CURVES = 64  # columns that are compared with each other
TIED = 2e-3  # standard deviation of a column given the others, in its own: 0.999998 of its variance follows from them
DENSE = 1.3  # span of whole numbers without repeats, in rows of the table: a shuffled index, of which a part is seen


def check_rows(rows: Rows, *, quiet: bool = False) -> None:
    """Say what is wrong with the columns of `rows`, the first time they are seen.

    Events with several axes (images) are not looked at.

    Args:
        rows: What a flow is to be trained on.
        quiet: Whether to leave out the warning; errors are raised all the same.

    Raises:
        DataError: No density exists: a column is constant, follows from others, or varies less than its dtype shows.

    Warns:
        DataWarning: A density exists that means little: a column of few values, an index, rows far out, copied rows.

    Example:
        >>> x = torch.randn(1000, 2)
        >>> x[:, 1] = x[:, 0].exp()
        >>> check_rows(Rows(x))
        Traceback (most recent call last):
        cnf.errors.DataError: column 1 follows from column 0 in all 1,000 rows: drop one of them, ...
    """
    if rows.checked:
        return
    rows.checked = True
    some = _some(rows)
    read = rows.read(some.tolist())  # what is not finite, or not in the dtype, is an error there
    sample = rows.raw(some) or _as_arrays(read)
    if sample[0].ndim != 2:
        return
    look = _Look(rows, *sample)
    if errors := [text for rule in ERRORS for text in rule(look)]:
        raise DataError("; ".join(errors))
    remarks = [text for rule in WARNINGS for text in rule(look)] if not quiet and look.n >= FEWEST else []
    if remarks:
        warnings.warn(DataWarning("; ".join(remarks)), stacklevel=3)


def row_keys(values: np.ndarray) -> np.ndarray:
    """A number for each row of `(N, D)`, equal for equal rows and, but for one chance in 2⁶⁴, for no others."""
    keys = np.zeros(len(values), dtype=np.uint64)
    for column in values.T:
        bits = (column.astype(np.float64) + 0.0).view(np.uint64)  # −0 is 0
        keys = (keys ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def _as_arrays(batch: Batch) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    x, context, numbers = batch
    return x.cpu().numpy(), None if context is None else context.cpu().numpy(), numbers.numpy()


def _some(rows: Rows) -> np.ndarray:
    """Rows drawn without order or bias, few enough, in the order of the data."""
    width = max(sum(int(np.prod(part.shape[1:])) for part in rows.parts), 1)
    most = min(MOST_ROWS, max(4096, MOST_CELLS // width)) if rows.parts else MOST_ITEMS
    if len(rows) <= most:
        return np.arange(len(rows))
    return np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))


@dataclass(frozen=True)
class _Column:
    """One column at the flow's precision.

    Args:
        name: What messages call it.
        values: `(n,)`, in the rows' order, in float64.
        raw: The same before it was rounded to the flow's precision.
        eps: Of the precision.
        unit: Size from which on rounding errors are relative: 0 for numbers, 1 for logarithms.
    """

    name: str
    values: np.ndarray
    raw: np.ndarray
    eps: float
    unit: float = 0.0

    @cached_property
    def counted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Different values, increasing; of each row which one it has; how many rows have each."""
        values, places, counts = np.unique(self.values, return_inverse=True, return_counts=True)
        return values, places.reshape(-1), counts

    @property
    def distinct(self) -> int:
        return len(self.counted[0])

    @property
    def whole(self) -> bool:
        return bool((self.counted[0] == np.round(self.counted[0])).all())

    @property
    def step(self) -> float:
        """The resolution: the usual distance between neighbouring values."""
        return float(np.median(np.diff(self.counted[0])))

    @property
    def top(self) -> tuple[float, float]:
        """The most frequent value and its share."""
        values, _, counts = self.counted
        return float(values[counts.argmax()]), float(counts.max() / len(self.values))

    @property
    def discrete(self) -> bool:
        n = len(self.values)
        return self.distinct <= min(FEW_VALUES, n / 2) or self.atom

    @property
    def atom(self) -> bool:
        return self.top[1] * len(self.values) >= max(10, ATOM * len(self.values))

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Centre and scale of the bulk."""
        low, quarter, middle, third, high = np.quantile(self.values, [0.05, 0.25, 0.5, 0.75, 0.95])
        std = float(self.values.std())
        bulk = (third - quarter) / 1.349 or (high - low) / 3.29
        return (float(middle), float(bulk)) if 0 < bulk < std / WILD else (float(self.values.mean()), std)


class _Look:
    """The columns of some rows.

    Args:
        rows: Where they are from.
        x: `(n, D)` as it was given.
        context: `(n, C)` or None.
        numbers: Of the rows.
    """

    def __init__(self, rows: Rows, x: np.ndarray, context: np.ndarray | None, numbers: np.ndarray) -> None:
        self.rows, self.numbers, self.n = rows, numbers, len(x)
        self.x = self._columns(x, rows.columns, "column")
        self.context = [] if context is None else self._columns(context, rows.context_columns, "context column")
        self.named = bool(rows.columns)

    def _columns(self, values: np.ndarray, names: Sequence[str], kind: str) -> list[_Column]:
        rounded = torch.as_tensor(values).to(self.rows.dtype).double().numpy()
        coarsest = torch.as_tensor(values[:0]).dtype
        eps = torch.finfo(self.rows.dtype).eps
        eps = max(eps, torch.finfo(coarsest).eps) if coarsest.is_floating_point else eps
        called = [repr(name) for name in names] if len(names) == values.shape[1] else []
        called = called or [f"{kind} {i}" for i in range(values.shape[1])]
        raw = values.astype(np.float64)
        return [_Column(called[i], rounded[:, i], raw[:, i], eps) for i in range(values.shape[1])]

    @property
    def seen(self) -> str:
        """How many rows."""
        return f"in all {self.n:,} rows" + (" looked at" if self.n < len(self.rows) else "")

    @cached_property
    def tied(self) -> list[tuple[str, float]]:
        """Columns that follow from others: in which way, and how far they are off, in their standard deviations."""
        alone = _same_order(self)
        sums = [*_linear(self, [*self.context, *self.x], alone)]
        products = [] if any(not off for _, off in sums) else _linear(self, _logarithms(self), alone)
        return [*((text, 0.0) for text in alone.values()), *sums, *(tie for tie in products if not tie[1])]


# What makes a density impossible --------------------------------------------------------------------------------


def _constant(look: _Look) -> Iterator[str]:
    names = [f"{c.name} (always {c.raw[0]:g})" for c in look.x if (c.raw == c.raw[0]).all()]
    if names:
        yield f"{_list(names)} has the same value {look.seen}, and a constant has no density: drop it"


def _coarse(look: _Look) -> Iterator[str]:
    for column in look.x:
        centre, scale = column.scale
        if scale > COARSE * torch.finfo(look.rows.dtype).eps * abs(centre) or (column.raw == column.raw[0]).all():
            continue
        dtype, remedy = str(look.rows.dtype).removeprefix("torch."), f"subtract an offset such as {centre:.2g} from it"
        if np.abs(column.raw).max() < torch.finfo(look.rows.dtype).tiny:
            remedy = "multiply it by a power of ten"
        remedy += " in the table" if look.named else " in float64, or train flow.double() on data in float64"
        yield (
            f"{column.name} varies by {column.raw.std():.3g} around {centre:.6g}, where {dtype} has but "
            f"{column.distinct:,} values for its {len(np.unique(column.raw)):,}: {remedy}"
        )


def _follows(look: _Look) -> Iterator[str]:
    if texts := [text for text, off in look.tied if not off]:
        yield f"{_list(texts)} {look.seen}: drop one of them, for together they have no density"


def _same_order(look: _Look) -> dict[str, str]:
    """Columns that are a monotone function of another one, by name: a copy, another unit, a logarithm."""
    some = _at_most(look.n, ORDERED)
    columns = [column for column in (*look.context, *look.x) if np.ptp(column.values[some]) > 0]
    if look.n < FEWEST or len(columns) < 2:
        return {}
    ranks = np.stack([_standardized(_ranks(column.values[some])) for column in columns])
    alike = np.abs(ranks @ ranks.T) / len(some) > ALIKE
    found: dict[str, str] = {}
    for i, column in enumerate(columns):
        earlier = alike[i, :i].nonzero()[0]
        if len(earlier) and any(column is member for member in look.x) and _monotone(columns[earlier[0]], column):
            found[column.name] = f"{column.name} follows from {columns[earlier[0]].name}"
    return found


def _ranks(values: np.ndarray) -> np.ndarray:
    """The place of each value in their order, the mean place where values are equal."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (counts.cumsum() - (counts - 1) / 2)[places.reshape(-1)]
    return ranks


def _monotone(one: _Column, other: _Column) -> bool:
    """Whether one grows, or falls, wherever the other does, in all rows; either may be rounded more."""
    return any(
        bool((np.diff(values[np.lexsort((values, one.values))]) >= 0).all()) for values in (other.values, -other.values)
    )


def _curves(look: _Look) -> dict[str, str]:
    """Columns that are a smooth function of another one, such as its square, by name; not those of straight lines.

    Along increasing values of one column, another is compared with what its neighbours say at distances 1 and 2: on a
    curve that is off by a fourth as much at half the distance, with noise it is off as much.
    """
    some = _at_most(look.n, ORDERED)
    columns = [column for column in (*look.context, *look.x) if not column.discrete]
    if look.n < ORDERED // 2 or not 2 <= len(columns) <= MOST_CURVES:
        return {}
    z = np.stack([_standardized(column.values[some]) for column in columns], 1)
    straight = np.abs(z.T @ z) / len(z) > 1 - TIED
    found: dict[str, str] = {}
    for i, column in enumerate(columns):
        near, far = (_off_the_neighbours(z[z[:, i].argsort()], i, distance) for distance in (1, 2))
        curved = (near < CURVED) & ((far > CURVE_RATIO * near) | (near < CURVED**2))
        for other in (columns[j] for j in (curved & ~straight[i]).nonzero()[0]):
            if column.name not in found and any(other is member for member in look.x):
                found.setdefault(other.name, f"{other.name} follows from {column.name}")
    return found


def _off_the_neighbours(z: np.ndarray, source: int, distance: int) -> np.ndarray:
    """The median distance of each column of rows `(n, D)`, ordered by one of them, from the line between neighbours."""
    before, here, after = z[: -2 * distance], z[distance:-distance], z[2 * distance :]
    gap = np.maximum(after[:, source] - before[:, source], np.finfo(np.float64).tiny)
    share = ((here[:, source] - before[:, source]) / gap)[:, None]
    off: np.ndarray = np.median(np.abs(here - (1 - share) * before - share * after), 0)
    return off


def _logarithms(look: _Look) -> list[_Column]:
    """Those of positive columns: what is a sum among them is a product or a ratio of the columns."""
    return [
        _Column(f"log {c.name}", np.log(c.values), c.raw, c.eps, unit=1.0)
        for c in (*look.context, *look.x)
        if (c.values > 0).all()
    ]


def _linear(look: _Look, among: Sequence[_Column], named: Collection[str]) -> Iterator[tuple[str, float]]:
    """Columns that are sums of multiples of others, or nearly so; not those that are named already.

    In the QR decomposition of the standardised columns, conditions first, each diagonal element is what the columns
    before leave of one.
    """
    some = _at_most(look.n, max(4096, MOST_PRODUCTS // max(len(among), 1) ** 2))
    columns = [column for column in among if column.values[some].std() > 0]
    if len(some) < 3 * len(columns) + FEWEST or len(columns) < 2:
        return
    z = np.stack([_standardized(column.values[some]) for column in columns], 1)
    left = np.abs(np.diag(np.linalg.qr(z, mode="r"))) / np.sqrt(len(some))
    conditions = sum(any(column.raw is condition.raw for condition in look.context) for column in columns)
    used: list[int] = []
    for i, column in enumerate(columns):
        if left[i] > TIED or i < conditions:
            used.append(i)
        if i in used or column.name in named:
            continue
        parts = [columns[k] for k in used]
        weights = np.linalg.lstsq(z[:, used], z[:, i], rcond=None)[0]
        factors = weights * column.values[some].std() / [part.values[some].std() for part in parts]
        if tie := _tie(column, parts, factors, weights):
            yield tie


def _at_most(n: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def _standardized(values: np.ndarray) -> np.ndarray:
    standardized: np.ndarray = (values - values.mean()) / values.std()
    return standardized


def _tie(
    column: _Column, parts: Sequence[_Column], factors: np.ndarray, weights: np.ndarray
) -> tuple[str, float] | None:
    """The formula of a column, and how far it is off; nothing if that is far."""
    values = np.stack([part.values for part in parts], 1)
    rest = column.values - values @ factors
    offset = np.median(rest)
    sizes = np.abs(values) @ np.abs(factors) + np.abs(column.values) + np.abs(offset) + column.unit
    exact = (np.abs(rest - offset) <= 8 * column.eps * sizes + 1e-13 * column.scale[1]).all()
    off = 0.0 if exact else max(float(np.quantile(np.abs(rest - offset), 0.9) / 1.645 / column.scale[1]), 1e-12)
    terms = [(part, factor) for part, factor, weight in zip(parts, factors, weights, strict=True) if abs(weight) > 1e-3]
    if off > TIED:
        return None
    return f"{column.name} = {_sum(terms)}", off


def _sum(terms: Sequence[tuple[_Column, float]]) -> str:
    """The formula, but for a constant."""
    texts = [part.name if f"{factor:.4g}" == "1" else f"{factor:.4g} × {part.name}" for part, factor in terms[:SHOWN]]
    return " + ".join(texts).replace("+ -", "− ") + (" + …" if len(terms) > SHOWN else "")


# What makes it meaningless --------------------------------------------------------------------------------------


def _discrete(look: _Look) -> Iterator[str]:
    found = [column for column in look.x if column.discrete and (column.whole or column.distinct <= FEW_VALUES)]
    if found:
        steps = [f"{column.step:.3g} for {column.name}" for column in found if column.distinct > 1]
        yield (
            f"values repeat in {_list([_counted(column) for column in found])}: the likelihood of such a column grows "
            "without end as the density narrows around them, and says nothing. Add noise to it that is uniform over a "
            f"step ({_list(steps)}), or drop it"
        )


def _counted(column: _Column) -> str:
    finer = len(np.unique(column.raw))
    kept = f", of {finer:,} before they were rounded" if finer > column.distinct else ""
    return f"{column.name} ({column.distinct} values{', whole numbers' if column.whole else ''}{kept})"


def _atoms(look: _Look) -> Iterator[str]:
    found = [column for column in look.x if column.atom and not column.whole and column.distinct > FEW_VALUES]
    if found:
        shares = [f"{column.name} ({column.top[0]:g} in {column.top[1]:.1%} of the rows)" for column in found]
        yield (
            f"one value is far more frequent than others in {_list(shares)}: the likelihood grows without end as the "
            "density narrows around it, and says nothing. Leave out these rows, or drop the column"
        )


def _index(look: _Look) -> Iterator[str]:
    names = [column.name for column in look.x if len(look.x) + len(look.context) > 1 and _numbers_rows(look, column)]
    if names:
        yield f"{_list(names)} numbers the rows, which says nothing of new ones: drop it"


def _numbers_rows(look: _Look, column: _Column) -> bool:
    """Whether it is a multiple of the row's number, or whole numbers without gaps or repeats in another order."""
    number, raw = look.numbers.astype(np.float64), column.raw
    slope = (raw[-1] - raw[0]) / (number[-1] - number[0])
    line = raw[0] + slope * (number - number[0])
    if slope and np.abs(raw - line).max() <= 4 * column.eps * np.abs(raw).max():
        return True
    if len(np.unique(raw)) < len(raw) or not (raw == np.round(raw)).all():
        return False
    return bool(raw.max() - raw.min() < DENSE * look.rows.given)


def _far(look: _Look) -> Iterator[str]:
    found = []
    for column in look.x:
        centre, scale = column.scale
        distances = np.abs(column.values - centre)
        if scale > 0 and distances.max() > FAR * scale:
            count = int((distances > FAR * scale / 10).sum())
            found.append(f"{column.name} ({count:,} rows, up to {column.raw[distances.argmax()]:.3g})")
    if found:
        yield (
            f"a few rows are thousands of times as far out as the others in {_list(found)}: remove them if they are "
            "errors, or take the column's logarithm"
        )


def _copied(look: _Look) -> Iterator[str]:
    columns = [*look.context, *look.x]
    if all(column.discrete for column in look.x):
        return  # those are what repeats
    keys = _keys(look.rows) if look.rows.parts else row_keys(np.stack([column.values for column in columns], 1))
    copies = len(keys) - len(np.unique(keys))
    if copies >= COPIES * len(keys) and not _by_rounding(columns):
        yield (
            f"{copies:,} of {len(keys):,} rows are copies of others: remove them, for what is learned of a row counts "
            "twice, and validation means nothing with the same rows on both sides"
        )


def _by_rounding(columns: Sequence[_Column]) -> bool:
    """Whether rows of rounded numbers agree by chance: nearly as many do when the columns are shuffled."""
    if len(columns) == 1:
        return bool(columns[0].counted[2].min() < 2)  # in the tails of rounded numbers some stand alone
    together = np.stack([column.values for column in columns], 1)
    shuffled = np.random.default_rng(0).permuted(together, axis=0)
    found, chance = (len(values) - len(np.unique(row_keys(values))) for values in (together, shuffled))
    return bool(found < 3 * chance)


def _keys(rows: Rows) -> np.ndarray:
    """Of the first rows, as many as a second's work; a copy far behind its original is not missed in a random sample
    only if there are few rows."""
    keys = []
    for start in range(0, min(len(rows), MOST_KEYS), MOST_ROWS):
        x, context, _ = rows.raw(np.arange(start, min(start + MOST_ROWS, len(rows)))) or (np.empty((0, 1)), None, None)
        keys.append(row_keys(x if context is None else np.concatenate((x, context), 1)))
    return np.concatenate(keys)


def _nearly(look: _Look) -> Iterator[str]:
    found = [f"{text} (but for {off:.1g} of its standard deviation)" for text, off in look.tied if off]
    if found:
        yield f"{_list(found)}: what is left is mostly rounding, and its density says little. Drop one of them"


def _curved(look: _Look) -> Iterator[str]:
    if found := list(_curves(look).values()):
        yield (
            f"{_list(found)} along a curve: together they have no density, and the likelihood grows without end as it "
            "narrows around the curve. Drop one of them"
        )


def _idle(look: _Look) -> Iterator[str]:
    names = [column.name for column in look.context if column.distinct == 1]
    if names:
        yield f"the condition {_list(names)} has one value in all rows, so nothing is learned of others"


Rule = Callable[[_Look], Iterator[str]]
ERRORS: tuple[Rule, ...] = (_constant, _coarse, _follows)
WARNINGS: tuple[Rule, ...] = (_discrete, _atoms, _index, _far, _copied, _nearly, _curved, _idle)


def _list(items: Sequence[str]) -> str:
    return ", ".join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")
