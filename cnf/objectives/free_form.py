"""Training of free-form flows: likelihood with a stochastic gradient of the volume, and reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vjp

from cnf.arguments import Positive, Size, checked
from cnf.discrete import LearnedInverse
from cnf.discrete.free_form import along, squared_distance
from cnf.flows import Flow
from cnf.objectives.interface import Loss, some
from cnf.transforms import Mapped, Transform
from cnf.twin import exchanged, parts_of


@checked
@dataclass(frozen=True)
class FreeForm:
    """`mean(β ‖x − g(f(x))‖² − log p_Z(f(x)) − Σ_k vₖᵀ f'(x) sg[g'(z) vₖ] / K)` for a flow with an `EncoderDecoder`.

    The last term has the gradient of `log |det f'|` to the accuracy with which the decoder g inverts the encoder f. It
    costs K products with each Jacobian, whatever the dimension. Its value is not the log-determinant, so the loss is
    not a likelihood; `flow.log_prob` is exact. In few dimensions `MaximumLikelihood({"reconstruction": β})` trains the
    same flow with the exact gradient.

    The metric `reconstruction` is `mean ‖x − g(f(x))‖²`, in the units of the transform (of standardised data). If it is
    not small, samples do not follow the density.

    Args:
        beta: β. If it is too small, the decoder is no inverse, the gradient is wrong and f maps several points to one:
            on moons after 1,000 steps, `∫ p = 1.5` with 10 and 1.006 with 50. If it is large, training is slow.
        probes: K, at most the number of dimensions; with that many there is no noise.

    Raises:
        ValueError: β is not positive, or there are no probes. In use, more probes than dimensions.
        TypeError: In use, a flow without an `EncoderDecoder`.

    References:
        Draxler et al. 2024, arXiv 2310.16624; Sorrenson et al. 2023, arXiv 2312.09852.

    Example:
        >>> import torch, cnf
        >>> loss = FreeForm()(cnf.build("free_form", 2), torch.randn(64, 2))
        >>> loss.rows.shape, list(loss.metrics)
        (torch.Size([64]), ['reconstruction'])
    """

    beta: Positive = 50.0
    probes: Size = 1

    def __call__(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Loss:
        if not parts_of(flow, LearnedInverse):  # type: ignore[type-abstract]
            raise TypeError(
                f"FreeForm trains flows with an EncoderDecoder, this {type(flow).__name__} holds none: "
                "build('free_form', ...) makes one; take MaximumLikelihood for others"
            )
        trained = exchanged(flow, LearnedInverse, lambda pair: _Trained(pair, self.probes))  # type: ignore[type-abstract]
        surrogate, _, costs = trained(*some(x, context))
        rows = self.beta * costs["reconstruction"] - surrogate
        return Loss(rows.mean(), {"reconstruction": costs["reconstruction"].detach().mean()}, rows)


class _Trained(Transform):
    """An encoder-decoder as the objective sees it, with `surrogate` in the place of the log-determinant."""

    def __init__(self, pair: LearnedInverse, probes: int) -> None:
        super().__init__()
        self.pair, self.probes, self.context_dim = pair, probes, pair.context_dim

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        z, volume = surrogate(self.pair, x, self.probes, context)
        _, decoder = self.pair.functions(context)
        return Mapped(z, volume, {"reconstruction": squared_distance(x, decoder(z))})

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        return self.pair.decode(z, context)


def surrogate(pair: LearnedInverse, x: Tensor, probes: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`z = f(x)`, and `Σ_k vₖᵀ f'(x) sg[g'(z) vₖ] / K`, which has the gradient of `log |det f'|` where g inverts f.

    The value of the sum is near the dimension, whatever f; `sg` stops the gradient.

    Args:
        pair: f and g.
        x: `(N, D)`.
        probes: K.
        context: `(N, C)` or None.

    Returns:
        `(N, D)` and `(N,)`.

    Example:
        >>> import torch
        >>> from cnf.discrete import EncoderDecoder
        >>> from cnf.networks import ResidualMLP, Skip
        >>> pair = EncoderDecoder(Skip(ResidualMLP(2, 2, hidden=8)), Skip(ResidualMLP(2, 2, hidden=8)))
        >>> z, volume = surrogate(pair, torch.zeros(3, 2), probes=1)
        >>> z.shape, volume.shape
        (torch.Size([3, 2]), torch.Size([3]))
    """
    pair.check(x)
    encoder, decoder = pair.functions(context)
    z, pull = vjp(encoder, x)  # type: ignore[misc]
    with torch.no_grad():
        directions = pair.directions(z.detach(), probes)
        back = along(decoder, z.detach(), directions)
    rows = torch.stack([pull(direction)[0] for direction in directions])
    return z, (rows * back).sum(2).mean(0)
