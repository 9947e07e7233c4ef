"""Data of another kind: by their likelihood, by how typical it is, and by comparison with a background."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cnf.arguments import Ambient, ShareOrZero, checked
from cnf.errors import DataError
from cnf.flows import Flow
from cnf.metrics.estimates import Estimate


class Terms(NamedTuple):
    """`log p(x) = log p_base(z) + log |det ∂z/∂x|` in its two terms.

    Attributes:
        base: The log-density of the base at `z = f(x)`, `(*batch)`.
        log_det: The log-determinant, `(*batch)`; with `Dequantize` also `−log q(u | x)`.

    Example:
        >>> import torch, cnf
        >>> log_prob_terms(cnf.Flow(cnf.discrete.Affine(1, scale=2.0), cnf.StandardNormal(1)), torch.zeros(1, 1))
        Terms(base=tensor([-0.9189]), log_det=tensor([-0.6931]))
    """

    base: Tensor
    log_det: Tensor


def log_prob_terms(flow: Flow, x: Tensor, context: Tensor | None = None) -> Terms:
    """The log-density as the term of the base and the log-determinant, see `Terms`.

    Args:
        flow: The density.
        x: Data `(*batch, *event)`.
        context: As for `flow.log_prob`.

    References:
        Nalisnick et al. 2019, Do deep generative models know what they don't know?, arXiv 1810.09136.

    Example:
        >>> import torch, cnf
        >>> flow, x = cnf.build("cnf", 2), torch.randn(5, 2)
        >>> torch.allclose(sum(log_prob_terms(flow, x)), flow.log_prob(x))
        True
    """
    density = flow(x, context)
    base = flow.base.log_prob(density.z.reshape(-1, *flow.base.event_shape)).reshape(density.log_prob.shape)
    return Terms(base, density.log_prob - base)


@checked
def typicality(log_prob: Tensor, reference: Tensor) -> Tensor:
    """How far the log-likelihood of each row is from that of data: `|−log p(x) − H|`, H the mean over `reference`.

    Large values are outliers, on either side: rows that are likelier than any data are none.

    Args:
        log_prob: Of the rows in question, `(N,)`; of groups of M rows, `(N, M)`, of which the mean is compared.
        reference: Of held-out data of the kind that the flow was trained on, `(R,)`.

    Raises:
        ValueError: No reference.

    References:
        Nalisnick et al. 2019, Detecting out-of-distribution inputs using typicality, arXiv 1906.02994.

    Example:
        >>> import torch
        >>> typicality(torch.tensor([-3.0, -1.0, 5.0]), reference=torch.tensor([-2.0, 0.0]))
        tensor([2., 0., 6.])
    """
    if not reference.numel():
        raise ValueError("typicality needs the log-densities of some data as reference, got none")
    rows = log_prob.mean(1) if log_prob.dim() > 1 else log_prob
    return (rows - reference.mean()).abs()


@checked
def likelihood_ratio(log_prob: Tensor, background: Tensor) -> Tensor:
    """`log p(x) − log p_background(x)`: what the likelihood owes to the content, and not to the background.

    The background is a flow that was trained on `perturbed` data. Small values are outliers.

    Args:
        log_prob: Under the flow, `(N,)`.
        background: Of the same rows under the background, `(N,)`.

    Raises:
        ValueError: Different shapes.

    References:
        Ren et al. 2019, Likelihood ratios for out-of-distribution detection, arXiv 1906.02845.

    Example:
        >>> import torch
        >>> likelihood_ratio(torch.tensor([-3.0]), torch.tensor([-5.0]))
        tensor([2.])
    """
    if log_prob.shape != background.shape:
        raise ValueError(
            f"both log-densities must be of the same rows, got {tuple(log_prob.shape)} and {tuple(background.shape)}"
        )
    return log_prob - background


@checked
def perturbed(
    x: Tensor, levels: Ambient, *, share: ShareOrZero = 0.2, generator: torch.Generator | None = None
) -> Tensor:
    """Whole numbers of which a share, at random, is replaced by uniform ones: data for a background model.

    Args:
        x: Whole numbers from 0 to L − 1, of any shape.
        levels: L.
        share: Share of the elements that are replaced; the paper takes 0.1 to 0.3.
        generator: Source of the noise.

    References:
        Ren et al. 2019, arXiv 1906.02845.

    Example:
        >>> import torch
        >>> x = torch.zeros(1000)
        >>> changed = perturbed(x, 256, share=0.5, generator=torch.Generator().manual_seed(0))
        >>> bool(0.4 < (changed != x).float().mean() < 0.6)
        True
    """
    change = torch.rand(x.shape, generator=generator, device=x.device) < share
    noise = torch.randint(levels, x.shape, generator=generator, device=x.device)
    return torch.where(change, noise.to(x.dtype), x)


@checked
def auroc(inside: Tensor, outside: Tensor) -> Estimate:
    """The probability that a row of another kind has a larger score than one of the data, ties counting half.

    ½ is no better than chance; below it, the score points the other way. By scikit-learn's `roc_auc_score`; the
    standard error is Hanley and McNeil's.

    Args:
        inside: Scores of data, `(N,)`; larger is stranger, so `−log p` or `typicality`.
        outside: Scores of rows of another kind, `(M,)`.

    Raises:
        DataError: scikit-learn is not installed.
        ValueError: No scores, or scores that are not finite.

    References:
        Hanley and McNeil 1982, Radiology 143.

    Example:
        >>> import torch
        >>> auroc(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.5, 3.0])).mean  # doctest: +ELLIPSIS
        0.833...
    """
    if not (inside.numel() and outside.numel() and inside.isfinite().all() and outside.isfinite().all()):
        raise ValueError("scores must be finite, and there must be some of both kinds")
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise DataError('expected the package scikit-learn, found none: pip install "cnf[experiments]"') from error
    scores = torch.cat([inside.flatten(), outside.flatten()]).cpu().numpy()
    area = float(roc_auc_score([0] * inside.numel() + [1] * outside.numel(), scores))
    n, m = inside.numel(), outside.numel()
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (m - 1) * (first - area**2) + (n - 1) * (second - area**2)) / (n * m)
    return Estimate(area, max(variance, 0.0) ** 0.5)
