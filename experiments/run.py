"""A small runner for experiments: one frozen `Config`, `compute(config)` and `figure(results)` a script.

    python -m experiments.NAME [--steps 300 …] [--seeds 3] [--smoke] [--figure-only]

writes `experiments/results/NAME.json` (settings, numbers of each seed, mean and standard error, seconds, and the
source, versions and processor they were computed with) and beside it `NAME.png`, for some `NAME.gif`. `--help` lists
the settings of an experiment; `--smoke` makes it a test of seconds, in a temporary folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.animation import Animation
from matplotlib.figure import Figure

from cnf.files import write_bytes, write_json
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
    config, options = _arguments(config, smoke)
    folder = Path(tempfile.mkdtemp()) if options.smoke else RESULTS
    path = folder / f"{name}.json"
    if not options.figure_only:
        results = _results(config, compute, options.seeds)
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


@dataclass(frozen=True)
class Options:
    """How to run an experiment.

    Args:
        seeds: Number of seeds, from that of the settings upwards.
        smoke: Make it a test of seconds, in a temporary folder.
        figure_only: Draw the figure again from the results that are there.
    """

    seeds: int = 1
    smoke: bool = False
    figure_only: bool = False


def _arguments(config: Any, smoke: Mapping[str, Any]) -> tuple[Any, Options]:
    """The settings and options of the command line; with `--smoke`, those of `smoke` where no others are given."""
    start = dataclasses.replace(config, **smoke) if "--smoke" in sys.argv else config
    command = dataclasses.make_dataclass("Command", [("settings", type(config), start), ("run", Options, Options())])
    given = tyro.cli(command, config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff))
    return given.settings, given.run


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
        **_provenance(),
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


def _provenance() -> dict[str, Any]:
    """What the results were computed by: the script, the state of the source and the processor."""
    script = Path(sys.argv[0])
    return {
        "commit": _git("rev-parse", "--short", "HEAD") or "unknown",
        "uncommitted": _git("status", "--porcelain", "--", "cnf", "experiments/*.py").splitlines(),
        "script_sha256": hashlib.sha256(script.read_bytes()).hexdigest() if script.is_file() else "unknown",
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
