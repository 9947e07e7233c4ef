"""`python -m experiments table [--check]` and `python -m experiments all [--smoke] [--jobs 2] [NAME …]`."""

from __future__ import annotations

import tyro

from experiments import batch
from experiments import table as gallery


def table(check: bool = False) -> None:
    """Write README.md and all figures from scripts and results.

    Args:
        check: Write nothing, and fail where they do not agree.
    """
    gallery.check() if check else gallery.write()


def run_all(names: tyro.conf.Positional[tuple[str, ...]] = (), smoke: bool = False, jobs: int = 1) -> None:
    """Run the scripts whose results are not those of their present code.

    Args:
        names: Only these.
        smoke: Run all of them, as tests of seconds.
        jobs: Scripts that run at the same time.
    """
    batch.run_all(names, smoke=smoke, jobs=jobs)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"table": table, "all": run_all}, config=(tyro.conf.FlagCreatePairsOff,))
