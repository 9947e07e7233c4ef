"""Models compared place by place: means over seeds, ranks, and how far each is behind the best of the others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnf.metrics import mean_and_error


def comparison(values: Tensor, models: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """From `(seeds, models)`: means and ranks, and how far each model is behind the best of the others, by pairs."""
    means, rows = values.mean(0), {}
    for place, model in enumerate(models):
        best = means.index_fill(0, torch.tensor(place), math.inf).argmin()
        score, behind = mean_and_error(values[:, place]), mean_and_error(values[:, place] - values[:, best])
        rows[model] = {
            "score": score.mean, "error": score.standard_error, "behind": behind.mean,
            "behind_error": behind.standard_error, "rank": 1.0 + int((means < means[place]).sum()),
        }  # fmt: skip
    return rows


def markdown(compared: dict[str, Any]) -> str:
    """The table; bold is where the default is more than a standard error behind the best of the others."""
    models = list(next(iter(compared.values()), {}))
    lines = [["", *models, "cnf − best other"], ["---"] * (len(models) + 2)]
    for place, rows in compared.items():
        first = rows[models[0]]
        behind = f"{first['behind']:.3f} ± {first['behind_error']:.3f}"
        lost = first["behind"] > np.nan_to_num(first["behind_error"])
        cells = [f"{row['score']:.3f} ± {row['error']:.3f}" for row in rows.values()]
        lines.append([place, *cells, f"**{behind}**" if lost else behind])
    ranks = {model: np.mean([rows[model]["rank"] for rows in compared.values()]) for model in models}
    lines.append(["mean rank", *(f"{rank:.2f}" for rank in ranks.values()), ""])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
