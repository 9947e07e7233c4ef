"""Copies of flows that share their parameters and whose CNFs have other settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from cnf.arguments import checked
from cnf.continuous.cnf import CNF
from cnf.continuous.divergences import Divergence
from cnf.continuous.regularizers import Regularizer
from cnf.continuous.solvers import Solver
from cnf.twin import parts_of, twin

Module = TypeVar("Module", bound=nn.Module)


@checked
def reconfigure(
    flow: Module,
    *,
    divergence: Divergence | None = None,
    solver: Solver | None = None,
    regularizers: Mapping[str, Regularizer] | None = None,
) -> Module:
    """A copy with other settings in all of its CNFs; it shares all parameters and buffers with the original.

    For example, train with `Hutchinson` and evaluate with `Exact`. Call `.to()` before, not after: it replaces buffers,
    so they would no longer be shared.

    Args:
        flow: A flow, or any module that holds CNFs.
        divergence: The new divergence; None keeps each CNF's own.
        solver: The new solver; None keeps each CNF's own.
        regularizers: The new path costs; None keeps each CNF's own.

    Raises:
        ValueError: `flow` contains no CNF.

    Example:
        >>> import torch, cnf
        >>> flow = cnf.build("cnf", 2)
        >>> cheap = reconfigure(flow, divergence=cnf.Hutchinson(), solver=cnf.RungeKutta("rk4", steps=8))
        >>> flow.exact, cheap.exact, len(list(cheap.parameters())) == len(list(flow.parameters()))
        (True, False, True)
    """
    if not cnfs_of(flow):
        raise ValueError(f"{type(flow).__name__} holds no CNF, so there is nothing to reconfigure")

    def settings(cnf: CNF) -> dict[str, Any]:
        return {
            "divergence": divergence or cnf.divergence,
            "solver": solver or cnf.solver,
            "regularizers": cnf.regularizers if regularizers is None else dict(regularizers),
        }

    return twin(flow, CNF, settings)


def without_costs(flow: Module) -> Module:
    """A copy without path costs, which shares all parameters; for uses that need densities only."""
    return reconfigure(flow, regularizers={}) if any(cnf.regularizers for cnf in cnfs_of(flow)) else flow


def smoothed(flow: Module) -> Module:
    """A copy whose divergences are `smoothed`, for valid standard errors; it shares all parameters.

    In few dimensions a Rademacher estimate has few possible values, and repeated values would hide its variance.
    """
    if all(cnf.divergence.exact for cnf in cnfs_of(flow)):
        return flow
    return twin(flow, CNF, lambda cnf: {"divergence": cnf.divergence.smoothed()})


def refined(flow: Module) -> Module:
    """A copy in float64 with a `tighter` solver in all of its CNFs, by which the error of their solves is measured.

    Raises:
        TypeError: A solver has no tighter one.
    """
    return twin(flow, CNF, lambda cnf: {"solver": cnf.solver.tighter()}, shared=False).double()


def cnfs_of(module: nn.Module) -> list[CNF]:
    """All CNFs in a module, itself included.

    Args:
        module: A flow, or any module.

    Example:
        >>> import torch, cnf
        >>> len(cnfs_of(cnf.build("cnf", 2))), len(cnfs_of(cnf.build("maf", 2)))
        (1, 0)
    """
    return parts_of(module, CNF)
