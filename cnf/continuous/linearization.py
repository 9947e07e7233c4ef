"""A vector field at one time and place: its velocity, and its Jacobian as a linear map.

A divergence needs the trace of `J = ∂f/∂x`. A regularizer needs its norm or a derivative along the trajectory. Both may
need the product with the same probe. They share one `Linearization` per evaluation, so that nothing is computed twice.
Products use forward mode, so an ordinary backward pass differentiates them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.backends import mha
from torch.func import jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

CHUNK = 32  # basis vectors pushed through a network at once when no closed form exists; bounds the memory


class Linearization(ABC):
    """The velocity `f(t, x)` and the Jacobian `J = ∂f/∂x` of a field in one evaluation.

    A field with closed-form derivatives returns its own subclass from `linearize`. Define `velocity`, `pushforward` and
    `vjp`; define `trace` too if it costs less than one Jacobian product per dimension.

    Args:
        x: The points, `(N, *event)`.

    Attributes:
        trajectory: `VectorField.derivative` at this time and these points; `VectorField.at` sets it.

    Example:
        >>> import torch, cnf
        >>> class Linear(cnf.Linearization):  # f(t, x) = A x
        ...     def __init__(self, x, A):
        ...         super().__init__(x)
        ...         self.A = A
        ...
        ...     @property
        ...     def velocity(self):
        ...         return self.x @ self.A.T
        ...
        ...     def pushforward(self, v):
        ...         return v @ self.A.T
        ...
        ...     def vjp(self, v):
        ...         return v @ self.A
        ...
        ...     def trace(self):
        ...         return self.A.trace().expand(len(self.x))
        >>> Linear(torch.ones(1, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])).trace()
        tensor([5.])
    """

    trajectory: Callable[..., Tensor] | None = None

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._products: list[tuple[Tensor, Tensor]] = []

    @property
    @abstractmethod
    def velocity(self) -> Tensor:
        """`f(t, x)`, `(N, *event)`."""

    @abstractmethod
    def pushforward(self, v: Tensor) -> Tensor:
        """Compute the products `J v`, `(k, N, *event)` to `(k, N, *event)`; callers use `jvp`, which stores them."""

    @abstractmethod
    def vjp(self, v: Tensor) -> Tensor:
        """The products `Jᵀ v`, `(k, N, *event)` to `(k, N, *event)`."""

    def jvp(self, v: Tensor) -> Tensor:
        """The products `J v`, `(k, N, *event)` to `(k, N, *event)`; computed once for each tensor `v`."""
        for known, product in self._products:
            if known is v:
                return product
        self._products.append((v, self.pushforward(v)))
        return self._products[-1][1]

    def knows(self, v: Tensor) -> bool:
        """Whether `jvp(v)` is already computed."""
        return any(known is v for known, _ in self._products)

    def quadratic_form(self, v: Tensor) -> Tensor:
        """`vᵀJv` of each sample, averaged over the k vectors `(k, N, *event)`, `(N,)`."""
        return inner(v, self.jvp(v))

    def derivative(self, order: int) -> Tensor:
        """`d^K x/dt^K` along the trajectory through `(t, x)`, K = `order`, `(N, *event)`; see `VectorField.derivative`.

        Raises:
            TypeError: It was made by `linearize`, not by `VectorField.at`, so other times and points are unknown.
        """
        if order == 1:
            return self.velocity
        if self.trajectory is None:
            raise TypeError(
                f"{type(self).__name__} knows the field at one time and place only: make it with field.at(t, x)"
            )
        return self.trajectory(order, velocity=self.velocity)

    def trace(self) -> Tensor:
        """`tr J` exactly, `(N,)`: with one product per dimension unless the field has a closed form."""
        total = self.x.new_zeros(self.x.shape[0])
        for rows in self._basis().split(CHUNK):
            product = self.pushforward(self._tangents(rows)).flatten(2)
            total = total + torch.einsum("knd,kd->n", product, rows)
        return total

    @property
    def jacobian(self) -> Tensor:
        """`J` as matrices `(N, D, D)`, `D` the number of elements of an event."""
        columns = [self.pushforward(self._tangents(rows)).flatten(2) for rows in self._basis().split(CHUNK)]
        return torch.cat(columns).permute(1, 2, 0)

    def _basis(self) -> Tensor:
        dim = self.x.shape[1:].numel()
        return torch.eye(dim, dtype=self.x.dtype, device=self.x.device)

    def _tangents(self, rows: Tensor) -> Tensor:
        return rows.reshape(-1, 1, *self.x.shape[1:]).expand(-1, *self.x.shape)


def with_plain_attention(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function with attention computed by matrix products, because fused kernels have no forward mode."""

    def plain(*arguments: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH), nullcontext() if torch.compiler.is_compiling() else _without_fast_path():
            return function(*arguments)

    return plain


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Without the fused layer that `MultiheadAttention` takes where no gradient is asked for."""
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)


def inner(v: Tensor, w: Tensor) -> Tensor:
    """`vᵀw` of each sample, averaged over the k vectors, `(k, N, …)` to `(N,)`."""
    return (v * w).flatten(2).sum(2).mean(0)


class FunctionalLinearization(Linearization):
    """The derivatives of any function of x, by `torch.func`.

    Args:
        x: The points, `(N, *event)`.
        function: `x -> f(t, x)`, `(N, *event)` to `(N, *event)`; each row of the result depends on that row of x only.

    Example:
        >>> import torch
        >>> at = FunctionalLinearization(torch.tensor([[1.0, 2.0]]), lambda x: x**2)
        >>> at.velocity, at.trace()
        (tensor([[1., 4.]]), tensor([6.]))
    """

    def __init__(self, x: Tensor, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(x.contiguous())  # forward mode takes no expanded tensors
        self._here = with_plain_attention(function)
        self._velocity: Tensor | None = None

    @property
    def velocity(self) -> Tensor:
        if self._velocity is None:
            self._velocity = self._here(self.x)
        return self._velocity

    def pushforward(self, v: Tensor) -> Tensor:
        def push(tangent: Tensor) -> tuple[Tensor, Tensor]:
            value, product = jvp(self._here, (self.x,), (tangent,))  # type: ignore[misc]
            return value, product

        v = v.contiguous()  # compiled, forward mode takes no expanded tensors of any batch size
        if len(v) == 1:  # spares the modules that vmap cannot take
            self._velocity, product = push(v[0])
            return product.unsqueeze(0)
        self._velocity, products = vmap(push, out_dims=(None, 0))(v)  # type: ignore[arg-type]
        return products

    def vjp(self, v: Tensor) -> Tensor:
        self._velocity, pull = vjp(self._here, self.x)  # type: ignore[misc]
        return vmap(lambda cotangent: pull(cotangent)[0])(v)
