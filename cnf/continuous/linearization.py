"""A vector field at one time and place: its velocity, and its Jacobian as a linear map.

A divergence needs the trace of `J = ∂f/∂x`, a regularizer its norm or a derivative along the trajectory, and both may
need the product with the same probe. `Linearization` is the object of one evaluation that they share, so that nothing
is computed twice. Products are in forward mode, which an ordinary single backward pass differentiates again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

CHUNK = 32  # basis vectors pushed through a network at once when no closed form exists; bounds the memory

Function = Callable[[Tensor, Tensor], Tensor]  # (t, x) to f(t, x)
Along = Callable[[Tensor, Tensor, Tensor], Tensor]  # (t, x, v) to ∂f/∂t + (∂f/∂x) v


class Linearization(ABC):
    """A field `f` at `(t, x)`; lives for one evaluation.

    Args:
        x: `(N, *event)`.
        t: A scalar tensor, or `(N,)`, a time for each row.
        function: `(t, x) -> f(t, x)`, acting on each row for itself; only `derivative` needs it and the time.
        along: `(t, x, v) -> ∂f/∂t + (∂f/∂x) v`, for fields with a closed form of it; else forward mode finds it.
    """

    def __init__(
        self, x: Tensor, t: Tensor | None = None, function: Function | None = None, along: Along | None = None
    ) -> None:
        self.x, self.t, self.function, self.along = x, t, function, along
        self._products: list[tuple[Tensor, Tensor]] = []

    @property
    @abstractmethod
    def velocity(self) -> Tensor:
        """`f(t, x)`, `(N, *event)`."""

    @abstractmethod
    def _jvp(self, v: Tensor) -> Tensor:
        """The products `J v`, `(k, N, *event)`."""

    @abstractmethod
    def vjp(self, v: Tensor) -> Tensor:
        """The products `Jᵀ v`, `(k, N, *event)` to `(k, N, *event)`."""

    def jvp(self, v: Tensor) -> Tensor:
        """The products `J v`, `(k, N, *event)` to `(k, N, *event)`; asked twice for one `v`, computed once."""
        for known, product in self._products:
            if known is v:
                return product
        self._products.append((v, self._jvp(v)))
        return self._products[-1][1]

    def knows(self, v: Tensor) -> bool:
        """Whether `jvp(v)` has been asked for, and so costs nothing."""
        return any(known is v for known, _ in self._products)

    def quadratic_form(self, v: Tensor) -> Tensor:
        """`vᵀJv` of each sample, averaged over the k vectors `(k, N, *event)`, `(N,)`."""
        return inner(v, self.jvp(v))

    def derivative(self, order: int) -> Tensor:
        """`d^K x/dt^K` along the trajectory through `(t, x)`, K = `order`, `(N, *event)`.

        By nested forward mode, `g_1 = f`, `g_{k+1} = ∂g_k/∂t + (∂g_k/∂x) f`; each order doubles the cost.

        Raises:
            TypeError: The field was linearized without its time and function.
        """
        if order == 1:
            return self.velocity
        if self.t is None or self.function is None:
            raise TypeError(f"a derivative in time needs the field: give {type(self).__name__} t and function")
        along = self.along or _along(self.function)
        for _ in range(order - 2):
            along = _along(_on_the_trajectory(along, self.function))
        wanted = torch.is_grad_enabled()
        with torch.enable_grad():  # without it torch has no second forward derivative of silu
            derivative = along(self.t, self.x, self.velocity)
        return derivative if wanted else derivative.detach()

    def trace(self) -> Tensor:
        """`tr J` exactly, `(N,)`: by one product a dimension unless the field has a closed form."""
        total = self.x.new_zeros(self.x.shape[0])
        for rows in self._basis().split(CHUNK):
            product = self._jvp(self._tangents(rows)).flatten(2)
            total = total + torch.einsum("knd,kd->n", product, rows)
        return total

    @property
    def jacobian(self) -> Tensor:
        """`J` as matrices `(N, D, D)`, `D` the number of elements of an event."""
        columns = [self._jvp(self._tangents(rows)).flatten(2) for rows in self._basis().split(CHUNK)]
        return torch.cat(columns).permute(1, 2, 0)

    def _basis(self) -> Tensor:
        dim = self.x[:1].numel()
        return torch.eye(dim, dtype=self.x.dtype, device=self.x.device)

    def _tangents(self, rows: Tensor) -> Tensor:
        return rows.reshape(-1, 1, *self.x.shape[1:]).expand(-1, *self.x.shape)


def inner(v: Tensor, w: Tensor) -> Tensor:
    """`vᵀw` of each sample, averaged over the k vectors, `(k, N, …)` to `(N,)`."""
    return (v * w).flatten(2).sum(2).mean(0)


def _along(g: Function) -> Along:
    """`(t, x, v) -> ∂g/∂t + (∂g/∂x) v`, in forward mode."""

    def along(t: Tensor, x: Tensor, v: Tensor) -> Tensor:
        derivative: Tensor = jvp(g, (t, x), (torch.ones_like(t), v))[1]
        return derivative

    return along


def _on_the_trajectory(along: Along, f: Function) -> Function:
    return lambda t, x: along(t, x, f(t, x))


def _with_plain_attention(function: Function) -> Function:
    """With attention, if there is any, as matrix products: the fused kernels know no forward mode."""

    def plain(t: Tensor, x: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return function(t, x)

    return plain


class FunctionalLinearization(Linearization):
    """Any function of time and place, through `torch.func`.

    Args:
        x: `(N, *event)`.
        t: A scalar tensor, or `(N,)`, a time for each row.
        function: `(t, x) -> f(t, x)`, acting on each row for itself.
    """

    def __init__(self, x: Tensor, t: Tensor, function: Function) -> None:
        function = _with_plain_attention(function)
        super().__init__(x.contiguous(), t, function)  # forward mode takes no expanded tensors
        self._here: Callable[[Tensor], Tensor] = lambda y: function(t, y)
        self._velocity: Tensor | None = None

    @property
    def velocity(self) -> Tensor:
        if self._velocity is None:
            self._velocity = self._here(self.x)
        return self._velocity

    def _jvp(self, v: Tensor) -> Tensor:
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


class PotentialLinearization(Linearization):
    """The field `−∇ₓΦ` of a residual potential and its Jacobian `−∇²Φ`, all in closed form.

    With `s = [x, t, …]`, `a_0 = K_0 s + b_0`, `a_i = K_i u_{i−1} + b_i` and slopes `θ_i = tanh(a_i)`, the adjoints are
    `z_{M+1} = w`, `z_i = z_{i+1} + h K_iᵀ(θ_i z_{i+1})`, the gradient is `K_0ᵀ(θ_0 z_1) + AᵀA s + b`, and the Laplacian
    `Σ_j σ''_0j z_1j ‖K_0j‖² + h Σ_i Σ_j σ''_ij z_{i+1,j} ‖(K_i J_{i−1})_j‖² + ‖A‖²` over the columns of x, with
    `J_0 = θ_0 K_0`, `J_i = J_{i−1} + h θ_i K_i J_{i−1}`.

    Args:
        x: `(N, D)`.
        weights: `K_0 … K_M`; the columns of `K_0` are those of s.
        slopes: `θ_0 … θ_M`, each `(N, m)`.
        outer: `w`, `(m,)`.
        affine: `AᵀA s + b`, `(N, len(s))`.
        quadratic: `A`.
        step: `h`.
        t, function, along: As in `Linearization`, for `derivative`.

    References:
        Onken et al. 2021, OT-Flow, arXiv 2006.00104.
    """

    def __init__(
        self,
        x: Tensor,
        weights: Sequence[Tensor],
        slopes: Sequence[Tensor],
        outer: Tensor,
        affine: Tensor,
        quadratic: Tensor,
        *,
        step: float,
        t: Tensor | None = None,
        function: Function | None = None,
        along: Along | None = None,
    ) -> None:
        super().__init__(x, t, function, along)
        dim = x.shape[1]
        self.inner, self.slopes, self.step = weights[1:], slopes, step
        self.first, self.quadratic = weights[0][:, :dim], quadratic[:, :dim]
        self.of_time = weights[0][:, dim], quadratic[:, dim]
        self.adjoints = [outer]
        for weight, slope in zip(self.inner[::-1], slopes[:0:-1], strict=True):
            z = self.adjoints[0]
            self.adjoints.insert(0, z + step * ((slope * z) @ weight))
        self.gradient = (slopes[0] * self.adjoints[0]) @ weights[0] + affine
        self.bends = [(1 - slope * slope) * z for slope, z in zip(slopes, self.adjoints, strict=True)]

    @property
    def velocity(self) -> Tensor:
        return -self.gradient[:, : self.x.shape[1]]

    @property
    def time_derivative(self) -> Tensor:
        """`∂Φ/∂t`, `(N,)`."""
        return self.gradient[:, self.x.shape[1]]

    def _jvp(self, v: Tensor) -> Tensor:
        return self._bent(v @ self.first.mT, v @ self.quadratic.mT)

    def as_time_passes(self, v: Tensor) -> Tensor:
        """`∂f/∂t + (∂f/∂x) v`, `(N, D)`."""
        first, quadratic = self.of_time
        return self._bent(v @ self.first.mT + first, v @ self.quadratic.mT + quadratic)

    def _bent(self, first: Tensor, quadratic: Tensor) -> Tensor:
        """The x-part of `−∇²Φ d` for a direction d of s, from `K_0 d` and `A d`."""
        moved = [first]
        u = self.slopes[0] * moved[0]
        for weight, slope in zip(self.inner, self.slopes[1:], strict=True):
            moved.append(u @ weight.mT)
            u = u + self.step * slope * moved[-1]
        z = torch.zeros_like(u)
        for i in range(len(self.inner), 0, -1):
            z = z + self.step * ((self.bends[i] * moved[i] + self.slopes[i] * z) @ self.inner[i - 1])
        outer = (self.bends[0] * moved[0] + self.slopes[0] * z) @ self.first
        return -(outer + quadratic @ self.quadratic)

    def vjp(self, v: Tensor) -> Tensor:
        return self.jvp(v)  # a Hessian is symmetric

    def trace(self) -> Tensor:
        first = self.first
        if first.shape[1] > first.shape[0]:  # norms of rows do not change under a rotation to m columns
            first = torch.linalg.qr(first.mT).R.mT
        total = self.bends[0] @ first.square().sum(1) + self.quadratic.square().sum()
        u = self.slopes[0].unsqueeze(1) * first.mT  # (N, min(D, m), m)
        for weight, slope, bend in zip(self.inner, self.slopes[1:], self.bends[1:], strict=True):
            moved = u @ weight.mT
            total = total + self.step * (moved.square().sum(1) * bend).sum(1)
            u = u + self.step * slope.unsqueeze(1) * moved
        return -total
