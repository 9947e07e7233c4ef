"""Rotations fitted to data: towards principal or independent components, or at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from cnf.arguments import Seed, Size, checked, one_of
from cnf.inputs import require_vectors
from cnf.transforms import Mapped, Transform

ICA_ROWS = 10_000  # rows that independent components are looked for in
ICA_STEPS = 100


@checked
class Rotation(Transform):
    """`z = R x` with an orthogonal matrix that `initialize` takes from the data; log-determinant 0.

    Args:
        dim: D.
        kind: One of `ROTATIONS`: "pca", "ica" or "random".
        seed: Seed of what is random in it.

    Raises:
        ValueError: An unknown kind.

    Example:
        >>> import torch, cnf
        >>> layer = cnf.discrete.Rotation(2, kind="pca")
        >>> x = torch.randn(100, 1) * torch.tensor([1.0, 1.0]) + 0.1 * torch.randn(100, 2)
        >>> layer.initialize(x)
        >>> bool(layer.encode(x).value.T.corrcoef()[0, 1].abs() < 1e-4)
        True
    """

    data_dependent = True
    weight: Tensor

    def __init__(self, dim: Size, *, kind: RotationName = "pca", seed: Seed = 0) -> None:
        super().__init__()
        self.kind, self.seed = kind, seed
        self.register_buffer("weight", torch.eye(dim))

    def encode(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(x, len(self.weight))
        return Mapped(x @ self.weight.mT, x.new_zeros(len(x)))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Mapped:
        require_vectors(z, len(self.weight))
        return Mapped(z @ self.weight, z.new_zeros(len(z)))

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> None:
        """Fit the matrix to the rows of `x`."""
        self.weight.copy_(rotation_fit(self.kind)(x.double(), torch.Generator().manual_seed(self.seed)))


def rotation_fit(kind: str) -> RotationFit:
    """Look a way of fitting a rotation up by name.

    Raises:
        ValueError: The name is not in `ROTATIONS`.
    """
    if kind not in ROTATIONS:
        raise ValueError(f"unknown rotation {kind!r}: known ones are {', '.join(ROTATIONS)}")
    return ROTATIONS[kind]


RotationFit = Callable[[Tensor, torch.Generator], Tensor]  # data (N, D) in float64, noise -> R (D, D)


@checked
def random_rotation(dim: Size, *, generator: torch.Generator | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """An orthogonal matrix `(D, D)` drawn uniformly (Haar).

    Args:
        dim: D.
        generator: Source of the noise; the global one by default.
        dtype: Of the matrix; the default one by default.

    References:
        Mezzadri 2007, arXiv math-ph/0609050.

    Example:
        >>> import torch, cnf
        >>> r = cnf.discrete.random_rotation(3)
        >>> torch.allclose(r @ r.T, torch.eye(3), atol=1e-5)
        True
    """
    q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=dtype))
    return q * r.diagonal().sign()


def _random(x: Tensor, generator: torch.Generator) -> Tensor:
    return random_rotation(x.shape[1], generator=generator, dtype=x.dtype).to(x.device)


def _principal(x: Tensor, generator: torch.Generator) -> Tensor:
    """The eigenvectors of the covariance, in its rows; where nothing is correlated, they are arbitrary."""
    return torch.linalg.eigh(x.mT.cov().reshape(x.shape[1], -1)).eigenvectors.mT


def _principal_or_random(x: Tensor, generator: torch.Generator) -> Tensor:
    """Principal components of correlated data; else a random rotation.

    Without that, two dimensions of equal variance would turn by 45° for ever and pass most directions over.
    """
    return (_principal if _correlated(x) else _random)(x, generator)


def _independent(x: Tensor, generator: torch.Generator) -> Tensor:
    """Principal components of correlated data; else independent components, which take uncorrelated data to be found.

    FastICA with `tanh`, all components at once: `W ← E[tanh(Wx) xᵀ] − diag(E[tanh'(Wx)]) W`, made orthogonal again.

    References:
        Hyvärinen 1999, Fast and robust fixed-point algorithms for independent component analysis.
    """
    if _correlated(x):
        return _principal(x, generator)
    rows = x[torch.randperm(len(x), generator=generator)[:ICA_ROWS].to(x.device)]
    w = _random(x, generator)
    for _ in range(ICA_STEPS):
        h = (rows @ w.mT).tanh()
        u, _, v = torch.linalg.svd(h.mT @ rows / len(rows) - (1 - h.square()).mean(0)[:, None] * w)
        w, before = u @ v, w
        if ((w * before).sum(1).abs() > 1 - 1e-6).all():
            break
    return w


def _correlated(x: Tensor) -> bool:
    """Whether the likelihood ratio `−N log det(correlations)` exceeds its noise, a χ² of D(D − 1)/2 degrees."""
    degrees = x.shape[1] * (x.shape[1] - 1) / 2
    ratio = -len(x) * torch.logdet(x.mT.corrcoef().reshape(x.shape[1], -1))
    return bool(ratio > degrees + 2 * (2 * degrees) ** 0.5)


ROTATIONS: dict[str, RotationFit] = {"pca": _principal_or_random, "ica": _independent, "random": _random}
RotationName = Annotated[str, one_of(ROTATIONS)]
