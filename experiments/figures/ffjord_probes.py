"""The figure of `ffjord_probes`, and its row of the table."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from cnf.plotting import BLUE, GREY, INK, VERMILION, style_axes
from experiments.paper import Paper, number

COLOURS = {"gaussian": VERMILION, "rademacher": BLUE, "orthogonal": INK, "Hutch++": GREY, "exact": "black"}


def figure(results: dict[str, Any]) -> Figure:
    config, [seed, *_] = results["config"], results["seeds"]
    picture = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = picture.subplots(1, 2)
    for name, losses in seed["curves"].items():
        steps = [config["steps"] / len(losses) * (i + 1) for i in range(len(losses))]
        left.plot(steps, losses, lw=1.2, **style(name))
    for name, values in seed["noise"].items():
        right.plot(config["dims"], values, marker="o", ms=3.5, lw=1.2, **style(name))
    left.set_title(f"(a) training with one product, $D = {config['dim']}$", fontsize=10)
    left.set(xlabel="step", ylabel="NLL − entropy of the data, nats")
    right.set_title("(b) noise of the estimate, three products", fontsize=10)
    right.set(xlabel="$D$", ylabel="standard deviation of $\\log p(x)$, nats", xscale="log", yscale="log")
    right.set_xticks(config["dims"], [str(dim) for dim in config["dims"]])
    right.set(ylim=(0.2, 3))
    right.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
    right.minorticks_off()
    style_axes(left, right)
    left.legend(frameon=False, fontsize=7)
    right.legend(frameon=False, fontsize=7, ncols=2, loc="lower left", handlelength=3)
    return picture


def style(name: str) -> dict[str, Any]:
    return {"color": COLOURS[name.split(",")[0]], "ls": "--" if "bottleneck" in name else "-", "label": name}


PAPER = (
    Paper(
        "Grathwohl et al. 2019, FFJORD", "figure 4",
        "With Gaussian noise the bottleneck lowers the training loss, with Rademacher noise it does not.",
        "not reproduced",
        "240 steps end far above the entropy, and the gaps between curves of one seed are small: nothing follows from "
        "(a).",
        read="the paper", arxiv="1810.01367",
    ),
    Paper(
        "", "", "How noisy is log p(x) by each estimate, at the cost of three products with the Jacobian?", "measured",
        "One seed of fields that were trained briefly. The bottleneck raises the noise of Gaussian probes at every D.",
    ),
)  # fmt: skip


def ours(results: dict[str, Any]) -> tuple[str, str]:
    """What training leaves above the entropy, and the noise at every dimension."""
    seed = results["seeds"][0]
    left = ", ".join(f"{name} {number(results, f'NLL above the entropy, {name}', 2)}" for name in seed["curves"])
    noise = "; ".join(f"{name} {' / '.join(f'{value:.2f}' for value in row)}" for name, row in seed["noise"].items())
    dims = " / ".join(map(str, results["config"]["dims"]))
    return f"nats above the entropy: {left}", f"standard deviation in nats at D = {dims}: {noise}"
