"""Free-form flows: an encoder of any architecture, and a decoder that learns to be its inverse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vmap

from cnf.arguments import checked
from cnf.discrete.determinants import log_abs_det
from cnf.networks import Conditioner
from cnf.probes import NOISE
from cnf.transforms import Mapped, Transform

CHUNK = 32  # directions that a Jacobian is multiplied with at once; bounds the memory
PointMap = Callable[[Tensor], Tensor]


@checked
class LearnedInverse(Transform, ABC):
    """`encode`: `z = f(x)`, `decode`: `x = g(z)`, two networks of which g is trained to be the inverse of f.

    Each direction has the log-determinant of its own Jacobian, computed exactly. The squared error `‖x − g(f(x))‖²` is
    the path cost `reconstruction` of both. A subclass names the space of the points: `EncoderDecoder` is on ℝᴰ,
    `cnf.manifolds.ManifoldEncoderDecoder` on a manifold.

    Args:
        encoder: f, vectors `(N, D)` and a context to vectors `(N, D)`; smooth.
        decoder: g, the same in the other direction.

    Raises:
        ValueError: The networks read different contexts.

    Example:
        >>> import cnf
        >>> [type(part).__name__ for part in cnf.build("free_form", 2).modules() if isinstance(part, LearnedInverse)]
        ['EncoderDecoder']
    """

    def __init__(self, encoder: Conditioner, decoder: Conditioner) -> None:
        super().__init__()
        if encoder.context_dim != decoder.context_dim:
            raise ValueError(
                f"encoder and decoder must read the same context, theirs have lengths {encoder.context_dim} and "
                f"{decoder.context_dim}"
            )
        self.encoder, self.decoder = encoder, decoder
        self.context_dim = encoder.context_dim

    @property
    def exact(self) -> bool:
        """False: log-determinants are exact, but f need not have an inverse, which a density needs."""
        return False

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Refuse points that are not in the space."""

    @abstractmethod
    def image(self, y: Tensor) -> Tensor:
        """The point that an output `y` of a network stands for, `(N, D)`."""

    @abstractmethod
    def log_volume(self, function: PointMap, x: Tensor) -> Tensor:
        """The log-determinant of a map of points at `x`, `(N,)`."""

    @abstractmethod
    def directions(self, z: Tensor, probes: int) -> Tensor:
        """Random tangent vectors v at `z` with `E[v vᵀ] = I` on the tangent space, `(probes, N, D)`."""

    def functions(self, context: Tensor | None) -> tuple[PointMap, PointMap]:
        """The maps of points f and g, given the context `(N, C)`."""

        def encoder(x: Tensor) -> Tensor:
            return self.image(self.encoder(x, context))

        def decoder(z: Tensor) -> Tensor:
            return self.image(self.decoder(z, context))

        return encoder, decoder

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        f, g = self.functions(context)
        z = f(x)
        return Mapped(z, self.log_volume(f, x), {"reconstruction": squared_distance(x, g(z))})

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        f, g = self.functions(context)
        x = g(z)
        return Mapped(x, self.log_volume(g, z), {"reconstruction": squared_distance(x, g(f(x)))})

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.functions(context)[1](z)


@checked
class EncoderDecoder(LearnedInverse):
    """`encode`: `z = f(x)`, `decode`: `x = g(z)` on ℝᴰ, two networks of which g is trained to be the inverse of f.

    Each has the log-determinant of its own Jacobian, computed exactly at the cost of D products. `decode` undoes
    `encode` only as well as it was learned, so there are two densities: `log_prob` is that of f; samples, and
    `sample_and_log_prob`, follow that of g. They agree where the path cost `reconstruction`, `‖x − g(f(x))‖²`, is
    small. Where it is not, f may map several points to one. Then the integral of `log_prob.exp()` is above 1, and
    likelihoods look better than they are: check it with `cnf.metrics.normalization`.

    `cnf.FreeForm` trains it at the cost of a few products, whatever the dimension.

    Args:
        encoder: f, vectors `(N, D)` and a context to vectors `(N, D)`; smooth.
        decoder: g, the same in the other direction.

    Raises:
        ValueError: The networks read different contexts.

    References:
        Draxler et al. 2024, Free-form flows, arXiv 2310.16624.

    Example:
        >>> import torch
        >>> from cnf.networks import ResidualMLP, Skip
        >>> pair = EncoderDecoder(Skip(ResidualMLP(2, 2, hidden=8)), Skip(ResidualMLP(2, 2, hidden=8)))
        >>> z, log_det, costs = pair.encode(torch.ones(3, 2))
        >>> log_det.shape, costs["reconstruction"].shape
        (torch.Size([3]), torch.Size([3]))
    """

    def check(self, x: Tensor) -> None:
        pass  # every vector is in it

    def image(self, y: Tensor) -> Tensor:
        return y

    def log_volume(self, function: PointMap, x: Tensor) -> Tensor:
        basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        columns = along(function, x, basis.unsqueeze(1).expand(-1, *x.shape))
        return log_abs_det(columns.movedim(0, -1))

    def directions(self, z: Tensor, probes: int) -> Tensor:
        return NOISE["orthogonal"](z, probes, None)


def along(function: PointMap, x: Tensor, directions: Tensor) -> Tensor:
    """The products of the Jacobian at `x`, `(N, D)`, with directions `(K, N, D)`, by forward mode.

    Example:
        >>> import torch
        >>> along(torch.square, torch.tensor([[1.0, 3.0]]), torch.ones(1, 1, 2))
        tensor([[[2., 6.]]])
    """
    place = x.contiguous()  # forward mode takes no expanded tensors

    def product(direction: Tensor) -> Tensor:
        result: Tensor = jvp(function, (place,), (direction,))[1]
        return result

    return vmap(product, chunk_size=CHUNK)(directions)


def squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """`‖x − y‖²` of each row, `(N,)`.

    Example:
        >>> import torch
        >>> squared_distance(torch.zeros(2, 3), torch.ones(2, 3))
        tensor([3., 3.])
    """
    return (x - y).square().sum(1)
