"""Flows in Pyro, the library of probabilistic programs: as distributions, as transforms and as guides.

It needs Pyro, `pip install "cnf[pyro]"`, which is imported when these functions are called. As a distribution a flow
needs nothing from here: `pyro.sample("x", flow.distribution())`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cnf.flows import Flow
from cnf.interop.guests import guest
from cnf.models import build

if TYPE_CHECKING:
    from pyro.infer.autoguide import AutoNormalizingFlow

    from cnf.interop.flow_transform import FlowTransform

__all__ = ["guide", "transform"]


def transform(flow: Flow, context: Tensor | None = None) -> FlowTransform:
    """A flow's map from base to data as a `TransformModule` of Pyro, whose weights Pyro trains.

    Args:
        flow: Its base is not used: Pyro's `TransformedDistribution` has its own.
        context: One condition `(C,)` of the flow.

    Raises:
        ImportError: Pyro is not installed.

    Example:
        >>> import torch, cnf
        >>> from cnf.interop.pyro import transform
        >>> part = transform(cnf.build("realnvp", 2, hidden=8))  # doctest: +SKIP
        >>> base = torch.distributions.Normal(torch.zeros(2), 1.0)  # doctest: +SKIP
        >>> torch.distributions.TransformedDistribution(base, part).sample((5,)).shape  # doctest: +SKIP
        torch.Size([5, 2])
    """
    guest("pyro", "pyro", "cnf.interop.pyro.transform")
    from cnf.interop.flow_transform import FlowTransform

    return FlowTransform(flow, context)


def guide(model: Callable[..., Any], name: str = "cnf", **options: Any) -> AutoNormalizingFlow:
    """A guide for all latent variables of a Pyro model together, by a flow of this package.

    It is Pyro's `AutoNormalizingFlow`; train it with `SVI(model, guide, Adam(…), Trace_ELBO())`. A continuous flow is
    solved at its own tolerance in training too: `solver=cnf.RungeKutta(rtol=1e-2, atol=1e-2)` is faster.

    Args:
        model: The probabilistic program.
        name: Name of the flow, a key of `cnf.MODELS`.
        options: Of the flow.

    Raises:
        ImportError: Pyro is not installed.

    Example:
        >>> import pyro, pyro.distributions as dist  # doctest: +SKIP
        >>> def model():
        ...     pyro.sample("x", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        >>> from cnf.interop.pyro import guide
        >>> guide(model, "iaf", hidden=8)()["x"].shape  # doctest: +SKIP
        torch.Size([2])
    """
    guest("pyro", "pyro", "cnf.interop.pyro.guide")
    from pyro.infer.autoguide import AutoNormalizingFlow

    return AutoNormalizingFlow(model, lambda dim: transform(build(name, dim, **options)))
