"""What every test shares: one thread, a fixed seed, the folder of `instances.py`, and where the real data lie."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))  # test files of all folders share `instances`

torch.set_num_threads(1)  # results and times do not depend on who else computes


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test starts from the same noise, whatever ran before it."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets: the environment variable `CNF_DATA`, else `../shared/data`."""
    root = Path(os.environ.get("CNF_DATA", TESTS.parents[1] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"there are no data sets in {root}: set CNF_DATA to their folder")
    return root
