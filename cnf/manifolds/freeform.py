"""Free-form flows: an encoder of any architecture, and a decoder that learns to be its inverse."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.func import jvp, vjp, vmap

from cnf.arguments import Size, checked
from cnf.continuous.divergences import NOISE
from cnf.discrete.determinants import log_abs_det
from cnf.manifolds.geometry import Manifold, volume_ratio
from cnf.networks import Conditioner
from cnf.transforms import Mapped, Transform

Module = TypeVar("Module", bound=nn.Module)

CHUNK = 32  # directions that a Jacobian is multiplied with at once; bounds the memory


@checked
class EncoderDecoder(Transform):
    """`encode`: `z = f(x)`, `decode`: `x = g(z)`, two networks of which g is trained to be the inverse of f.

    Each has the log-determinant of its own Jacobian, found exactly at the cost of D products. But `decode` undoes
    `encode` only as well as it was learned. So there are two densities: `log_prob` is that of f, samples are those of g
    and `sample_and_log_prob` gives their own. They agree where `‖x − g(f(x))‖²` is small, which is therefore the path
    cost `reconstruction` of both directions. Where it is not, f may take several points to one, and then `log_prob`
    has an integral above one: likelihoods of such a flow look better than they are, see `cnf.metrics.normalization`.

    With `probes`, encode is as the objective `cnf.FreeForm` trains it: in the place of the log-determinant
    `Σ_k vₖᵀ f'(x) sg[g'(z) vₖ] / K`, whose gradient is that of `log |det f'|` where g inverts f, and whose value means
    nothing. `sg` stops the gradient; the vₖ are orthonormalised Gaussian directions times `√D`, in the tangent space.

    Args:
        encoder: f, vectors `(N, D)` and a context to vectors `(N, D)`; smooth.
        decoder: g, the same the other way round.
        manifold: Where the points lie; what the networks give is projected to it. By default ℝᴰ.
        probes: K, or None for the log-determinant itself.

    Raises:
        ValueError: Networks that read different contexts.

    References:
        Draxler et al. 2024, Free-form flows, arXiv 2310.16624; Sorrenson et al. 2023, manifold free-form flows,
        arXiv 2312.09852.
    """

    def __init__(
        self,
        encoder: Conditioner,
        decoder: Conditioner,
        *,
        manifold: Manifold | None = None,
        probes: Size | None = None,
    ) -> None:
        super().__init__()
        if encoder.context_dim != decoder.context_dim:
            raise ValueError(
                f"encoder and decoder must read the same context, theirs have lengths {encoder.context_dim} and "
                f"{decoder.context_dim}"
            )
        self.encoder, self.decoder, self.manifold, self.probes = encoder, decoder, manifold, probes
        self.context_dim = encoder.context_dim
        self.domain = self.codomain = constraints.real if manifold is None else manifold.domain

    @property
    def exact(self) -> bool:
        """False: without probes the log-determinant is exact, but f need not have an inverse for it to be a density."""
        return False

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        f, g = self._function(self.encoder, context), self._function(self.decoder, context)
        z, log_det = self._with_volume(f, x) if self.probes is None else self._with_surrogate(f, g, x, self.probes)
        return Mapped(z, log_det, {"reconstruction": _squared_distance(x, g(z))})

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        f, g = self._function(self.encoder, context), self._function(self.decoder, context)
        x, log_det = self._with_volume(g, z)
        return Mapped(x, log_det, {"reconstruction": _squared_distance(x, g(f(x)))})

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self._function(self.decoder, context)(z)

    def _function(self, network: Conditioner, context: Tensor | None) -> Callable[[Tensor], Tensor]:
        def function(x: Tensor) -> Tensor:
            y: Tensor = network(x, context)
            return y if self.manifold is None else self.manifold.project(y)

        return function

    def _with_volume(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """The image and the exact log-determinant."""
        if self.manifold is not None:
            return function(x), volume_ratio(function, x, self.manifold).log()
        basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        columns = along(function, x, basis.unsqueeze(1).expand(-1, *x.shape))
        return function(x), log_abs_det(columns.movedim(0, -1))

    def _with_surrogate(
        self, f: Callable[[Tensor], Tensor], g: Callable[[Tensor], Tensor], x: Tensor, probes: int
    ) -> tuple[Tensor, Tensor]:
        """The image, and what has the gradient of the log-determinant."""
        if self.manifold is not None:
            self.manifold.check(x)
        z, pull = vjp(f, x)  # type: ignore[misc]
        with torch.no_grad():
            at = z.detach()
            directions = self._directions(at, probes)
            back = along(g, at, directions)
        rows = torch.stack([pull(direction)[0] for direction in directions])
        return z, (rows * back).sum(2).mean(0)

    def _directions(self, z: Tensor, probes: int) -> Tensor:
        """`(K, N, D)`, tangent to the manifold."""
        if self.manifold is None:
            return NOISE["orthogonal"](z, probes, None)
        flat = NOISE["orthogonal"](z.new_empty(len(z), self.manifold.dimension), probes, None)
        return torch.einsum("ndm,knm->knd", self.manifold.tangent(z), flat)


def along(function: Callable[[Tensor], Tensor], x: Tensor, directions: Tensor) -> Tensor:
    """The products of the Jacobian at `x`, `(N, D)`, with directions `(K, N, D)`, by forward mode."""

    place = x.contiguous()  # forward mode takes no expanded tensors

    def product(direction: Tensor) -> Tensor:
        result: Tensor = jvp(function, (place,), (direction,))[1]
        return result

    return vmap(product, chunk_size=CHUNK)(directions)


@checked
def with_probes(flow: Module, probes: Size) -> Module:
    """A copy that shares all parameters and buffers, but whose free-form transforms are as they are trained.

    Args:
        flow: A flow, or any module that holds an `EncoderDecoder`.
        probes: K of the copy.

    Raises:
        TypeError: There is none in it.
    """
    shared = [*flow.parameters(), *flow.buffers()]
    twin = copy.deepcopy(flow, {id(part): part for part in shared})
    parts = [part for part in twin.modules() if isinstance(part, EncoderDecoder)]
    if not parts:
        raise TypeError(f"{type(flow).__name__} holds no EncoderDecoder: only free-form flows have this training")
    for part in parts:
        part.probes = probes
    return twin


def _squared_distance(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().sum(1)
