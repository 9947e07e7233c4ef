"""Free-form flows, in space and on the sphere."""

from __future__ import annotations

from cnf.arguments import SizeOrZero, Sizes, Widths, checked
from cnf.discrete import EncoderDecoder
from cnf.distributions import SphereUniform
from cnf.flows import Flow
from cnf.manifolds.free_form import ManifoldEncoderDecoder
from cnf.models.assembly import Preprocess, assemble, size, sphere_of
from cnf.models.fields import Hidden
from cnf.networks import ConditionerActivation, ResidualMLP, Skip


@checked
def free_form(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    hidden: Widths = 64,
    blocks: SizeOrZero = 2,
    activation: ConditionerActivation = "silu",
    preprocess: Preprocess | None = None,
) -> Flow:
    """A free-form flow: residual encoder and decoder, each beside a skip, trained by `cnf.FreeForm`.

    As published: an architecture without constraints, one probe. `log_prob` is that of the encoder, by its whole
    Jacobian; the decoder samples, and inverts the encoder as well as it has learned to. Both start at the identity.
    Events are flattened vectors.

    Args:
        event_shape: Shape of one sample.
        context_dim: Length of the context; 0 for none.
        hidden: Widths of the hidden layers of both networks, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`; a smooth one.
        preprocess: A key of `cnf.models.PREPROCESSING`.

    References:
        Draxler et al. 2024, arXiv 2310.16624.

    Example:
        >>> import torch
        >>> flow = free_form((2,), hidden=8)
        >>> flow.log_prob(torch.zeros(1, 2)).detach()  # at the start it is its base
        tensor([-1.8379])
    """
    body = EncoderDecoder(*_pair(size(event_shape), context_dim, hidden, blocks, activation))
    return assemble(event_shape, context_dim, [body], preprocess, flat=True)


@checked
def sphere_free_form(
    event_shape: Sizes,
    context_dim: SizeOrZero = 0,
    *,
    hidden: Widths = 64,
    blocks: SizeOrZero = 2,
    activation: ConditionerActivation = "silu",
) -> Flow:
    """A free-form flow on the unit sphere of ℝⁿ, for unit vectors `(n,)`; on a uniform base.

    The networks are those of `free_form`, their output is divided by its length. Densities are with respect to the
    Riemannian volume.

    Args:
        event_shape: `(n,)`, n at least 2.
        context_dim: Length of the context; 0 for none.
        hidden: Widths of the hidden layers of both networks, an int for one.
        blocks: Residual blocks after them.
        activation: One of `cnf.networks.CONDITIONER_ACTIVATIONS`; a smooth one.

    Raises:
        ValueError: Events that are no vectors of at least 2 elements.

    References:
        Sorrenson et al. 2023, arXiv 2312.09852.

    Example:
        >>> sphere_free_form((3,), hidden=8).sample(5).norm(dim=1)
        tensor([1., 1., 1., 1., 1.])
    """
    sphere = sphere_of(event_shape)
    networks = _pair(sphere.n, context_dim, hidden, blocks, activation)
    body = ManifoldEncoderDecoder(*networks, manifold=sphere)
    return assemble(event_shape, context_dim, [body], "none", flat=True, base=SphereUniform(sphere.n))


def _pair(dim: int, context_dim: int, hidden: Hidden, blocks: int, activation: str) -> tuple[Skip, Skip]:
    """Encoder and decoder."""

    def network() -> Skip:
        body = ResidualMLP(dim, dim, hidden=hidden, blocks=blocks, context_dim=context_dim, activation=activation)
        return Skip(body)

    return network(), network()
