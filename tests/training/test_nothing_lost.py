"""Runs that are stopped, damaged, or go wrong: refused by name, or taken up to the same weights."""

from __future__ import annotations

import errno
import functools
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.amp import GradScaler

import cnf
from cnf import files
from cnf.files import read_state, write_state
from cnf.objectives.variational import Annealed
from cnf.training.optimizers import Optimizers

SETTINGS: dict[str, Any] = {"steps": 6, "batch_size": 32, "checks": 3, "warmup": 2, "progress": False}
X = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))


def flow() -> cnf.Flow:
    torch.manual_seed(0)
    return cnf.build("realnvp", 2, layers=2, hidden=(8,))


def train(folder: Path | None = None, *, data: Any = X, resume: bool = False, **changes: Any) -> cnf.Flow:
    settings = {**SETTINGS, **{name: changes.pop(name) for name in [*changes] if name in cnf.FitConfig.__annotations__}}
    config = cnf.FitConfig(**settings)
    made = changes.pop("made", None) or flow()
    validation = changes.pop("validation", X[:20])
    return cnf.fit(made, data, validation=validation, config=config, folder=folder, resume=resume, **changes).flow


def weights(of: cnf.Flow) -> torch.Tensor:
    return torch.cat([tensor.double().flatten() for tensor in of.state_dict().values()])


# What a run is of


class Target:
    def __init__(self, scale: float) -> None:
        self.scale, self.seen = scale, []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x))
        return -self.scale * x.square().sum(1)


