"""Runge-Kutta methods as tables of coefficients; the dict at the end is registry, validator and error text."""

from __future__ import annotations

from dataclasses import dataclass

from cnf.arguments import Finite, Size, checked


@checked
@dataclass(frozen=True)
class Tableau:
    """An explicit method `x₁ = x₀ + h Σ b_i k_i`, `k_i = f(t₀ + c_i h, x₀ + h Σ_j a_ij k_j)`.

    Attributes:
        order: Order of `b`, the solution that is carried on.
        a: Rows for the second stage on.
        b: Weights of the solution; stages after the last nonzero one serve the error estimate.
        c: Times of the stages.
        error: `b − b̂`, the weights of the embedded error estimate; None for methods without one. Methods with one
            here have the last stage at the solution (first same as last), so an accepted step costs one stage less.
    """

    order: Size
    a: tuple[tuple[Finite, ...], ...]
    b: tuple[Finite, ...]
    c: tuple[Finite, ...]
    error: tuple[Finite, ...] | None = None

    def __post_init__(self) -> None:
        stages = len(self.b)
        lengths = [*map(len, self.a)], len(self.c), stages if self.error is None else len(self.error)
        if lengths != ([*range(1, stages)], stages, stages):
            raise ValueError(
                f"a method of {stages} stages has rows of a 1, …, {stages - 1} long and as many c and errors"
            )

    @property
    def used(self) -> int:
        """Stages that the solution is made of."""
        return max(i for i, weight in enumerate(self.b) if weight) + 1


EULER = Tableau(1, (), (1.0,), (0.0,))
MIDPOINT = Tableau(2, ((1 / 2,),), (0.0, 1.0), (0.0, 1 / 2))
HEUN = Tableau(2, ((1.0,),), (1 / 2, 1 / 2), (0.0, 1.0))
RK4 = Tableau(
    4, ((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 1 / 2, 1 / 2, 1.0)
)  # fmt: skip

# Bogacki & Shampine 1989
BOSH3 = Tableau(
    order=3,
    a=((1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    b=(2 / 9, 1 / 3, 4 / 9, 0.0),
    c=(0.0, 1 / 2, 3 / 4, 1.0),
    error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
)

# Dormand & Prince 1980
DOPRI5 = Tableau(
    order=5,
    a=(
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
    c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
)

# Tsitouras 2011
TSIT5 = Tableau(
    order=5,
    a=(
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
        (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
    ),
    b=(0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774, 0.0),
    c=(0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
    error=(
        -0.00178001105222577714, -0.0008164344596567469, 0.007880878010261995, -0.1447110071732629,
        0.5823571654525552, -0.45808210592918697, 1 / 66,
    ),
)  # fmt: skip

TABLEAUS = {
    "euler": EULER,
    "midpoint": MIDPOINT,
    "heun": HEUN,
    "rk4": RK4,
    "bosh3": BOSH3,
    "dopri5": DOPRI5,
    "tsit5": TSIT5,
}
