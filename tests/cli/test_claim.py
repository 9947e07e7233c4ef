"""A folder belongs to one run, and a run that comes to nothing leaves it as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cnf.cli.claim import CHECKPOINT, DESCRIPTION, LOCK, check_folder, claimed
from cnf.cli.usage import UsageError

HOLD = """
import sys, time
from pathlib import Path
from cnf.cli.claim import claimed
with claimed(Path(sys.argv[1]), resume=False):
    (Path(sys.argv[1]) / "data.json").write_text("its own")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """A process that holds `tmp_path / "a" / "run"`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "a" / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_run_is_refused_and_a_killed_one_blocks_nothing(tmp_path: Path, holder) -> None:
    folder = tmp_path / "a" / "run"
    before = {path.name: path.read_text() for path in folder.iterdir()}
    for resume in (False, True):
        with (
            pytest.raises(UsageError, match=f"another run is using.*process {holder.pid}"),
            claimed(folder, resume=resume),
        ):
            raise AssertionError
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    (folder / f".data.json.{holder.pid}").write_text("half a fi")
    with claimed(folder, resume=False):
        assert {path.name for path in folder.iterdir()} == {LOCK, "data.json"}
        (folder / CHECKPOINT).touch()
    assert {path.name for path in folder.iterdir()} == {CHECKPOINT, "data.json"}


def test_threads_of_one_process_exclude_each_other_too(tmp_path: Path) -> None:
    message = f"process {os.getpid()}"
    folder = tmp_path / "run"
    with claimed(folder, resume=False), pytest.raises(UsageError, match=message), claimed(folder, resume=False):
        raise AssertionError
    assert not (tmp_path / "run").exists()


def _leave(folder: Path, names: tuple[str, ...], error: BaseException | type[BaseException]) -> None:
    for name in names:
        (folder / name).touch()
    raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_run_that_ends_before_its_first_checkpoint_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), claimed(tmp_path / "a" / "b", resume=False):
        _leave(tmp_path / "a" / "b", DESCRIPTION, error)
    assert not list(tmp_path.iterdir())


def test_a_run_that_ends_after_it_leaves_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="late"), claimed(tmp_path, resume=False):
        _leave(tmp_path, (*DESCRIPTION, CHECKPOINT), OSError("late"))
    assert {path.name for path in tmp_path.iterdir()} == {*DESCRIPTION, CHECKPOINT}


FOLDERS = {  # what lies there, what the same command says, what --resume says; None for neither word
    "empty": ([], None, "has no checkpoint yet: leave --resume out"),
    "killed while it described its data": (
        ["data.json", LOCK, ".trained_on.npy.123456789"],
        None,
        "leave --resume out",
    ),
    "killed while it saved a model without parameters": (
        ["data.json", "model.safetensors"],
        None,
        "leave --resume out",
    ),
    "killed later": (["data.json", CHECKPOINT, "log.csv", LOCK], "holds a run already.*--resume", None),
    "finished": (["data.json", CHECKPOINT, "metrics.json", "fit.png"], "holds a run already.*--resume", None),
    "finished without steps": (["data.json", "model.json", "metrics.json"], "holds a finished run", "it is finished"),
    "something else": (["thesis.txt"], "exists and is not empty", "leave --resume out"),
    "a model that was saved by hand": (
        ["model.json", "model.safetensors"],
        "exists and is not empty",
        "leave --resume out",
    ),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_every_folder_takes_the_same_command_or_resume_or_says_why(kind: str, tmp_path: Path) -> None:
    names, *messages = FOLDERS[kind]
    for name in names:
        (tmp_path / name).touch()
    for resume, message in zip((False, True), messages, strict=True):
        if message is None:
            check_folder(tmp_path, resume=resume)
            continue
        with pytest.raises(UsageError, match=message):
            check_folder(tmp_path, resume=resume)
        with pytest.raises(UsageError, match=message), claimed(tmp_path, resume=resume):
            raise AssertionError
        assert {path.name for path in tmp_path.iterdir()} == {*names} - {LOCK}


@pytest.mark.parametrize(("log", "left"), [(False, set()), (True, {*DESCRIPTION, CHECKPOINT, "log.csv"})])
def test_data_that_the_first_step_refuses_leave_nothing(tmp_path: Path, log: bool, left: set[str]) -> None:
    names = (*DESCRIPTION, CHECKPOINT, *(["log.csv"] if log else []))
    with pytest.raises(ValueError, match="off"), claimed(tmp_path, resume=False):
        _leave(tmp_path, names, ValueError("off the sphere"))
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_refused_resume_keeps_its_checkpoint(tmp_path: Path) -> None:
    for name in (*DESCRIPTION, CHECKPOINT):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="other"), claimed(tmp_path, resume=True):
        raise ValueError("other settings")
    assert {path.name for path in tmp_path.iterdir()} == {*DESCRIPTION, CHECKPOINT}
