"""What a named model consists of."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from cnf.arguments import checked
from cnf.flows import Flow
from cnf.models.recipes import by_likelihood
from cnf.objectives.phases import Phase


@checked
@dataclass(frozen=True)
class Model:
    """A model by name: how it is built, how it is trained, and where it was published.

    To use a model of your own by name, add it to the dict: `cnf.MODELS["mine"] = cnf.Model(builder)`. Then `cnf.build`,
    `cnf.save`, `cnf.load` and the command line know it.

    Args:
        build: The builder, `(event_shape, context_dim, **options) -> Flow`; options are keyword-only. The first line of
            its docstring describes the model.
        recipe: Phases of training for a flow that was built; one phase of maximum likelihood by default.
        reference: Authors, year and arXiv number.

    Example:
        >>> import cnf
        >>> model = cnf.MODELS["planar_cnf"]
        >>> model.reference
        'Chen et al. 2018, arXiv 1806.07366'
        >>> model.recipe(cnf.build("planar_cnf", 2))[0].learning_rate
        0.001
    """

    build: Callable[..., Flow]
    recipe: Callable[[Flow], tuple[Phase, ...]] = by_likelihood
    reference: str = ""

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """What the builder takes after the event shape and the length of the context, by name."""
        parameters = inspect.signature(self.build).parameters
        return {name: value for name, value in parameters.items() if name not in ("event_shape", "context_dim")}

    @property
    def summary(self) -> str:
        """The first line of the builder's docstring."""
        return (inspect.getdoc(self.build) or "").partition("\n")[0]
