"""A small runner for experiments: one frozen `Config`, `compute(config)` and `figure(results)` a script.

    python -m experiments.NAME [key=value …] [--seeds 3] [--smoke] [--figure-only]

writes `experiments/results/NAME.json` (configuration, numbers of each seed, mean and standard error, commit, versions,
seconds) and beside it `NAME.png`, for some `NAME.gif`. `--smoke` makes it a test of seconds, in a temporary folder.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import math
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.animation import Animation
from matplotlib.figure import Figure

from cnf.checkpoints import write_bytes, write_json
from cnf.plotting import save_figure

RESULTS = Path(__file__).parent / "results"
NUMBERS = re.compile(r"\[[^\[\]{}\"]*\]")  # a list of nothing but numbers


def run(
    name: str,
    config: Any,
    compute: Callable[[Any], dict[str, Any]],
    figure: Callable[[dict[str, Any]], Figure],
    smoke: Mapping[str, Any],
    animation: Callable[[dict[str, Any]], Animation] | None = None,
) -> None:
    """Run an experiment from the command line.

    Args:
        name: Of the files it writes.
        config: A frozen dataclass with a `seed`; its values reproduce the figure.
        compute: From a config to plain numbers; `gif`, if it is among them, are the bytes of a GIF that is written
            beside the picture.
        figure: From the written results (`config`, `seeds`: the numbers of each seed, `summary`) to a picture.
        smoke: Values that make the experiment a test of seconds.
        animation: From the written results to a GIF, written beside the picture.
    """
    arguments = _arguments(config)
    folder = Path(tempfile.mkdtemp()) if arguments.smoke else RESULTS
    path = folder / f"{name}.json"
    if not arguments.figure_only:
        changed = dataclasses.replace(config, **{**(smoke if arguments.smoke else {}), **arguments.changes})
        results = _results(changed, compute, arguments.seeds)
        gif = [each.pop("gif", None) for each in results["seeds"]][0]
        if gif is not None:
            write_bytes(path.with_suffix(".gif"), gif)
        write_json(path, results)
        write_bytes(path, NUMBERS.sub(lambda numbers: " ".join(numbers[0].split()), path.read_text()).encode())
    results = json.loads(path.read_text())
    written = [path, save_figure(figure(results), folder / f"{name}.png")]
    if animation is not None:
        written.append(_save_animation(animation(results), folder / f"{name}.gif"))
    print("wrote", *written)


def _arguments(config: Any) -> argparse.Namespace:
    known = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    parser = argparse.ArgumentParser(description="; ".join(f"{key}={value}" for key, value in known.items()))
    parser.add_argument("changes", nargs="*", metavar="key=value")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--figure-only", action="store_true")
    arguments = parser.parse_args()
    changes = {}
    for pair in arguments.changes:
        key, _, text = pair.partition("=")
        if key not in known:
            parser.error(f"unknown setting {key!r}: known ones are {', '.join(known)}")
        changes[key] = text if isinstance(known[key], str) else ast.literal_eval(text)
    arguments.changes = changes
    return arguments


def _save_animation(animation: Animation, path: Path) -> Path:
    """Write a GIF, whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        animation.save(draft, writer="pillow")
        write_bytes(path, draft.read_bytes())
    return path


def _results(config: Any, compute: Callable[[Any], dict[str, Any]], seeds: int) -> dict[str, Any]:
    begun, runs = time.perf_counter(), []
    for seed in range(config.seed, config.seed + seeds):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - for libraries that know no other
        runs.append(compute(dataclasses.replace(config, seed=seed)))
    return {
        "config": dataclasses.asdict(config),
        "seeds": runs,
        "summary": _summary(runs),
        "seconds": time.perf_counter() - begun,
        "commit": _commit(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "threads": torch.get_num_threads(),
    }


def _summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard error of every number at the top level of the first seed, over the seeds that have it."""
    summary = {}
    for key, value in runs[0].items():
        if isinstance(value, (int, float)):
            values = np.array([run[key] for run in runs if key in run], dtype=float)
            error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
            summary[key] = {"mean": float(values.mean()), "standard_error": float(error)}
    return summary


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
