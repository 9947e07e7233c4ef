"""Flows as estimators of scikit-learn: `from cnf.interop.sklearn import FlowDensity`.

It needs scikit-learn, `pip install "cnf[sklearn]"`, which is imported when `FlowDensity` is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnf.interop.guests import guest

if TYPE_CHECKING:
    from cnf.interop.flow_density import FlowDensity

__all__ = ["FlowDensity"]


def __getattr__(name: str) -> Any:
    if name == "FlowDensity":
        guest("sklearn", "sklearn", "cnf.interop.sklearn.FlowDensity")
        from cnf.interop.flow_density import FlowDensity

        return FlowDensity
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