def target(scale: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: -scale * x.square().sum(1)


def other_target(x: torch.Tensor) -> torch.Tensor:
    return -x.abs().sum(1)


SMALL = cnf.ReverseKL(target(1.0))
OTHER = {
    "data": ({"data": X * 3 + 100}, {}, "data "),
    "one number of the data": ({"data": X + (torch.arange(200).reshape(100, 2) == 57)}, {}, "data "),
    "fewer rows": ({"data": X[:99]}, {}, "data "),
    "validation": ({"validation": X[20:40]}, {}, "validation "),
    "no validation": ({"validation": None}, {}, "validation 20 rows.* → none"),
    "weights": ({"weights": torch.arange(100)}, {"weights": torch.ones(100)}, "weights "),
    "validation weights": ({"validation_weights": torch.arange(20)}, {}, "validation_weights none →"),
    "objective": ({"objective": SMALL}, {}, r"objective of phase 1 MaximumLikelihood.* → ReverseKL"),
    "a setting of the objective": (
        {"objective": cnf.ReverseKL(target(1.0), 0.5)}, {"objective": SMALL}, "objective of phase 1",
    ),
    "what a closure holds": ({"objective": cnf.ReverseKL(target(2.0))}, {"objective": SMALL}, "objective of phase 1"),
    "another function": ({"objective": cnf.ReverseKL(other_target)}, {"objective": SMALL}, "objective of phase 1"),
    "an object's setting": (
        {"objective": cnf.ReverseKL(Target(2.0))}, {"objective": cnf.ReverseKL(Target(1.0))}, "objective of phase 1",
    ),
    "a partial": (
        {"objective": cnf.ReverseKL(functools.partial(torch.sum, dim=1))},
        {"objective": cnf.ReverseKL(functools.partial(torch.sum, dim=-1))},
        "objective of phase 1",
    ),
    "number of phases": ({"objective": [cnf.Phase(), cnf.Phase()]}, {}, "phases 1 → 2"),
    "share": (
        {"objective": [cnf.Phase(), cnf.Phase(share=2.0)]}, {"objective": [cnf.Phase()] * 2}, "share of phase 2 1.0 →",
    ),
    "learning rate": ({"objective": [cnf.Phase(learning_rate=0.1)]}, {}, "learning_rate of phase 1"),
    "clipping": ({"objective": [cnf.Phase(clip=1.0)]}, {}, "clip of phase 1 5.0 → 1.0"),
    "settings": ({"clip": 1.0}, {}, r"settings \(clip None → 1.0\)"),
}  # fmt: skip


@pytest.mark.parametrize(("now", "before", "message"), OTHER.values(), ids=OTHER)
def test_another_run_is_not_taken_up(now: dict[str, Any], before: dict[str, Any], message: str, tmp_path: Path) -> None:
    train(tmp_path, **before)
    with pytest.raises(cnf.CheckpointError, match=f"checkpoint.safetensors was written with other.*{message}"):
        train(tmp_path, resume=True, **{**before, **now})


@pytest.mark.parametrize("objective", [None, SMALL, Annealed(SMALL), cnf.ReverseKL(Target(1.0))])
def test_the_same_run_is_taken_up_by_the_same_objects(objective: Any, tmp_path: Path) -> None:
    once = train(tmp_path, objective=objective)
    again = train(tmp_path, objective=objective, resume=True, made=once)
    assert torch.equal(weights(once), weights(again))


def test_the_fingerprint_of_large_data_is_quick_and_of_their_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    from cnf.data import rows

    x = torch.randn(200_000, 2)
    whole = rows.Rows(x).fingerprint()
    monkeypatch.setattr(rows, "WHOLE", 1000)
    some = [rows.Rows(data).fingerprint() for data in (x, x[:-1], x + 1, x.double(), x.numpy())]
    assert some[0] == some[3] == some[4] != whole
    assert len({*some[:3]}) == 3


# Damaged checkpoints

SPOILED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no progress": lambda f: f.pop("progress"),
    "an extra key": lambda f: f.update(extra=1),
    "a step in words": lambda f: f["progress"].update(step="5"),
    "a negative step": lambda f: f["progress"].update(step=-1),
    "a step that is true": lambda f: f["progress"].update(step=True),
    "a broken step": lambda f: f["progress"].update(step=1.5),
    "a phase that is not there": lambda f: f["progress"].update(phase=7),
    "an unknown number": lambda f: f["progress"].update(steps=1),
    "a missing number": lambda f: f["progress"].pop("best"),
    "no time": lambda f: f["progress"].update(seconds=float("nan")),
    "history in words": lambda f: f["progress"].update(history="x"),
    "history of lists": lambda f: f["progress"].update(history=[[1]]),
    "history of words": lambda f: f["progress"].update(history=[{"step": "1"}]),
    "progress as a list": lambda f: f.update(progress=[]),
    "settings as a list": lambda f: f.update(settings=[]),
    "identity as a number": lambda f: f.update(identity=3),
    "nothing": lambda f: f.clear(),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_facts_that_cannot_be_are_refused(spoil: Callable[[dict[str, Any]], Any], tmp_path: Path) -> None:
    train(tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    tensors, facts = read_state(path)
    spoil(facts)
    write_state(path, tensors, facts)
    with pytest.raises(cnf.CheckpointError, match=str(path)):
        train(tmp_path, resume=True)


@pytest.mark.parametrize("facts", ["{", "[]", "5", "[" * 100_000, ""])
def test_facts_that_are_no_object_are_refused(facts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.safetensors"
    monkeypatch.setattr(files.json, "dumps", lambda value: facts)
    write_state(path, {"a": torch.zeros(2)}, {})
    monkeypatch.undo()
    with pytest.raises(cnf.CheckpointError, match=str(path)):
        train(tmp_path, resume=True)


def test_tensors_of_another_flow_leave_the_flow_as_it_was(tmp_path: Path) -> None:
    train(tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    tensors, facts = read_state(path)
    moment = "optimizers/0.0.exp_avg"
    for changed in (
        {"flow/_initialized": None}, {"flow/_initialized": torch.zeros(7)}, {"average/n_averaged": None},
        {"average/n_averaged": torch.zeros(7, 3)}, {moment: None}, {moment: torch.zeros(7, 3)},
        {"optimizers/9": torch.zeros(1)}, {"optimizers/0.999.step": torch.zeros(())},
        {"best/transform": torch.zeros(1)},
    ):  # fmt: skip
        spoiled = {name: tensor for name, tensor in {**tensors, **changed}.items() if tensor is not None}
        write_state(path, spoiled, facts)
        made = flow()
        before = weights(made)
        with pytest.raises(cnf.CheckpointError, match=str(path)):
            train(tmp_path, resume=True, made=made)
        assert torch.equal(weights(made), before)


def test_one_bit_or_cut_anywhere_in_a_checkpoint_is_found(tmp_path: Path) -> None:
    train(tmp_path)
    path, draw = tmp_path / "checkpoint.safetensors", random.Random(0)
    whole = path.read_bytes()
    places = [draw.randrange(len(whole)) for _ in range(150)] + [draw.randrange(4000) for _ in range(150)] + [*range(8)]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        with pytest.raises(cnf.CheckpointError, match=str(path)):
            read_state(path)
    for length in [0, 1, 7, 8, 9, *(draw.randrange(len(whole)) for _ in range(30))]:
        path.write_bytes(whole[:length])
        with pytest.raises(cnf.CheckpointError, match=str(path)):
            read_state(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(cnf.CheckpointError, match=f"{path} cannot be read"):
        train(tmp_path, resume=True)


# Numbers that are not finite


def wide() -> cnf.Flow:
    """With matrices for Muon, and others for AdamW."""
    torch.manual_seed(0)
    return cnf.build("cnf", 2, hidden=(32, 32), solver=cnf.RungeKutta("rk4", steps=2))


def test_one_norm_is_clipped_over_all_optimizers() -> None:
    module = torch.nn.ModuleList([torch.nn.Linear(64, 64), torch.nn.Linear(2, 3)])
    made = Optimizers(module, "muon", 0.0)
    assert len(made.made) == 2
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    made.step(0.1, 1e-3)
    total = torch.cat([parameter.grad.flatten() for parameter in module.parameters()]).norm()
    assert total == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("name", "recovered"), [("muon", True), ("adamw", False)])
def test_beside_muon_a_burst_of_gradients_is_soon_forgotten(name: str, recovered: bool) -> None:
    module = torch.nn.ModuleList([torch.nn.Linear(64, 64, bias=False), torch.nn.Linear(2, 3, bias=False)])
    made = Optimizers(module, name, 0.0)
    for step in range(600):
        before = module[1].weight.detach().clone()
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, 1.0 if step else 100.0)
        made.step(1e-3, 0.0)
    moved = (before - module[1].weight).detach() / 1e-3  # 1 where nothing is remembered
    assert bool((moved > 0.8).all()) == recovered


@pytest.mark.parametrize("clip", [0.0, 5.0])
@pytest.mark.parametrize("shape", [(32, 32), (2, 32)])
def test_a_gradient_that_is_not_finite_moves_nothing(clip: float, shape: tuple[int, int]) -> None:
    made = wide()
    spoiled = next(p for p in made.parameters() if p.shape == shape)
    count, moved = [0], []

    def nan(gradient: torch.Tensor) -> torch.Tensor:
        count[0] += 1
        moved.append(torch.cat([p.detach().flatten() for p in made.parameters()]))
        return gradient * (torch.nan if count[0] == 4 else 1.0)

    spoiled.register_hook(nan)
    with pytest.raises(cnf.TrainingError, match="step 3: the gradient is not finite.*averaged weights"):
        train(made=made, validation=None, clip=clip, objective=[cnf.Phase(optimizer="muon")], warmup=0)
    assert len(moved) == 4
    assert weights(made).isfinite().all()


def test_a_step_that_makes_weights_not_finite_is_undone() -> None:
    made = flow()
    with pytest.raises(cnf.TrainingError, match="step 0: the step made weights that are not finite"):
        train(made=made, weight_decay=1e30, learning_rate=1e20, validation=None)
    assert weights(made).isfinite().all()


def test_an_overflow_that_scaling_handles_is_no_failure() -> None:
    module = torch.nn.ModuleList([torch.nn.Linear(64, 64), torch.nn.Linear(2, 3)])
    scaler = GradScaler("cpu", init_scale=4.0)
    made = Optimizers(module, "muon", 0.0, scaler)
    before = [parameter.detach().clone() for parameter in module.parameters()]

    def step(gradient: float) -> None:
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        module[1].bias.grad.fill_(gradient)
        scaler.scale(torch.zeros(()))  # as a backward pass does
        made.step(0.1, 1.0)

    step(torch.inf)
    assert scaler.get_scale() == 2
    assert all(torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))
    saved = made.scaling()
    other = Optimizers(module, "muon", 0.0, GradScaler("cpu", init_scale=4.0))
    other.load_scaling(saved)
    assert other.scaler is not None
    assert other.scaler.state_dict() == scaler.state_dict()
    step(1.0)
    assert not any(torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))
    step(torch.nan)
    with pytest.raises(FloatingPointError, match="the gradient is not finite"):
        step(torch.nan)  # at a scale of 1, it is not the scaling


# Signals, kills and disks


def test_the_start_is_part_of_the_budget_and_one_step_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    made = flow()
    initialize = made.initialize

    def slow(*data: Any) -> None:
        time.sleep(0.3)
        initialize(*data)

    monkeypatch.setattr(made, "initialize", slow)
    config = cnf.FitConfig(seconds=0.2, batch_size=32, progress=False)
    result = cnf.fit(made, X, validation=X[:20], config=config)
    assert result.steps == 1
    assert 0.3 <= result.seconds < 2
    assert result.best_validation is not None


def test_the_bar_has_the_loss_where_every_step_is_a_check(capsys: pytest.CaptureFixture[str]) -> None:
    train(progress=True)
    assert "loss=" in capsys.readouterr().err.splitlines()[-1]


def test_a_signal_during_the_start_is_answered_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = flow()

    def endless(*data: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr(made, "initialize", endless)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a process of its own
    try:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, made=made)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_ends_after_the_step_and_a_second_at_once(number: int, tmp_path: Path) -> None:
    whole, calls = weights(train()), [0]

    def interrupts(flow: cnf.Flow, x: torch.Tensor, context: torch.Tensor | None) -> cnf.Loss:
        calls[0] += 1
        if calls[0] == 3:
            os.kill(os.getpid(), number)
        return cnf.MaximumLikelihood()(flow, x, context)

    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    config = cnf.FitConfig(**SETTINGS)
    result = cnf.fit(flow(), X, interrupts, X[:20], config, folder=tmp_path)
    assert (result.stopped, result.steps) == ("interrupted", 3)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    again = cnf.fit(flow(), X, interrupts, X[:20], config, folder=tmp_path, resume=True)
    assert torch.equal(whole, weights(again.flow))


def forked(run: Callable[[], Any]) -> int:
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(0)
    return child


def test_kills_at_random_moments_resume_to_the_same_weights(tmp_path: Path) -> None:
    expected, draw = weights(train(steps=60, checks=20)), random.Random(0)
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        child = forked(lambda folder=folder: train(folder, steps=60, checks=20))  # type: ignore[misc]
        while not (folder / "checkpoint.safetensors").exists():
            time.sleep(0.001)
        time.sleep(draw.random() * 0.2)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        (folder / f".checkpoint.safetensors.{child}").write_bytes(b"half")
        assert torch.equal(weights(train(folder, steps=60, checks=20, resume=True)), expected)
        assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.safetensors", "log.csv"]


def test_leftovers_of_processes_that_run_and_files_of_others_stay(tmp_path: Path) -> None:
    names = [f".checkpoint.safetensors.{os.getppid()}", ".notes.2024", ".model.json.backup", "model.json.99999999"]
    for name in [*names, ".checkpoint.safetensors.99999999", ".metrics.json.99999999999999999999"]:
        (tmp_path / name).write_bytes(b"half")
    train(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*names, "checkpoint.safetensors", "log.csv"}


def test_a_full_disk_names_the_file_and_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    made, path = flow(), tmp_path / "checkpoint.safetensors"
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(
        OSError, match=r"\[Errno 28\] No space left.*checkpoint.*nothing was written.*checkpoint"
    ) as found:
        train(tmp_path, made=made)
    assert (found.value.errno, found.value.filename) == (errno.ENOSPC, str(path))
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    train(tmp_path)
    monkeypatch.setattr(files.os, "fsync", full)
    path.with_name("again").mkdir()
    with pytest.raises(OSError, match="the one written before is whole"):
        write_state(path, {}, {})
    monkeypatch.undo()
    assert json.dumps(read_state(path)[1])


def test_an_error_before_the_first_check_leaves_the_folder_free(tmp_path: Path) -> None:
    def nan(flow: cnf.Flow, x: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        return cnf.MaximumLikelihood()(flow, x, context).value * torch.nan

    with pytest.raises(cnf.TrainingError, match="step 0: the loss is nan"):
        train(tmp_path, objective=nan)
    train(tmp_path)
