"""Helper processes: only under a real launch, and never in silence."""

from __future__ import annotations

import pytest

import cnf
from cnf.training.launch import MARK, TORCHRUN, Launch, find_launch

REAL = {
    "LOCAL_RANK": "1", "RANK": "3", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1",
}  # fmt: skip


@pytest.mark.parametrize("name", ["RANK", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"])
def test_a_variable_that_was_left_behind_makes_no_helper(name: str) -> None:
    assert find_launch(environment={name: "1"}) == Launch()


def test_torchrun_says_how_many_there_are() -> None:
    assert find_launch(environment=REAL) == Launch(devices=2, nodes=2, rank=3)
    for name in TORCHRUN:
        assert not find_launch(environment={key: value for key, value in REAL.items() if key != name}).helper


def test_processes_that_the_engine_started_are_helpers() -> None:
    inherited = {"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2", MARK: "1"}
    assert find_launch(2, environment=inherited) == Launch(2, 1, 1)
    assert find_launch(2, environment={}) == Launch(2, 1, 0)
    assert not find_launch(1, environment=inherited).helper  # a run of one process within a helper


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE must be a whole number of at least 1, got '0'"),
        ({"LOCAL_WORLD_SIZE": "x"}, "LOCAL_WORLD_SIZE must be a whole number"),
        ({"RANK": "-1"}, "RANK must be a whole number of at least 0, got '-1': unset it"),
        ({"RANK": ""}, "RANK must be a whole number"),
        ({**REAL, "WORLD_SIZE": "5"}, "contradict each other"),
        ({**REAL, "RANK": "4"}, "contradict each other"),
        ({**REAL, "LOCAL_RANK": "2"}, "contradict each other"),
    ],
)
def test_impossible_variables_are_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_launch(environment=environment)


def test_what_would_wait_for_ever_is_refused() -> None:
    with pytest.raises(ValueError, match="LOCAL_RANK=1 is set, but no launcher"):
        find_launch(2, environment={"LOCAL_RANK": "1"})
    with pytest.raises(ValueError, match="num_nodes=2 needs a launcher"):
        find_launch(1, 2, environment={})


def test_a_run_beside_a_stray_variable_trains(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    import torch

    for name in ("RANK", "NODE_RANK"):
        monkeypatch.setenv(name, "1")
    config = cnf.FitConfig(steps=1, batch_size=8, progress=False)
    result = cnf.fit(cnf.build("realnvp", 2, layers=1), torch.randn(20, 2), config=config, folder=tmp_path)
    assert result.checkpoint is not None
    assert result.checkpoint.exists()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "0")
    with pytest.raises(ValueError, match="LOCAL_WORLD_SIZE"):
        cnf.fit(cnf.build("realnvp", 2, layers=1), torch.randn(20, 2), config=config)
