"""FFJORD's ten toys by name."""

from __future__ import annotations

import math
from functools import partial

from cnf.arguments import checked
from cnf.data.toys import curves, mixtures, pinwheel
from cnf.data.toys.interface import Toy


@checked
def toy(name: str) -> Toy:
    """Look up a toy distribution.

    Args:
        name: swissroll, circles, rings, moons, 8gaussians, pinwheel, 2spirals, checkerboard, line or cos.

    Raises:
        ValueError: The name is unknown; the message lists the known names.

    Example:
        >>> import torch
        >>> moons = toy("moons")
        >>> x = moons.sample(1000, generator=torch.Generator().manual_seed(0))
        >>> f"{-moons.log_prob(x).mean():.2f} nats, entropy {moons.entropy:.2f}"
        '2.39 nats, entropy 2.39'
    """
    if name not in TOYS:
        raise ValueError(f"unknown toy distribution {name!r}: expected one of {', '.join(TOYS)}")
    return TOYS[name]


def _concentric(name: str, radii: tuple[float, ...], std: float, entropy: float) -> Toy:
    sampler, density = partial(curves.rings, radii=radii, std=std), partial(curves.rings_log_prob, radii=radii, std=std)
    return Toy(name, sampler, density, entropy)


# Entropies by the trapezoid rule; grids of step .04 and .02 give the same digits. The mean of −log p over 10⁶ draws
# (3·10⁵ of 2spirals) agrees with each of them within its standard error of .0007 to .0013.
TOYS: dict[str, Toy] = {
    "swissroll": Toy("swissroll", curves.swissroll, curves.swissroll_log_prob, 2.669646),
    "circles": _concentric("circles", (3.0, 1.5), 0.24, 3.268136),
    "rings": _concentric("rings", (3.0, 2.25, 1.5, 0.75), 0.08, 2.623183),
    "moons": Toy("moons", curves.moons, curves.moons_log_prob, 2.393879),
    "8gaussians": Toy("8gaussians", mixtures.gaussians, mixtures.gaussians_log_prob, 2.831880),
    "pinwheel": Toy("pinwheel", pinwheel.pinwheel, pinwheel.pinwheel_log_prob, 2.317788),
    "2spirals": Toy("2spirals", curves.spirals, curves.spirals_log_prob, 2.645450),
    "checkerboard": Toy("checkerboard", mixtures.checkerboard, mixtures.checkerboard_log_prob, math.log(32)),
    "line": Toy("line", curves.line),
    "cos": Toy("cos", curves.cos),
}
