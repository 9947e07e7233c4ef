"""How unusual rows are, by their ranks among rows that were not trained on."""

from __future__ import annotations

import numpy as np


def conformal(scores: np.ndarray, held: np.ndarray) -> np.ndarray:
    """`(1 + #{held ≤ score}) / (n + 1)` for each score, small where a score is lower than the held ones.

    Example:
        >>> import numpy as np
        >>> conformal(np.array([-9.0, 0.0, 9.0]), np.array([-1.0, 0.0, 1.0])).tolist()
        [0.25, 0.75, 1.0]
    """
    return (1 + np.searchsorted(np.sort(held), scores, side="right")) / (len(held) + 1)


def two_sided(scores: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The same for minus the distance from the mean of the held scores."""
    finite = held[np.isfinite(held)]
    centre = finite.mean() if len(finite) else 0.0
    return conformal(-np.abs(scores - centre), -np.abs(held - centre))
