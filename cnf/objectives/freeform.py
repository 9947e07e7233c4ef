"""Training of free-form flows: likelihood with a stochastic gradient of the volume, and reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cnf.arguments import Positive, Size, checked
from cnf.flows import Flow
from cnf.manifolds.freeform import with_probes
from cnf.objectives.interface import Loss, some


@checked
@dataclass(frozen=True)
class FreeForm:
    """`mean(β ‖x − g(f(x))‖² − log p_Z(f(x)) − Σ_k vₖᵀ f'(x) sg[g'(z) vₖ] / K)` for a flow with an `EncoderDecoder`.

    The last term has the gradient of `log |det f'|` as far as the decoder g inverts the encoder f, at the cost of K
    products with each Jacobian, whatever the dimension. Its value is not the log-determinant, so neither is the loss a
    likelihood; `flow.log_prob` is, exactly. In few dimensions `MaximumLikelihood({"reconstruction": β})` trains the
    same flow with the exact gradient.

    The metric `reconstruction` is `mean ‖x − g(f(x))‖²`, in the units of the transform (of standardised data). Unless
    it is small, samples do not follow the density.

    Args:
        beta: β. Too small, and the decoder does not follow: the gradient is then wrong, and the encoder folds. On moons
            after 1,000 steps, `∫ p = 1.5` with 10 and 1.006 with 50. Larger ones learn more slowly.
        probes: K, at most the number of dimensions; with as many, there is no noise.

    Raises:
        ValueError: β that is not positive, or no probes.
        TypeError: In use, a flow without an `EncoderDecoder`.

    References:
        Draxler et al. 2024, arXiv 2310.16624; Sorrenson et al. 2023, arXiv 2312.09852.

    Example:
        >>> import torch, cnf
        >>> loss = FreeForm()(cnf.build("free_form", 2), torch.randn(64, 2))
    """

    beta: Positive = 50.0
    probes: Size = 1

    def __call__(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Loss:
        surrogate, _, costs = with_probes(flow, self.probes)(*some(x, context))
        rows = self.beta * costs["reconstruction"] - surrogate
        return Loss(rows.mean(), {"reconstruction": costs["reconstruction"].detach().mean()}, rows)
