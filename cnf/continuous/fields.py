"""Vector fields `dx/dt = f(t, x, context)`, the networks of an ODE."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnf.arguments import Size, SizeOrZero, Sizes, Widths, checked, one_of
from cnf.continuous.chains import ChainLinearization, Probed, TraceForm, probed, trace_form
from cnf.continuous.linearization import FunctionalLinearization, Linearization, PotentialLinearization
from cnf.networks import ActivationName, softplus
from cnf.networks import activation as activation_by_name
from cnf.networks.residual import as_widths

TimeName = Annotated[str, one_of(("concat", "concatsquash"))]


class VectorField(nn.Module, ABC):
    """A field `f(t, x, context)`. Subclasses give `forward`; those with closed forms override `linearize`.

    Attributes:
        context_dim: Length of the context it reads; 0 for none, None where it is not known.
    """

    context_dim: int | None = 0

    @abstractmethod
    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The velocity `dx/dt`, `(N, *event)`.

        Args:
            t: A scalar tensor, or `(N,)`, a time for each row.
            x: `(N, *event)`.
            context: `(N, C)` or None.
        """

    def takes_times(self, x: Tensor, context: Tensor | None = None) -> bool:
        """Whether an evaluation with a time for each row, `(N,)`, is possible and costs no more than one with one time.

        Solvers then may give every row steps of its own.
        """
        return True

    def prepare(self, context: Tensor | None = None, *, trace: bool = False, probe: Tensor | None = None) -> Any:
        """What stays the same during a solve, computed once and handed to `linearize`; None if nothing does.

        Args:
            context: `(N, C)` or None.
            trace: Whether exact traces will be asked for.
            probe: `(k, N, *event)`, vectors v of which `vᵀJv` will be asked for.
        """
        return None

    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Tensor:
        """The same as `forward`, with what was prepared for the solve."""
        velocity: Tensor = self(t, x, context)
        return velocity

    def linearize(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Linearization:
        """The field at `(t, x)` with its Jacobian; through `torch.func` unless a subclass knows better."""
        return FunctionalLinearization(x, t, lambda t, x: self.velocity(t, x, context, prepared))


@checked
class ModuleField(VectorField):
    """Any `nn.Module` that takes `(t, x, context)` and treats each row for itself, as a field."""

    context_dim = None

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        velocity: Tensor = self.module(t, x, context)
        if velocity.shape != x.shape:
            raise ValueError(
                f"a field must return the shape of x, {tuple(x.shape)}; "
                f"{type(self.module).__name__} returned {tuple(velocity.shape)}"
            )
        return velocity

    def takes_times(self, x: Tensor, context: Tensor | None = None) -> bool:
        """Tried on some rows, as many as no axis is long, for many a module knows only one time."""
        number = next(n for n in (7, 11, 13, 17, 19) if n not in x.shape[1:])
        rows = torch.arange(number, device=x.device) % len(x)
        x, context = x.detach()[rows], None if context is None else context.detach()[rows]
        times = torch.linspace(0.1, 0.9, number, dtype=x.dtype, device=x.device)
        try:
            with torch.no_grad():
                each = self(times, x, context)[[0, -1]]
                one = torch.stack([self(times[i], x, context)[i] for i in (0, -1)])
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False
        return torch.allclose(each, one, rtol=1e-3, atol=1e-5, equal_nan=True)


class Affine(NamedTuple):
    """`offset + slope · t`: how a bias or a gate moves with time."""

    offset: Tensor
    slope: Tensor

    def at(self, t: Tensor) -> Tensor:
        """The value at a scalar time, `(H,)` or `(N, H)`, or at one time a row, `(N, H)`."""
        return torch.addcmul(self.offset, t.unsqueeze(-1) if t.dim() else t, self.slope)


class Layer(NamedTuple):
    """One layer of a time-dependent network during a solve: `(W h + b) · sigmoid(gate(t)) + shift(t)`."""

    weight: Tensor
    bias: Tensor
    shift: Affine | None = None
    gate: Affine | None = None

    def __call__(self, t: Tensor, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output `(N, H)` and the gate's value."""
        if self.gate is None and self.shift is not None and t.dim():  # the sums that are as large as the batch last
            linear = torch.addmm(self.bias + self.shift.offset, h, self.weight.mT)
            return torch.addcmul(linear, t.unsqueeze(-1), self.shift.slope), None
        if self.gate is None:
            bias = self.bias if self.shift is None else self.bias + self.shift.at(t)
            return torch.addmm(bias, h, self.weight.mT), None
        gate = self.gate.at(t).sigmoid()
        linear = torch.addmm(self.bias, h, self.weight.mT)
        return (linear * gate if self.shift is None else torch.addcmul(self.shift.at(t), linear, gate)), gate

    def along(self, t: Tensor, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and its rate while time passes and h moves with velocity v."""
        output, gate = self(t, h)
        rate = v @ self.weight.mT
        if self.gate is not None and gate is not None:
            linear = torch.addmm(self.bias, h, self.weight.mT)
            rate = gate * (rate + linear * (1 - gate) * self.gate.slope)
        return output, rate if self.shift is None else rate + self.shift.slope


class Prepared(NamedTuple):
    """What an `MLPField` computes once a solve."""

    layers: list[Layer]
    form: TraceForm | None
    probed: Probed | None


@checked
class MLPField(VectorField):
    """A multilayer perceptron of `x`, time and context, with closed-form derivatives.

    `h_1 = σ(ℓ_0(x, t))`, `h_{i+1} = [h_i +] σ(ℓ_i(h_i, t))`, `f = ℓ_L(h_L, t)`. With `time="concat"` the first
    layer reads `[x, t, context]`; with `time="concatsquash"` every layer is FFJORD's
    `ℓ(h, t) = (W h + b) · sigmoid(g t + g_0) + s t`, where the context moves gates and shifts of the hidden layers
    like time does, and the shift of the last. (The gate of the last layer is left to time alone, so that the closed
    form of the trace stays as cheap with a context as without.)

    Args:
        dim: Dimension of x.
        hidden: Widths of the hidden layers; an int is one layer.
        context_dim: Length of the context.
        activation: One of `cnf.networks.ACTIVATIONS`.
        time: "concat" or "concatsquash".
        residual: Whether hidden layers after the first add to their input; they need equal widths.

    Raises:
        ValueError: An unknown option, or widths that a residual cannot add.

    References:
        Grathwohl et al. 2019, FFJORD, arXiv 1810.01367.
    """

    def __init__(
        self,
        dim: Size,
        hidden: Widths = (64, 64),
        context_dim: SizeOrZero = 0,
        activation: ActivationName = "tanh",
        time: TimeName = "concat",
        *,
        residual: bool = False,
    ) -> None:
        super().__init__()
        hidden = as_widths(hidden)
        if residual and len(set(hidden)) > 1:
            raise ValueError(f"a residual field needs hidden layers of one width, got {hidden}")
        self.dim, self.context_dim, self.residual = dim, context_dim, residual
        self.activation = activation_by_name(activation)
        squash = time == "concatsquash"
        read = dim if squash else dim + 1 + context_dim
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip([read, *hidden], [*hidden, dim], strict=True))
        widths = [*hidden, dim] if squash else []
        self.shifts = nn.ModuleList(nn.Linear(1 + context_dim, width, bias=False) for width in widths)
        self.gates = nn.ModuleList(
            nn.Linear(1 + context_dim * (i < len(hidden)), width) for i, width in enumerate(widths)
        )

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.velocity(t, x, context)

    def takes_times(self, x: Tensor, context: Tensor | None = None) -> bool:
        """Not where a gate that moves with time would take the closed form of two hidden layers its price."""
        return not self.gates or self.dim <= 3 or len(self.layers) != 3

    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Prepared | None = None) -> Tensor:
        layers = (prepared or self.prepare(context)).layers
        h = self.activation.value(layers[0](t, x)[0])
        for layer in layers[1:-1]:
            step = self.activation.value(layer(t, h)[0])
            h = h + step if self.residual else step
        return layers[-1](t, h)[0]

    def prepare(self, context: Tensor | None = None, *, trace: bool = False, probe: Tensor | None = None) -> Prepared:
        layers = self._layers(context)
        if self.gates:  # the last one moves with time, and closed forms with it
            return Prepared(layers, None, None)
        weights = [layer.weight for layer in layers]
        form = trace_form(weights, residual=self.residual) if trace else None
        return Prepared(layers, form, None if probe is None else probed(weights, probe))

    def linearize(
        self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Prepared | None = None
    ) -> ChainLinearization:
        prepared = prepared or self.prepare(context)
        layers = prepared.layers
        h, scales = x, []
        for i, layer in enumerate(layers[:-1]):
            a, gate = layer(t, h)
            step, slope = self.activation.with_slope(a)
            scales.append(slope if gate is None else slope * gate)
            h = h + step if self.residual and i else step
        velocity, gate = layers[-1](t, h)
        weights = [layer.weight for layer in layers]
        return ChainLinearization(
            x, velocity, weights, scales, gate=gate, residual=self.residual, form=prepared.form, probed=prepared.probed,
            t=t, function=lambda t, x: self.velocity(t, x, context, prepared),
            along=lambda t, x, v: self._along(t, x, v, layers),
        )  # fmt: skip

    def _along(self, t: Tensor, x: Tensor, v: Tensor, layers: Sequence[Layer]) -> Tensor:
        """`∂f/∂t + (∂f/∂x) v`."""
        h = x
        for i, layer in enumerate(layers[:-1]):
            a, rate = layer.along(t, h, v)
            step, slope = self.activation.with_slope(a)
            h, v = (h + step, v + slope * rate) if self.residual and i else (step, slope * rate)
        return layers[-1].along(t, h, v)[1]

    def _layers(self, context: Tensor | None) -> list[Layer]:
        if self.context_dim and context is None:
            raise ValueError(f"this field is conditional: give a context of shape (N, {self.context_dim})")
        first, *rest = linears = _linears(self.layers)
        if self.gates:
            modules = zip(linears, _linears(self.shifts), _linears(self.gates), strict=True)
            return [
                Layer(linear.weight, linear.bias, self._of_time(shift, context), self._of_time(gate, context))
                for linear, shift, gate in modules
            ]
        weight, slope, conditional = first.weight.split([self.dim, 1, self.context_dim], 1)
        offset = first.bias if context is None else torch.addmm(first.bias, context, conditional.mT)
        head = Layer(weight, torch.zeros_like(slope[:, 0]), Affine(offset, slope[:, 0]))
        return [head, *(Layer(linear.weight, linear.bias) for linear in rest)]

    @staticmethod
    def _of_time(linear: nn.Linear, context: Tensor | None) -> Affine:
        """A linear map of `[t, context]`, or of t alone, as an affine function of t."""
        slope, conditional = linear.weight[:, 0], linear.weight[:, 1:]
        offset = torch.zeros_like(slope) if linear.bias is None else linear.bias
        if context is None or not conditional.numel():
            return Affine(offset, slope)
        return Affine(F.linear(context, conditional, offset), slope)


def _linears(modules: nn.ModuleList) -> list[nn.Linear]:
    return cast("list[nn.Linear]", list(modules))


@checked
class PotentialField(VectorField):
    """A gradient field `f = −∇ₓΦ(s)`, `s = [x, t, context]`, with closed-form gradient, Laplacian and Hessian.

    `Φ(s) = wᵀN(s) + ½ sᵀAᵀA s + bᵀs`, `N` a residual net `u_0 = σ(K_0 s + b_0)`,
    `u_i = u_{i−1} + h σ(K_i u_{i−1} + b_i)`, `h = 1/depth`, with `σ(a) = log(2 cosh a)`, the antiderivative of tanh.

    Args:
        dim: Dimension of x.
        hidden: Width m of the residual net.
        depth: Number M of residual layers after the first.
        rank: Rows of A; `min(10, dim + 1)` by default, as published.
        context_dim: Length of the context.

    References:
        Onken et al. 2021, OT-Flow, arXiv 2006.00104.
    """

    def __init__(
        self, dim: Size, hidden: Size = 32, *, depth: Size = 1, rank: Size | None = None, context_dim: SizeOrZero = 0
    ) -> None:
        super().__init__()
        self.dim, self.context_dim, self.step = dim, context_dim, 1 / depth
        size = dim + 1 + context_dim
        self.layers = nn.ModuleList([nn.Linear(size, hidden), *(nn.Linear(hidden, hidden) for _ in range(depth))])
        self.weight = nn.Parameter(torch.ones(hidden))
        self.quadratic = nn.Parameter(torch.empty(rank or min(10, dim + 1), size))
        self.linear = nn.Linear(size, 1)
        nn.init.xavier_uniform_(self.quadratic)
        for bias in (self.linear.weight, self.linear.bias):
            nn.init.zeros_(bias)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.linearize(t, x, context).velocity

    def potential(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """`Φ(t, x)`, `(N,)`."""
        s = self.inputs(t, x, context)
        u = _log_two_cosh(self.layers[0](s))
        for layer in self.layers[1:]:
            u = u + self.step * _log_two_cosh(layer(u))
        return u @ self.weight + 0.5 * (s @ self.quadratic.mT).square().sum(1) + self.linear(s)[:, 0]

    def linearize(
        self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None
    ) -> PotentialLinearization:
        s = self.inputs(t, x, context)
        first, *rest = self.layers
        a = first(s)
        u, slopes = _log_two_cosh(a), [a.tanh()]
        for layer in rest:
            a = layer(u)
            u = u + self.step * _log_two_cosh(a)
            slopes.append(a.tanh())
        weights = [layer.weight for layer in _linears(self.layers)]
        affine = (s @ self.quadratic.mT) @ self.quadratic + self.linear.weight
        return PotentialLinearization(
            x, weights, slopes, self.weight, affine, self.quadratic, step=self.step,
            t=t, function=lambda t, x: self.velocity(t, x, context),
            along=lambda t, x, v: self.linearize(t, x, context).as_time_passes(v),
        )  # fmt: skip

    def inputs(self, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
        """`s = [x, t, context]`, `(N, dim + 1 + context_dim)`."""
        if self.context_dim and context is None:
            raise ValueError(f"this field is conditional: give a context of shape (N, {self.context_dim})")
        parts = [x, t.reshape(-1, 1).expand(len(x), 1), *([] if context is None else [context])]
        return torch.cat(parts, 1)


def _log_two_cosh(a: Tensor) -> Tensor:
    return softplus(2 * a) - a


@checked
class PlanarField(VectorField):
    """A sum of planar units whose weights a hypernetwork of time moves, with a closed-form trace.

    `f = 1/M Σ_m sigmoid(g_m(t)) u_m(t) tanh(w_m(t)ᵀx + b_m(t) + V_m context)`.

    Args:
        dim: Dimension of x.
        width: Number M of units.
        hyper: Width of the two hidden layers of the hypernetwork.
        context_dim: Length of the context.

    References:
        Chen et al. 2018, Neural ordinary differential equations, arXiv 1806.07366; mean over the units and gate of
        each entry of u as in the authors' code.
    """

    def __init__(self, dim: Size, width: Size = 64, *, hyper: Size = 32, context_dim: SizeOrZero = 0) -> None:
        super().__init__()
        self.dim, self.width, self.context_dim = dim, width, context_dim
        self.hyper = nn.Sequential(
            nn.Linear(1, hyper), nn.Tanh(), nn.Linear(hyper, hyper), nn.Tanh(),
            nn.Linear(hyper, 3 * width * dim + width),
        )  # fmt: skip
        self.conditional = nn.Linear(context_dim, width, bias=False) if context_dim else None

    def takes_times(self, x: Tensor, context: Tensor | None = None) -> bool:
        """No: the hypernetwork makes the weights of one time once for all rows."""
        return False

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        inner, bias, outer = self._units(t, context)
        h = ((inner @ x.unsqueeze(-1)).squeeze(-1) + bias).tanh()
        return (outer @ h.unsqueeze(-1)).squeeze(-1)

    def linearize(self, t: Tensor, x: Tensor, context: Tensor | None = None, prepared: Any = None) -> Linearization:
        if t.dim():
            return super().linearize(t, x, context)
        inner, bias, outer = self._units(t, context)
        h = (x @ inner.mT + bias).tanh()
        return ChainLinearization(
            x, h @ outer.mT, [inner, outer], [1 - h * h], t=t, function=lambda t, x: self.velocity(t, x, context)
        )

    def _units(self, t: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Inner weights `(…, M, D)`, biases `(…, M)` and outer weights `(…, D, M)`; `…` is `(N,)` if t is."""
        size = self.width * self.dim
        inner, outer, gate, bias = self.hyper(t.unsqueeze(-1)).split([size, size, size, self.width], -1)
        outer = (outer * gate.sigmoid() / self.width).unflatten(-1, (self.width, self.dim)).mT
        if self.conditional is not None:
            if context is None:
                raise ValueError(f"this field is conditional: give a context of shape (N, {self.context_dim})")
            bias = bias + self.conditional(context)
        return inner.unflatten(-1, (self.width, self.dim)), bias, outer


@checked
class ConvField(VectorField):
    """A convolutional field for images; every layer is FFJORD's ConcatSquash with one gate and shift a channel.

    `ℓ(h, t) = conv(h) · sigmoid(g [t, context] + g_0) + s [t, context]`, resolution kept throughout.

    Args:
        event_shape: `(C, H, W)`.
        hidden: Channels of the hidden layers.
        context_dim: Length of the context.
        activation: One of `cnf.networks.ACTIVATIONS`.
        kernel: Odd size of the kernels.

    References:
        Grathwohl et al. 2019, FFJORD, arXiv 1810.01367.
    """

    def __init__(
        self,
        event_shape: Sizes,
        hidden: Widths = (64, 64, 64),
        context_dim: SizeOrZero = 0,
        activation: ActivationName = "softplus",
        *,
        kernel: Size = 3,
    ) -> None:
        super().__init__()
        if len(event_shape) != 3:
            raise ValueError(f"a convolutional field needs an event (C, H, W), got {tuple(event_shape)}")
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd to keep the resolution, got {kernel}")
        self.context_dim = context_dim
        self.activation = activation_by_name(activation)
        sizes = [event_shape[0], *as_widths(hidden), event_shape[0]]
        self.layers = nn.ModuleList(
            nn.Conv2d(i, o, kernel, padding=kernel // 2) for i, o in zip(sizes, sizes[1:], strict=False)
        )
        self.gates = nn.ModuleList(nn.Linear(1 + context_dim, o) for o in sizes[1:])
        self.shifts = nn.ModuleList(nn.Linear(1 + context_dim, o, bias=False) for o in sizes[1:])

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        if self.context_dim and context is None:
            raise ValueError(f"this field is conditional: give a context of shape (N, {self.context_dim})")
        time = t.reshape(-1, 1)
        read = time if context is None else torch.cat([time.expand(len(x), 1), context], 1)
        for i, (layer, gate, shift) in enumerate(zip(self.layers, self.gates, self.shifts, strict=True)):
            x = layer(self.activation.value(x) if i else x)
            x = x * gate(read).sigmoid()[..., None, None] + shift(read)[..., None, None]
        return x
