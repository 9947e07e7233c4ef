"""The gallery of all experiments, written from the scripts and their results, and checked against them."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from cnf.files import write_bytes
from cnf.plotting import save_figure
from experiments.paper import Paper, paired
from experiments.pixels import differ
from experiments.provenance import code_of
from experiments.run import RESULTS

HERE = Path(__file__).parent
README = HERE / "README.md"
HEADINGS = {
    "reproduced": "The paper's claim or numbers, at its setting.",
    "in small": "The claim is seen at a smaller setting than the paper's.",
    "measured": "Figures of our own, on questions that no paper's figure answers.",
    "not reproduced": "The claim is not seen here. No other conclusion should be drawn from these figures.",
}
HEAD = """# Experiments

Written by `python -m experiments table` from the scripts and `results/*.json`; `python -m experiments table --check`
fails where scripts, results, pictures and this page do not agree. One script a figure or table:

```bash
python -m experiments.NAME [--steps 300 …] [--seeds 3] [--smoke] [--figure-only]
python -m experiments all [--smoke] [--jobs 2]
```

The first writes `results/NAME.json` and `results/NAME.png`; the second runs every script whose results are not those of
its present code, and can be stopped and started again. ± is the standard deviation over seeds; a number of one seed has
none. Where the paper's number or claim was read is said in brackets. Results of version 0.1 are of the default model of
that version; they were recorded before provenance was kept, so the source they were computed by is not known exactly.
"""


def scripts() -> list[str]:
    """Names of the scripts that compare themselves with a paper."""
    told = re.compile(r"^    run\(.*paper=PAPER", re.MULTILINE)
    return [path.stem for path in sorted(HERE.glob("*.py")) if told.search(path.read_text())]


def write() -> None:
    """Draw every figure anew, and write the page."""
    for name in finished():
        save_figure(module(name).figure(results_of(name)), RESULTS / f"{name}.png")
    write_bytes(README, page().encode())


def check() -> None:
    """End with an error where page or pictures are not those of scripts and results."""
    wrong = [f"results/{name}.png: {reason}" for name in finished() if (reason := redrawn(name))]
    if README.read_text() != page():
        wrong.append("README.md is not what the scripts and results say")
    if wrong:
        sys.exit("\n".join([*wrong, "`python -m experiments table` writes them again; look at what changed"]))
    print(f"{len(finished())} figures and the table agree with their results")


def redrawn(name: str) -> str:
    path = RESULTS / f"{name}.png"
    return differ(module(name).figure(results_of(name)), path) if path.is_file() else "is missing"


def finished() -> list[str]:
    """Scripts with results."""
    return [name for name in scripts() if (RESULTS / f"{name}.json").is_file()]


def module(name: str) -> ModuleType:
    return importlib.import_module(f"experiments.{name}")


def results_of(name: str) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return results


def page() -> str:
    """The page as it must be."""
    rows = [(paper.verdict, row(name, paper, ours)) for name in finished() for paper, ours in compared(name)]
    parts = [HEAD]
    for verdict, meaning in HEADINGS.items():
        chosen = [text for kind, text in rows if kind == verdict]
        head = ["| | figure | the paper | ours |", "|---|---|---|---|"]
        parts.append("\n".join([f"## {verdict.capitalize()}\n", f"{meaning}\n", *head, *chosen, ""]))
    missing = sorted(set(scripts()) - set(finished()))
    if missing:
        parts.append("Not run yet: " + ", ".join(f"`{name}`" for name in missing) + ".\n")
    return "\n".join(parts)


def compared(name: str) -> list[tuple[Paper, str]]:
    """What a script says of each claim, and the numbers of its results."""
    found = module(name)
    return paired(found.PAPER, found.ours(results_of(name)))


def row(name: str, paper: Paper, ours: str) -> str:
    found, results = module(name), results_of(name)
    title = (found.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    picture = f'[<img src="results/{name}.png" width="220" alt="{name}">](results/{name}.png)'
    work = f"[{paper.work}](https://arxiv.org/abs/{paper.arxiv})" if paper.arxiv else paper.work
    source = f"{work}, {paper.place}. " if work else ""
    figure = f"{title} {source}<br>`{name}`: {facts(results, found)}"
    read = f" [{paper.read}]" if paper.read else ""
    theirs = " ".join(filter(None, [paper.claim, paper.value])) + read
    cells = [picture, figure, theirs, f"{ours}<br>**{paper.verdict}**: {paper.because}"]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def facts(results: dict[str, Any], found: ModuleType) -> str:
    """Seeds, minutes and source of the results."""
    seeds = len(results["seeds"])
    used = results.get("processor_seconds", results["seconds"])
    minutes = max(1, round(used / 60))
    parts = [f"{seeds} seed{'s' if seeds > 1 else ''}", f"{minutes} min", *sources(results)]
    others = changed(results["config"], found.Config())
    return ", ".join(parts + ([f"settings of then: {others}"] if others else []) + stale(results, found))


def sources(results: dict[str, Any]) -> list[str]:
    parts = results.get("parts", [results])
    if any("code_sha256" not in part for part in parts):
        return ["version 0.1"]
    dirty = any(part["uncommitted"] for part in parts)
    commits = " and ".join(sorted({part["commit"] for part in parts}))
    return [f"version {parts[0]['version']} at {commits}{' with changes that were not committed' if dirty else ''}"]


def stale(results: dict[str, Any], found: ModuleType) -> list[str]:
    """Whether the script computes something else by now."""
    hashes = {part.get("code_sha256") for part in results.get("parts", [results])} - {None}
    current = code_of(Path(str(found.__file__)).read_text())
    return ["by earlier code of the script"] if hashes - {current} else []


def changed(recorded: dict[str, Any], config: Any) -> str:
    """Settings of the results that are not the defaults of the script, but for the seed and a place for files."""
    defaults = json.loads(json.dumps(dataclasses.asdict(config)))
    others = {
        key: value
        for key, value in recorded.items()
        if key not in ("seed", "folder") and defaults.get(key, ...) != value
    }
    return ", ".join(f"{key} {value}" for key, value in others.items())
