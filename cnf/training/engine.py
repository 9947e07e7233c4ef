"""The training engine (Lightning Fabric), and the objectives as one module that it can wrap."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from cnf.continuous.divergences import Divergence
from cnf.continuous.solvers import RungeKutta, Solver
from cnf.continuous.twins import cnfs_of, reconfigure
from cnf.flows import Flow
from cnf.objectives.interface import Loss, as_loss, weighted
from cnf.objectives.phases import Phase
from cnf.training.launch import MARK, find_launch
from cnf.training.settings import FitConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

TIGHTEST = 1e-2  # tolerance of training that is not made smaller: also that of half precision


def engine(config: FitConfig) -> Fabric:
    """The engine that the config asks for, launched; under `torchrun` with as many processes as that started.

    Raises:
        ValueError: A device, a precision or a number of processes that this machine does not have.
    """
    launch = find_launch(config.devices, config.num_nodes)
    from lightning_fabric import Fabric  # after that check, for it reads the launcher's variables while it is imported

    if launch.several:
        os.environ[MARK] = "1"
    try:
        fabric = Fabric(
            accelerator=config.accelerator, devices=launch.devices, num_nodes=launch.nodes,
            strategy="ddp_find_unused_parameters_true" if launch.several else "auto",
            precision=config.precision,  # type: ignore[arg-type]
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"cannot train with accelerator={config.accelerator!r}, devices={launch.devices}, "
            f"num_nodes={launch.nodes}: {error}"
        ) from error
    fabric.launch()
    return fabric


def seed_noise(seed: int, device: torch.device) -> None:
    """Seed the noise of the CPU and of a device.

    `torch.manual_seed` does so for every kind of device that there might be, which takes a millisecond: on a CPU that
    is a good part of a step.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def mean_over_processes(fabric: Fabric, values: Tensor) -> Tensor:
    """The mean over processes of a tensor that each of them has."""
    if fabric.world_size == 1:
        return values
    mean = fabric.all_reduce(values.to(fabric.device), reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean.cpu()


class Example:
    """A batch for the engine, which would round bare tensors to the precision of matrix products.

    Args:
        x: Rows `(N, *event)`.
        context: `(N, C)` or None.
        weights: `(N,)` or None.
    """

    def __init__(self, x: Tensor, context: Tensor | None, weights: Tensor | None) -> None:
        self.x, self.context, self.weights = x, context, weights


class Minimand(nn.Module):
    """The objectives of all phases as a module, whose forward pass the engine wraps and synchronises.

    Each phase has a flow with its settings; all of these flows share their weights.

    Args:
        flow: What is trained.
        phases: With their objectives and settings.
    """

    def __init__(self, flow: Flow, phases: Sequence[Phase]) -> None:
        super().__init__()
        self.flows = nn.ModuleList(with_settings(flow, phase.solver, phase.divergence) for phase in phases)
        self.objectives = [phase.objective for phase in phases]
        self.trained = nn.ModuleList(part for part in self.objectives if isinstance(part, nn.Module))

    def forward(self, example: Example, phase: int) -> Loss:
        loss = as_loss(self.objectives[phase](cast(Flow, self.flows[phase]), example.x, example.context))
        return loss if example.weights is None else weighted(loss, example.weights)


def tightened(solver: Solver | None, factor: float) -> Solver | None:
    """An adaptive solver within a part of its tolerance, but not below `TIGHTEST`; other solvers as they are.

    Example:
        >>> from cnf import RungeKutta
        >>> loose = RungeKutta(rtol=0.05, atol=0.05)
        >>> tightened(loose, 0.5).rtol, tightened(loose, 0.01).rtol
        (0.025, 0.01)
    """
    if not isinstance(solver, RungeKutta) or solver.steps is not None:
        return solver
    rtol, atol = (max(given * factor, min(given, TIGHTEST)) for given in (solver.rtol, solver.atol))
    return replace(solver, rtol=rtol, atol=atol)


def with_settings(flow: Flow, solver: Solver | None, divergence: Divergence | None) -> Flow:
    """The flow with other settings in its CNFs, if it has any and others are asked for."""
    if (solver or divergence) and cnfs_of(flow):
        return reconfigure(flow, solver=solver, divergence=divergence)
    return flow
