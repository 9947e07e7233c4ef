"""A small runner for experiments: one frozen `Config`, `compute(config)`, `figure(results)` and `PAPER` a script.

    python -m experiments.NAME [--steps 300 …] [--seeds 3] [--smoke] [--figure-only] [--out PART.json]
    python -m experiments.NAME --join PART.json PART.json

writes `experiments/results/NAME.json` (settings, numbers of each seed, mean and standard error, seconds, and the
source, versions and processor they were computed with) and beside it `NAME.png`, for some `NAME.gif`. `--help` lists
the settings of an experiment; `--smoke` makes it a test of seconds, in a temporary folder. Parts of a run, of other
seeds or other cells, are written with `--out` and become one with `--join`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
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
from experiments.paper import Paper, paired
from experiments.provenance import provenance

RESULTS = Path(__file__).parent / "results"
NUMBERS = re.compile(r"\[[^\[\]{}\"]*\]")  # a list of nothing but numbers


def run(
    name: str,
    config: Any,
    compute: Callable[[Any], dict[str, Any]],
    figure: Callable[[dict[str, Any]], Figure],
    smoke: Mapping[str, Any],
    animation: Callable[[dict[str, Any]], Animation] | None = None,
    paper: Paper | tuple[Paper, ...] = (),
    ours: Callable[[dict[str, Any]], str | tuple[str, ...]] | None = None,
    seeds: int = 1,
) -> None:
    """Run an experiment from the command line.

    Args:
        name: Of the files it writes.
        config: A frozen dataclass with a `seed`; its values reproduce the figure.
        compute: From a config to plain numbers; `gif`, if it is among them, are the bytes of a GIF that is written
            beside the picture, and `pictures` are what only the figure needs, kept of the first seed;
            `processor_seconds` are told by one whose work earlier processes may have done.
        figure: From the written results (`config`, `seeds`: the numbers of each seed, `summary`) to a picture.
        smoke: Values that make the experiment a test of seconds.
        animation: From the written results to a GIF, written beside the picture.
        paper: What it is compared with; one for each claim.
        ours: From the written results to the numbers of the table, one text for each claim.
        seeds: How many, where none are asked for.
    """
    config, options = _arguments(config, smoke, seeds)
    folder = Path(tempfile.mkdtemp()) if options.smoke else RESULTS
    path = Path(options.out) if options.out else folder / f"{name}.json"
    if options.join:
        write_results(path, joined([json.loads(Path(part).read_text()) for part in options.join]))
    elif not options.figure_only:
        write_results(path, _results(config, compute, options.seeds))
    results = json.loads(path.read_text())
    written = [path, save_figure(figure(results), path.with_suffix(".png"))]
    if animation is not None:
        written.append(_save_animation(animation(results), path.with_suffix(".gif")))
    print("wrote", *written)
    if ours is not None:
        print(*(f"{claim}\n  here: {text}" for claim, text in paired(paper, ours(results))), sep="\n")


@dataclass(frozen=True)
class Options:
    """How to run an experiment.

    Args:
        seeds: Number of seeds, from that of the settings upwards.
        smoke: Make it a test of seconds, in a temporary folder.
        figure_only: Draw the figure again from the results that are there.
        out: Another file than that of the table, for a part of a run.
        join: Parts that become one.
    """

    seeds: int = 1
    smoke: bool = False
    figure_only: bool = False
    out: str = ""
    join: tuple[str, ...] = ()


def _arguments(config: Any, smoke: Mapping[str, Any], seeds: int) -> tuple[Any, Options]:
    """The settings and options of the command line; with `--smoke`, those of `smoke` where no others are given."""
    short = "--smoke" in sys.argv
    start, options = (dataclasses.replace(config, **smoke), Options()) if short else (config, Options(seeds))
    command = dataclasses.make_dataclass("Command", [("settings", type(config), start), ("run", Options, options)])
    given = tyro.cli(command, config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff))
    return given.settings, given.run


def write_results(path: Path, results: dict[str, Any]) -> None:
    """A JSON whose lists of numbers take a line each, and beside it the GIF if there is one; pictures of one seed."""
    gif = [each.pop("gif", None) for each in results["seeds"]][0]
    for later in results["seeds"][1:]:
        later.pop("pictures", None)
    if gif is not None:
        write_bytes(path.with_suffix(".gif"), gif)
    write_json(path, results)
    write_bytes(path, NUMBERS.sub(lambda numbers: " ".join(numbers[0].split()), path.read_text()).encode())


def _save_animation(animation: Animation, path: Path) -> Path:
    """Write a GIF, whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        animation.save(draft, writer="pillow")
        write_bytes(path, draft.read_bytes())
    return path


def _results(config: Any, compute: Callable[[Any], dict[str, Any]], seeds: int) -> dict[str, Any]:
    facts = provenance()  # now, for files may change while this runs
    begun, used, runs = time.perf_counter(), time.process_time(), []
    for seed in range(config.seed, config.seed + seeds):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - for libraries that know no other
        runs.append(compute(dataclasses.replace(config, seed=seed)))
    told = [run.pop("processor_seconds", None) for run in runs]
    return {
        "config": dataclasses.asdict(config),
        "seeds": runs,
        "summary": _summary(runs),
        "seconds": time.perf_counter() - begun,
        "processor_seconds": time.process_time() - used if None in told else sum(told),
        "threads": torch.get_num_threads(),
        **facts,
    }


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """One run of the seeds of its parts; each keeps what it was computed by.

    Raises:
        ValueError: Parts of other settings.
    """
    settings = [{**part["config"], "seed": None} for part in parts]
    if any(each != settings[0] for each in settings):
        raise ValueError("parts of one run have the same settings but for the seed, these have others")
    runs = [run for part in parts for run in part["seeds"]]
    facts = [{key: value for key, value in part.items() if key not in ("seeds", "summary")} for part in parts]
    return {
        "config": {**parts[0]["config"], "seed": min(part["config"]["seed"] for part in parts)},
        "seeds": runs,
        "summary": _summary(runs),
        "seconds": sum(part["seconds"] for part in parts),
        "parts": facts,
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
