"""The figure of `rnode_ablation`, and its row of the table."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from cnf.plotting import BLUE, GREY, VERMILION, style_axes
from experiments.paper import Paper, number, numbers

NAMES = {"none": "no penalty", "K": "kinetic", "J": "Jacobian", "both": "both"}


COLOURS = {"none": VERMILION, "K": "#009e73", "J": BLUE, "both": GREY}


QUANTITIES = {"frobenius": r"squared Jacobian norm $\int\|\partial f/\partial x\|_F^2\,dt$",
              "kinetic": r"kinetic energy $\int\|f\|^2\,dt$", "evaluations": "evaluations at $10^{-5}$"}  # fmt: skip


def figure(results: dict[str, Any]) -> Figure:
    seed = results["seeds"][0]
    picture = Figure(figsize=(7.2, 5.2), layout="constrained")
    grid = picture.subplots(2, 2)
    for name, checks in seed["runs"].items():
        values = {key: [row[key] for row in checks] for key in ("step", *QUANTITIES)}
        for axes, key in zip(grid.flat, QUANTITIES, strict=False):
            label = f"{NAMES[name]}: NLL {checks[-1]['nll']:.3f}"
            axes.plot(values["step"], values[key], color=COLOURS[name], lw=1.4, label=label)
        grid[1, 1].scatter(values["frobenius"], values["evaluations"], s=9, color=COLOURS[name], lw=0)
    for axes, label in zip(grid.flat, QUANTITIES.values(), strict=False):
        axes.set(xlabel="step", ylim=(0, None))
        axes.set_title(label, fontsize=9)
    grid[1, 1].set(xlabel="squared Jacobian norm", ylim=(0, None), xlim=(0, None))
    grid[1, 1].set_title(f"evaluations against it, all runs: correlation {seed['correlation']:.2f}", fontsize=9)
    grid[0, 0].legend(frameon=False, fontsize=8)
    style_axes(*grid.flat)
    return picture


PAPER = Paper(
    "Finlay et al. 2020, RNODE", "figures 3 and 4",
    "Each penalty also lowers the other's quantity, and evaluations follow the Jacobian's norm; without penalties "
    "training on a fixed grid diverges.",
    "not reproduced",
    "Only at ten times the paper's λ do the penalties show, one seed, the correlation is of all four runs together and "
    "not within one, and the unpenalised run does not diverge.",
    read="the paper", arxiv="2002.02798",
)  # fmt: skip


def ours(results: dict[str, Any]) -> str:
    """The quantities at the end of the four runs."""
    digits = {"frobenius": 2, "kinetic": 3, "evaluations": 0, "nll": 3}
    words = {"frobenius": "squared Jacobian norm", "kinetic": "kinetic energy", "nll": "NLL"}
    texts = [
        f"{words.get(key, key)} {numbers(results, [f'{key}, {name}' for name in NAMES], places)}"
        for key, places in digits.items()
    ]
    return (
        f"λ = {results['config']['kinetic']}, {' / '.join(NAMES)}: {', '.join(texts)} (entropy "
        f"{number(results, 'entropy')}); correlation {number(results, 'correlation', 2)}"
    )
