"""The state that training changes: weights, their running average, the best ones so far, and the optimizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cnf.checkpoints import check_state
from cnf.flows import Flow
from cnf.objectives.interface import Loss
from cnf.objectives.phases import Phase
from cnf.training.engine import Example, Minimand, tightened, with_settings
from cnf.training.optimizers import Optimizers
from cnf.training.record import Parts
from cnf.training.settings import FitConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Learner:
    """The flow in training, with everything that a step changes.

    Args:
        fabric: The engine.
        flow: The flow, trained in place.
        minimised: The objectives of the phases, each with the flow in its settings.
        phases: Each has optimizers of its own.
        config: Has the decay of the average.

    Attributes:
        best: State of the best averaged weights; empty until something was judged.
    """

    def __init__(
        self, fabric: Fabric, flow: Flow, minimised: Minimand, phases: Sequence[Phase], config: FitConfig
    ) -> None:
        self.fabric, self.flow, self.minimised, self.phases = fabric, flow, minimised, phases
        self.average = AveragedModel(flow, multi_avg_fn=_moving_average(config.ema), use_buffers=True)
        self.minimand = fabric.setup_module(minimised)
        self.best: dict[str, Tensor] = {}
        self._make_optimizers(0)

    @property
    def averaged(self) -> Flow:
        """The flow with its averaged weights, which are the ones that are judged."""
        return cast(Flow, self.average.module)

    def loss(self, example: Example, phase: int) -> Loss:
        """The loss of a phase for a batch; gradients of earlier batches are forgotten."""
        self.optimizers.zero_grad()
        loss: Loss = self.minimand(example, phase)
        return loss

    def step(self, rate: float) -> None:
        """Move the weights by their gradient, and update the average.

        Raises:
            FloatingPointError: The gradient or the moved weights are not finite.
        """
        self.optimizers.step(rate, self.clip)
        self.average.update_parameters(self.flow)

    def note_best(self) -> None:
        """Keep the averaged weights as the best so far."""
        self.best = {name: value.clone() for name, value in self.average.module.state_dict().items()}

    def keep_good(self) -> None:
        """Give the flow its best weights, or the averaged ones of the last good step if nothing judged."""
        self.flow.load_state_dict(self.best or self.average.module.state_dict())

    def step_back(self) -> None:
        """Go on from the best weights, with a fresh average; the optimizers keep what they know of the gradients."""
        self.keep_good()
        self.average.n_averaged.zero_()

    def tighten(self, phase: int, factor: float) -> None:
        """Solve within a part of the tolerance of a phase: a field may have learned to make the solver err."""
        settings = self.phases[phase]
        solver = tightened(settings.solver, factor)
        self.minimised.flows[phase] = with_settings(self.flow, solver, settings.divergence)

    def begin(self, phase: int) -> None:
        """Begin a phase: from the best weights, with fresh optimizers and a fresh average."""
        self.step_back()
        self._make_optimizers(phase)

    def _make_optimizers(self, phase: int) -> None:
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        settings = self.phases[phase]
        self.clip = settings.clip
        self.optimizers = Optimizers(self.minimised, settings.optimizer, settings.weight_decay, scaler)

    def parts(self) -> Parts:
        """The whole state as tensors by name; `take_up` reads them."""
        return {
            "flow": self.flow.state_dict(),
            "objectives": self.minimised.trained.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimizers": self.optimizers.state(),
            "scaling": self.optimizers.scaling(),
        }

    def take_up(self, parts: Parts, phase: int) -> None:
        """Go on from a state that `parts` gave, within a phase.

        Raises:
            LookupError: Parts are missing.
            ValueError: They are of another flow or another optimizer.
            TypeError: They are no tensors of the right kind.
            RuntimeError: They cannot be loaded.
        """
        self._make_optimizers(phase)
        best, state, trained = parts.get("best", {}), self.flow.state_dict(), self.minimised.trained
        average, objectives = parts.get("average", {}), parts.get("objectives", {})
        for expected, tensors in (
            (state, parts.get("flow", {})),
            (state, best or state),
            (self.average.state_dict(), average),
            (trained.state_dict(), objectives),
        ):
            check_state(expected, tensors)
        self.average.load_state_dict(average)
        trained.load_state_dict(objectives)
        self.optimizers.load_state(parts.get("optimizers", {}))
        self.optimizers.load_scaling(parts.get("scaling", {}))
        self.flow.load_state_dict(parts["flow"])
        self.best = best


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential average that is quick to forget the first steps; whole numbers (orders, counts) are copied."""

    def update(averaged: Any, current: Any, number: Any) -> None:
        if not averaged[0].is_floating_point():
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)
            return
        rise = (1 + number.item()) / (10 + number.item())
        get_ema_multi_avg_fn(min(decay, rise))(averaged, current, number)

    return update
