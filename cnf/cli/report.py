"""The test results of a trained model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cnf.cli.options import REMEDY
from cnf.continuous.cnf import CNF
from cnf.continuous.solvers import count_evaluations
from cnf.continuous.twins import cnfs_of
from cnf.data.sources import Source
from cnf.discrete import Augment, Dequantize, Residual
from cnf.errors import SampleError
from cnf.flows import Flow
from cnf.metrics import bits_per_dim, log_prob_of_rows, mean_and_error

if TYPE_CHECKING:
    from cnf.training import FitResult


PIECE = 65_536  # rows read together


def measure(flow: Flow, source: Source, result: FitResult, progress: bool) -> dict[str, Any]:
    """The content of `metrics.json`; likelihoods of the test rows in the units of the data."""
    with count_evaluations() as count:
        log_prob = log_prob_of_rows(flow, source.test, progress=progress)
    known = ~log_prob.isnan()  # a warning names the rows without a density
    if not known.any():
        raise SampleError("no test row has a log-density", advice=REMEDY)
    nll = mean_and_error(-log_prob[known])
    numbers: dict[str, Any] = {
        "test_nll": nll.mean,
        "test_nll_standard_error": nll.standard_error,
        "unit": "nats a row, in the units of the data" if source.levels is None else "nats an image, of probabilities",
        "likelihood": likelihood(flow),
        "trace": "exact" if all(cnf.exact for cnf in cnfs_of(flow)) else "estimated",
        "evaluations_a_solve": count.evaluations / max(count.solves, 1),
        "training_seconds": result.seconds,
        "steps": result.steps,
        "stopped": result.stopped,
        "best_step": result.best_step,
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
        "rows": {part: len(getattr(source, part)) for part in ("train", "validation", "test")},
    }
    if not known.all():
        numbers["test_rows_without_density"] = int((~known).sum())
    if source.levels is None:
        numbers["test_nll_standardized"] = nll.mean - _log_scale(source)
    else:
        bits = mean_and_error(bits_per_dim(log_prob[known], flow.event_shape.numel(), levels=None))
        numbers |= {"bits_per_dim": bits.mean, "bits_per_dim_standard_error": bits.standard_error}
        numbers["bits_per_dim_of_uniform_noise"] = math.log2(source.levels)
    if source.toy is not None and source.toy.entropy is not None:
        gap = mean_and_error((source.toy.log_prob(_all(source.test).double()) - log_prob.double())[known])
        numbers |= {"entropy": source.toy.entropy, "kl": gap.mean, "kl_standard_error": gap.standard_error}
    return numbers


def likelihood(flow: Flow) -> str:
    """Whether the likelihoods are exact, a lower bound or estimates."""
    if flow.exact:
        return "exact"
    bound = any(isinstance(part, (Augment, Dequantize)) for part in flow.modules())
    estimated = any(not part.exact for part in flow.modules() if isinstance(part, (CNF, Residual)))
    return ("an estimated lower bound" if estimated else "a lower bound") if bound else "estimated"


def summary(numbers: dict[str, Any], out: Path) -> str:
    """The numbers as `cnf fit` prints them."""
    solves = numbers["evaluations_a_solve"]
    standardized = numbers.get("test_nll_standardized")
    lines = [
        f"test NLL {numbers['test_nll']:.4f} ± {numbers['test_nll_standard_error']:.4f} nats "
        f"({'' if standardized is None else f'{standardized:.4f} in standardised units; '}{numbers['likelihood']}"
        f"{f', {solves:.0f} evaluations a solve' if solves else ''})",
    ]
    if "kl" in numbers:
        lines.append(
            f"KL(data ‖ model) {numbers['kl']:.4f} ± {numbers['kl_standard_error']:.4f} nats above the entropy"
        )
    if "bits_per_dim" in numbers:
        lines.append(_bits(**{key: value for key, value in numbers.items() if key.startswith("bits_per_dim")}))
    early = ", ended early by --patience: validation did not improve" if numbers["stopped"] == "patience" else ""
    lines.append(f"{numbers['training_seconds']:.0f} s of training{early}; everything is in {out}/")
    return "\n".join(lines)


def _bits(bits_per_dim: float, bits_per_dim_standard_error: float, bits_per_dim_of_uniform_noise: float) -> str:
    """Bits per dimension, with a remark if uniform noise would do as well."""
    text = f"{bits_per_dim:.3f} ± {bits_per_dim_standard_error:.3f} bits/dim"
    if bits_per_dim < bits_per_dim_of_uniform_noise:
        return text
    return (
        f"{text}, no better than uniform noise ({bits_per_dim_of_uniform_noise:.3f}): the model has learned nothing "
        "that helps on test rows; give it more seconds or a smaller --learning-rate, or take another --model"
    )


def _log_scale(source: Source) -> float:
    """`Σ log σ` of the training rows: the difference between the NLL in the data's units and in standardised ones."""
    rows = source.train
    origin = rows.read([0])[0].double().flatten(1)  # near the mean, so that little cancels
    total = squares = torch.zeros_like(origin[0])
    for numbers in torch.arange(len(rows)).split(PIECE):
        x = rows.read(numbers.tolist())[0].double().flatten(1) - origin
        total, squares = total + x.sum(0), squares + x.square().sum(0)
    variance = (squares - total.square() / len(rows)) / (len(rows) - 1)
    return 0.5 * variance.log().sum().item()


def _all(rows: Any) -> Tensor:
    x: Tensor = rows.read(range(len(rows)))[0]
    return x
