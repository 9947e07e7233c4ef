"""Phases of training: one objective after another for the same flow, such as matching and then likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cnf.arguments import NonNegative, Positive, advice, checked, one_of
from cnf.continuous.divergences import Divergence
from cnf.continuous.solvers import Solver
from cnf.objectives.interface import Objective
from cnf.objectives.likelihood import MaximumLikelihood

OPTIMIZERS = ("adamw", "muon")


@checked
@dataclass(frozen=True)
class Phase:
    """One phase of training: an objective and the settings it is minimised with.

    The settings are for training only: the flow keeps those that it is evaluated with. Each phase begins with the best
    weights of the one before (the averaged ones without validation rows), and has its own optimizer state, warm-up and
    cosine.

    Args:
        objective: What is minimised.
        share: Its part of the budget, relative to that of the other phases; what early stopping leaves over goes to
            the next phase.
        solver: Solver of training; None for the flow's own.
        divergence: Divergence of training; None for the flow's own.
        learning_rate: Peak of the learning rate.
        weight_decay: Each step shrinks the weights by this part times the learning rate. Large values (0.5) keep a flow
            from learning a small table by heart.
        clip: Largest norm of the gradient; 0 for no clipping.
        optimizer: "adamw", or "muon" for Muon on the matrices between hidden layers and AdamW on the rest: about twice
            as fast to a likelihood for CNFs.

    Raises:
        TypeError: An objective that cannot be called, such as a name, or a class.
        ValueError: A share or a learning rate that is not positive, a negative weight decay or norm, or an unknown
            optimizer.

    Example:
        >>> import cnf
        >>> flow = cnf.build("cnf", 2)
        >>> flow.recipe = (Phase(cnf.FlowMatching(), share=3), Phase(cnf.MaximumLikelihood(), learning_rate=1e-3))
        >>> [type(phase.objective).__name__ for phase in flow.recipe]
        ['FlowMatching', 'MaximumLikelihood']
    """

    objective: Annotated[Objective, advice("such as cnf.MaximumLikelihood()")] = MaximumLikelihood()
    share: Positive = 1.0
    solver: Solver | None = None
    divergence: Divergence | None = None
    learning_rate: Positive = 2e-3
    weight_decay: NonNegative = 1e-2
    clip: NonNegative = 5.0
    optimizer: Annotated[str, one_of(OPTIMIZERS)] = "adamw"
