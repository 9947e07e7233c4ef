"""The layers of time-dependent networks during a solve, when weights and context stay the same."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn


def linears(modules: nn.ModuleList) -> list[nn.Linear]:
    """The modules of a list of linear layers, typed."""
    return cast("list[nn.Linear]", list(modules))


class LinearInTime(NamedTuple):
    """`offset + slope · t`: how a bias, a gate or a shift moves with time."""

    offset: Tensor
    slope: Tensor

    @classmethod
    def of(cls, weight: Tensor, offset: Tensor, context: Tensor | None) -> LinearInTime:
        """`W [t, context] + offset`, where W may have the column of t alone.

        Args:
            weight: W, `(H, 1 + C)` or `(H, 1)`.
            offset: `(H,)`.
            context: `(N, C)` or None.
        """
        slope, conditional = weight[:, 0], weight[:, 1:]
        if context is None or not conditional.numel():
            return cls(offset, slope)
        return cls(torch.addmm(offset, context, conditional.mT), slope)

    def at(self, t: Tensor) -> Tensor:
        """The value at a scalar time, `(H,)` or `(N, H)`, or at one time a row, `(N, H)`."""
        return torch.addcmul(self.offset, t.unsqueeze(-1) if t.dim() else t, self.slope)


class TimedLayer(NamedTuple):
    """`W h + b + s t`; `s` is None in a layer that time does not move."""

    weight: Tensor
    bias: Tensor
    slope: Tensor | None = None

    def output(self, t: Tensor, h: Tensor) -> tuple[Tensor, None]:
        """The output `(N, H)`, and no gate."""
        if self.slope is not None and not t.dim():
            return torch.addmm(torch.addcmul(self.bias, t, self.slope), h, self.weight.mT), None
        linear = torch.addmm(self.bias, h, self.weight.mT)
        return (linear if self.slope is None else torch.addcmul(linear, t.unsqueeze(-1), self.slope)), None

    def along(self, t: Tensor, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and its rate while time passes and h moves with velocity v."""
        rate = v @ self.weight.mT
        return self.output(t, h)[0], rate if self.slope is None else rate + self.slope


class GatedLayer(NamedTuple):
    """FFJORD's ConcatSquash: `(W h + b) · sigmoid(gate(t)) + shift(t)`."""

    weight: Tensor
    bias: Tensor
    gate: LinearInTime
    shift: LinearInTime

    def output(self, t: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The output `(N, H)`, and the gate `sigmoid(gate(t))`, `(H,)` or `(N, H)`."""
        gate = self.gate.at(t).sigmoid()
        return torch.addcmul(self.shift.at(t), torch.addmm(self.bias, h, self.weight.mT), gate), gate

    def along(self, t: Tensor, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and its rate while time passes and h moves with velocity v."""
        output, gate = self.output(t, h)
        linear = torch.addmm(self.bias, h, self.weight.mT)
        rate = gate * (v @ self.weight.mT + linear * (1 - gate) * self.gate.slope)
        return output, rate + self.shift.slope


Layer = TimedLayer | GatedLayer
