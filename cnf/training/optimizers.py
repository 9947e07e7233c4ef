"""The optimizers of a phase, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

WIDE = 32  # a matrix with fewer rows or columns leads from or to the data, and is left to AdamW


def optimizers(module: nn.Module, name: str, weight_decay: float) -> list[Optimizer]:
    """AdamW for all parameters; with "muon", Muon for the matrices between hidden layers and AdamW for the others.

    Muon's steps are scaled to the size of AdamW's, so that one learning rate serves both.

    References:
        Loshchilov and Hutter 2019, AdamW, arXiv 1711.05101; Jordan et al. 2024, Muon; Liu et al. 2025,
        arXiv 2502.16982.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    wide = [p for p in parameters if name == "muon" and p.dim() == 2 and min(p.shape) >= WIDE]
    chosen = {id(p) for p in wide}
    made: list[Optimizer] = []
    if len(wide) < len(parameters):
        made.append(AdamW([p for p in parameters if id(p) not in chosen], weight_decay=weight_decay))
    if wide:
        made.append(Muon(wide, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    return made


def state_of(made: Sequence[Optimizer]) -> dict[str, Tensor]:
    """The state of all of them; `load_state` reads it."""
    return {
        f"{place}.{index}.{key}": value
        for place, optimizer in enumerate(made)
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }


def load_state(made: Sequence[Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Take up a state that `state_of` wrote.

    Raises:
        ValueError: It is of other parameters.
    """
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in made]
    for name, tensor in tensors.items():
        place, index, key = name.split(".", 2)
        if int(place) >= len(made):
            raise ValueError(f"state of optimizer {place}, but there are {len(made)}")
        states[int(place)].setdefault(int(index), {})[key] = tensor
    for optimizer, state in zip(made, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
