"""Flows that are posteriors of latent variables, and the networks of the autoencoder around them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent

import cnf
from cnf.models.fields import smooth_field
from cnf.transforms import Transform
from experiments.parts.low_rank import LowRankField


class Decoder(nn.Sequential):
    """From latent variables to pixels that are independent."""

    def forward(self, z: Tensor) -> Independent:
        return Independent(Bernoulli(logits=super().forward(z)), 1)


def perceptron(*widths: int) -> list[nn.Module]:
    """Linear layers with an activation between them."""
    layers = [nn.Linear(i, o) for i, o in zip(widths[:-1], widths[1:], strict=True)]
    return [part for layer in layers for part in (layer, nn.SiLU())][:-1]


def continuous(field: cnf.VectorField) -> Transform:
    return cnf.CNF(field, solver=cnf.RungeKutta("dopri5", rtol=1e-4, atol=1e-4))


FLOWS: dict[str, Callable[[int, int], list[Transform]]] = {
    "none": lambda dim, context: [],
    "planar": lambda dim, c: [cnf.build("planar", dim, c, layers=16, preprocess="none").transform],
    "iaf": lambda dim, c: [cnf.build("iaf", dim, c, layers=4, hidden=128, preprocess="none").transform],
    "nsf": lambda dim, c: [cnf.build("nsf_coupling", dim, c, layers=4, hidden=64, preprocess="none").transform],
    "continuous": lambda dim, c: [continuous(smooth_field(dim, (128, 128), context_dim=c))],
    "low_rank": lambda dim, c: [continuous(LowRankField(dim, 64, c, 4))],
}
