"""The optimizers of a phase, which move together or not at all, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW, Muon, Optimizer

WIDE = 32  # a matrix with fewer rows or columns leads from or to the data, and is left to AdamW
BETAS = {"adamw": (0.9, 0.999), "muon": (0.9, 0.99)}  # of AdamW: beside Muon, for runs of a thousand steps or less
MOMENTS: dict[type[Optimizer], set[str]] = {AdamW: {"step", "exp_avg", "exp_avg_sq"}, Muon: {"momentum_buffer"}}
SMALLEST_SCALE = 1.0  # of 16-bit gradients: below it they do not overflow by being scaled


class Optimizers:
    """AdamW for all parameters; with "muon", Muon for the matrices between hidden layers and AdamW for the others.

    Muon's steps are scaled to the size of AdamW's, so that one learning rate serves both. Beside Muon, AdamW averages
    squares over a hundred steps (β₂ = 0.99), not over a thousand.

    Args:
        module: Has the parameters.
        name: "adamw" or "muon".
        weight_decay: Weight decay of both.
        scaler: Scales gradients in 16 bits, where the engine does so.

    References:
        Loshchilov and Hutter 2019, AdamW, arXiv 1711.05101; Jordan et al. 2024, Muon; Liu et al. 2025,
        arXiv 2502.16982.

    Example:
        >>> layers = nn.Sequential(nn.Linear(2, 64), nn.Linear(64, 64), nn.Linear(64, 2))
        >>> [type(optimizer).__name__ for optimizer in Optimizers(layers, "muon", weight_decay=0.01).made]
        ['AdamW', 'Muon']
    """

    def __init__(self, module: nn.Module, name: str, weight_decay: float, scaler: GradScaler | None = None) -> None:
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        wide = [p for p in self.parameters if name == "muon" and p.dim() == 2 and min(p.shape) >= WIDE]
        chosen = {id(p) for p in wide}
        self.made: list[Optimizer] = []
        if len(wide) < len(self.parameters):
            others = [p for p in self.parameters if id(p) not in chosen]
            self.made.append(AdamW(others, betas=BETAS[name], weight_decay=weight_decay))
        if wide:
            self.made.append(Muon(wide, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
        self.scaler = scaler
        state = [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
        self.watched = [tensor.detach() for tensor in state if tensor.numel() and tensor.isfinite().all()]

    def zero_grad(self) -> None:
        """Forget the gradient."""
        for optimizer in self.made:
            optimizer.zero_grad()

    def step(self, rate: float, clip: float) -> None:
        """Move all parameters, by a gradient whose norm over all of them is at most `clip` (0: any).

        An overflow that is due to the scaling of 16-bit gradients is no error: the scale falls, and nothing moves.

        Raises:
            FloatingPointError: The gradient is not finite, and nothing has moved; or the weights are not after it.
        """
        for optimizer in self.made:
            if self.scaler is not None:
                self.scaler.unscale_(optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = get_total_norm(gradients)
        finite = bool(norm.isfinite())
        if not finite and not self._overflowed(gradients):
            raise FloatingPointError("the gradient is not finite")
        if finite:
            self._move(rate, clip, norm)
        if self.scaler is not None:
            self.scaler.update()

    def _overflowed(self, gradients: list[Tensor]) -> bool:
        """Whether a smaller scale may help."""
        scaled = self.scaler is not None and self.scaler.get_scale() > SMALLEST_SCALE
        return scaled and not _finite(gradients)

    def _move(self, rate: float, clip: float, norm: Tensor) -> None:
        if clip:
            clip_grads_with_norm_(self.parameters, clip, norm)
        for optimizer in self.made:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        if not get_total_norm(self.watched).isfinite() and not _finite(self.watched):  # a norm may overflow alone
            raise FloatingPointError("the step made weights that are not finite")

    def state(self) -> dict[str, Tensor]:
        """The state of all of them; `load_state` reads it."""
        return {
            f"{place}.{index}.{key}": value
            for place, optimizer in enumerate(self.made)
            for index, entry in optimizer.state_dict()["state"].items()
            for key, value in entry.items()
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state` gave.

        Raises:
            ValueError: It is of other parameters.
        """
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self.made]
        for name, tensor in tensors.items():
            place, index, key = name.split(".", 2)
            if int(place) >= len(self.made):
                raise ValueError(f"state of optimizer {place}, but there are {len(self.made)}")
            states[int(place)].setdefault(int(index), {})[key] = tensor
        for optimizer, state in zip(self.made, states, strict=True):
            _check_entries(optimizer, state)
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def scaling(self) -> dict[str, Tensor]:
        """The state of the scaling, as tensors; empty without one."""
        state = {} if self.scaler is None else self.scaler.state_dict()
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in state.items()}

    def load_scaling(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `scaling` gave."""
        if self.scaler is not None and tensors:
            whole = ("growth_interval", "_growth_tracker")
            values = {name: tensor.item() for name, tensor in tensors.items()}
            self.scaler.load_state_dict({k: int(v) if k in whole else v for k, v in values.items()})


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _check_entries(optimizer: Optimizer, state: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Of each parameter the moments that its optimizer keeps, of its shape."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entry in state.items():
        if not 0 <= index < len(parameters) or entry.keys() != MOMENTS[type(optimizer)]:
            raise ValueError(f"state of parameter {index} with {', '.join(entry)}")
        parameter = parameters[index]
        kinds = {(tensor.shape, tensor.dtype) for name, tensor in entry.items() if name != "step"}
        if kinds != {(parameter.shape, parameter.dtype)}:
            raise ValueError(f"moments of parameter {index} that do not go with it: {kinds}")
