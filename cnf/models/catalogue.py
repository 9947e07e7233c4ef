"""Models by name: the builders of published flows and of the default, with their recipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnf.arguments import Shape, SizeOrZero, checked
from cnf.discrete import Dequantize
from cnf.distributions import as_event_shape
from cnf.flows import Flow
from cnf.models import (
    autoregressive,
    continuous,
    couplings,
    free_form,
    gaussianization,
    layers,
    manifolds,
    published,
    recipes,
    tables,
)
from cnf.models.model import Model
from cnf.transforms import Compose


@checked
def build(name: str, event_shape: Shape, context_dim: SizeOrZero = 0, **options: Any) -> Flow:
    """Build a model by name, with the recipe it is trained by as `flow.recipe`.

    Every model standardises its context, and its data unless they are angles or directions: `flow.initialize(x,
    context)`, or `cnf.fit`, sets the constants. Events `(C, H, W)` are images with values in [0, 1], which pass a logit
    first; for other values give `preprocess="standardize"`. With `levels=256`, the data are whole numbers from 0 to
    255, for every model: they are dequantised, `log_prob` bounds the log-probability from below, and samples are whole
    numbers.

    Args:
        name: A key of `MODELS`.
        event_shape: Shape of one sample; an int is a vector of that length.
        context_dim: Length of the context; 0 for an unconditional flow.
        options: What the builder takes, see its docstring: `help(cnf.MODELS[name].build)`.

    Raises:
        ValueError: An unknown model or option; the message lists the known ones.

    Example:
        >>> flow = build("ffjord", 2, hidden=(64, 64, 64))
        >>> flow.event_shape
        torch.Size([2])
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: known ones are {', '.join(MODELS)}")
    model, shape = MODELS[name], as_event_shape(event_shape)
    unknown = [option for option in options if option not in (*model.options, "levels")]
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}: its options are {', '.join(model.options)}")
    flow = _built(model, shape, context_dim, options)
    flow.spec = {"name": name, "event_shape": tuple(shape), "context_dim": context_dim, "options": options}
    flow.recipe = model.recipe(flow)
    return flow


def _built(model: Model, shape: Sequence[int], context_dim: int, options: dict[str, Any]) -> Flow:
    """The flow; where the builder does not know of levels, with dequantisation before everything else."""
    flow = model.build(shape, context_dim, **{key: options[key] for key in options if key in model.options})
    levels = None if "levels" in model.options else options.get("levels")
    return flow if levels is None else Flow(Compose([Dequantize(levels), flow.transform]), flow.base)


MODELS: dict[str, Model] = {
    "cnf": Model(continuous.cnf, recipes.default, "Chen et al. 2018, arXiv 1806.07366; the default of this package"),
    "ffjord": Model(published.ffjord, recipes.ffjord, "Grathwohl et al. 2019, arXiv 1810.01367"),
    "rnode": Model(published.rnode, recipes.rnode, "Finlay et al. 2020, arXiv 2002.02798"),
    "ot_flow": Model(published.ot_flow, recipes.ot_flow, "Onken et al. 2021, arXiv 2006.00104"),
    "planar_cnf": Model(published.planar_cnf, recipes.planar_cnf, "Chen et al. 2018, arXiv 1806.07366"),
    "augmented_cnf": Model(continuous.augmented_cnf, recipes.augmented, "Huang et al. 2020, arXiv 2002.07101"),
    "flow_matching": Model(continuous.flow_matching, recipes.flow_matching, "Lipman et al. 2023, arXiv 2210.02747"),
    "any_cnf": Model(tables.any_cnf, recipes.any_given, "Li, Akbar and Oliva 2020, arXiv 1909.06319"),
    "nice": Model(couplings.nice, reference="Dinh et al. 2014, arXiv 1410.8516"),
    "realnvp": Model(couplings.realnvp, reference="Dinh et al. 2017, arXiv 1605.08803"),
    "glow": Model(layers.glow, reference="Kingma and Dhariwal 2018, arXiv 1807.03039"),
    "maf": Model(autoregressive.maf, reference="Papamakarios et al. 2017, arXiv 1705.07057"),
    "iaf": Model(autoregressive.iaf, reference="Kingma et al. 2016, arXiv 1606.04934"),
    "nsf_coupling": Model(couplings.nsf_coupling, reference="Durkan et al. 2019, arXiv 1906.04032"),
    "nsf_autoregressive": Model(autoregressive.nsf_autoregressive, reference="Durkan et al. 2019, arXiv 1906.04032"),
    "torus_nsf": Model(manifolds.torus_nsf, reference="Rezende et al. 2020, arXiv 2002.02428"),
    "sphere_cnf": Model(manifolds.sphere_cnf, recipes.sphere_cnf, "Chen and Lipman 2024, arXiv 2302.03660"),
    "torus_cnf": Model(manifolds.torus_cnf, recipes.torus_cnf, "Chen and Lipman 2024, arXiv 2302.03660"),
    "residual": Model(layers.residual, reference="Chen et al. 2019, arXiv 1906.02735"),
    "planar": Model(layers.planar, reference="Rezende and Mohamed 2015, arXiv 1505.05770"),
    "radial": Model(layers.radial, reference="Rezende and Mohamed 2015, arXiv 1505.05770"),
    "gaussianization": Model(gaussianization.gaussianization, reference="Meng et al. 2020, arXiv 2003.01941"),
    "rbig": Model(gaussianization.rbig, reference="Laparra et al. 2011, arXiv 1602.00229"),
    "free_form": Model(free_form.free_form, recipes.free_form, "Draxler et al. 2024, arXiv 2310.16624"),
    "sphere_free_form": Model(free_form.sphere_free_form, recipes.free_form, "Sorrenson et al. 2023, arXiv 2312.09852"),
}
