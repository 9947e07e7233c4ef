"""All experiments, one process each, as many at a time as there are jobs."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from experiments.provenance import code_of
from experiments.run import RESULTS
from experiments.table import HERE

SMOKE_SECONDS = 120  # after which a test of seconds is taken to hang
PEER = re.compile(r"No module named '(zuko)'")  # a script of comparisons with one that is not there is left out


@dataclass(frozen=True)
class Outcome:
    name: str
    seconds: float
    code: int
    output: str


def every() -> list[str]:
    """All scripts, also those without a paper."""
    runs = re.compile(r'^if __name__ == "__main__":\n    run\(', re.MULTILINE)
    return [path.stem for path in sorted(HERE.glob("*.py")) if runs.search(path.read_text())]


def run_all(names: tuple[str, ...] = (), *, smoke: bool = False, jobs: int = 1) -> None:
    """Run every script (or those named) whose results are not those of its code; all of them as a test of seconds."""
    chosen = [name for name in names or every() if smoke or not done(name)]
    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(pool.map(lambda name: one(name, smoke=smoke), chosen))
    failed = [outcome for outcome in outcomes if outcome.code]
    for outcome in failed:
        print(f"\n{outcome.name} failed:\n{outcome.output}", file=sys.stderr)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{len(outcomes)} scripts, {len(failed)} failed, {used.ru_utime + used.ru_stime:.0f} s of processor")
    sys.exit(bool(failed))


def one(name: str, *, smoke: bool) -> Outcome:
    """Run one, and print what it took."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", f"experiments.{name}", *(["--smoke"] if smoke else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SMOKE_SECONDS if smoke else None)
        code, output = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        code, output = 1, f"not finished after {SMOKE_SECONDS} s"
    missing = PEER.search(output) if code else None
    outcome = Outcome(name, time.perf_counter() - begun, 0 if missing else code, output[-3000:])
    state = f"left out, {missing[1]} is not installed" if missing else "failed" if code else "done"
    print(f"{name:28} {outcome.seconds:7.1f} s  {state}", flush=True)
    return outcome


def done(name: str) -> bool:
    """Whether the results are those of the script as it is."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return False
    results = json.loads(path.read_text())
    current = code_of((HERE / f"{name}.py").read_text())
    return all(part.get("code_sha256") == current for part in results.get("parts", [results]))
