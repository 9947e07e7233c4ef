"""Training: repeatable, resumable, the same on several processes, and clear about what stops it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import cnf
from cnf.data import toy
from cnf.metrics import normalization
from cnf.training.judge import judging_solver

QUICK = {"progress": False, "batch_size": 64, "checks": 3, "warmup": 5}


def small_flow(**options: object) -> cnf.Flow:
    torch.manual_seed(0)
    return cnf.build("cnf", 2, hidden=(16, 16), **options)


def moons(n: int, seed: int = 0) -> torch.Tensor:
    return toy("moons").sample(n, generator=torch.Generator().manual_seed(seed))


def weights(flow: cnf.Flow) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in flow.parameters()])


def start(script: str, folder: Path) -> subprocess.Popen[str]:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(script))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(path)],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def test_validation_solves_loosely_where_the_flow_solves_adaptively_and_as_the_flow_does_elsewhere() -> None:
    adaptive, fixed, other = cnf.RungeKutta(), cnf.RungeKutta("rk4", steps=2), cnf.Torchdiffeq()
    for solver, judging in ((adaptive, cnf.RungeKutta(rtol=1e-3, atol=1e-3)), (fixed, None), (other, None)):
        assert judging_solver(cnf.build("cnf", 2, hidden=(4,), solver=solver)) == judging
    assert judging_solver(cnf.build("realnvp", 2)) is None
    flow = small_flow(solver=other)
    assert cnf.fit(flow, moons(100), validation=moons(50, 1), config=cnf.FitConfig(steps=1, **QUICK)).best_validation


def test_training_lowers_the_loss_and_returns_the_best_weights() -> None:
    flow, held_out = small_flow(), moons(500, 1)
    result = cnf.fit(flow, moons(2000), validation=held_out, config=cnf.FitConfig(steps=150, **QUICK))
    assert result.flow is flow
    assert result.stopped == "budget"
    assert result.history[-1]["validation_nll"] < result.history[0]["validation_nll"]
    with torch.no_grad():
        assert -flow.log_prob(held_out).mean().item() == pytest.approx(result.best_validation, abs=1e-4)


def test_two_runs_with_one_seed_agree_and_another_seed_differs() -> None:
    def run(seed: int) -> torch.Tensor:
        config = cnf.FitConfig(steps=20, seed=seed, divergence=cnf.Hutchinson(), **QUICK)
        return weights(cnf.fit(small_flow(), moons(300), validation=moons(50, 1), config=config).flow)

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_the_log_counts_the_evaluations_of_an_adjoint_s_way_back_too() -> None:
    def logged(*, adjoint: bool) -> float:
        solver = cnf.Torchdiffeq("rk4", steps=4, adjoint=adjoint)
        return cnf.fit(small_flow(), moons(50), config=cnf.FitConfig(steps=2, solver=solver, **QUICK)).history[-1][
            "evaluations"
        ]

    assert logged(adjoint=False) == 16
    assert logged(adjoint=True) >= 2 * 16


def test_averaging_leaves_orders_and_masks_alone() -> None:
    torch.manual_seed(0)
    flow = cnf.build("nsf_coupling", 7, layers=2, hidden=8, blocks=0)
    before = {name: buffer.clone() for name, buffer in flow.named_buffers() if not buffer.is_floating_point()}
    cnf.fit(flow, torch.randn(256, 7), config=cnf.FitConfig(steps=60, **QUICK))
    after = dict(flow.named_buffers())
    orders = [name for name, buffer in before.items() if buffer.dtype == torch.int64]
    assert orders
    assert all(torch.equal(after[name], before[name]) for name in orders)


def test_the_global_random_state_is_left_alone() -> None:
    flow, data = small_flow(), moons(200)
    before = torch.get_rng_state()
    cnf.fit(flow, data, config=cnf.FitConfig(steps=3, divergence=cnf.Hutchinson(), **QUICK))
    assert torch.equal(before, torch.get_rng_state())


def test_every_kind_of_data_trains_to_the_same_weights(tmp_path: Path) -> None:
    x = moons(300)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    results = [
        weights(cnf.fit(small_flow(), data, config=cnf.FitConfig(steps=5, **QUICK)).flow)
        for data in (x, x.numpy(), x.double().numpy(), mapped, TensorDataset(x))
    ]
    for other in results[1:]:
        assert torch.equal(results[0], other)


def test_conditional_data_trains_a_conditional_flow() -> None:
    context = torch.rand(2000, 1)
    x = 3 * context + 0.1 * torch.randn(2000, 2)
    flow = cnf.build("cnf", 2, context_dim=1, hidden=(16, 16))
    result = cnf.fit(flow, (x, context), validation=(x, context), config=cnf.FitConfig(steps=300, **QUICK))
    exact = torch.distributions.Normal(3 * context, 0.1).log_prob(x).sum(1).mean().item()
    marginal = -torch.distributions.MultivariateNormal(x.mean(0), x.T.cov()).log_prob(x).mean().item()
    assert -exact - 0.05 < result.best_validation < marginal - 0.5


def test_standardisation_is_taken_from_the_training_rows_once() -> None:
    x = moons(400) * 10 + 100
    flow = small_flow()
    cnf.fit(flow, x, config=cnf.FitConfig(steps=1, **QUICK))
    standardize = flow.transform.transforms[0]
    torch.testing.assert_close(standardize.shift, x.mean(0))
    cnf.fit(flow, x + 50, config=cnf.FitConfig(steps=1, **QUICK))
    torch.testing.assert_close(standardize.shift, x.mean(0))


def test_patience_stops_early_and_for_good(tmp_path: Path) -> None:
    config = cnf.FitConfig(steps=400, patience=2, **{**QUICK, "checks": 100, "learning_rate": 0.05})
    result = cnf.fit(small_flow(), moons(40), validation=moons(200, 1), config=config, folder=tmp_path)
    assert result.stopped == "patience"
    assert result.steps < 400
    assert [row["stepped_back"] for row in result.history[-2:]] == [0, 0]
    assert sum(row["stepped_back"] for row in result.history) == 6  # before it gives up
    again = cnf.fit(small_flow(), moons(40), validation=moons(200, 1), config=config, folder=tmp_path, resume=True)
    assert (again.steps, again.stopped) == (result.steps, "patience")
    assert torch.equal(weights(again.flow), weights(result.flow))


@pytest.mark.parametrize("budget", [{"steps": 7}, {"epochs": 1.5}, {"seconds": 0.5}])
def test_budgets(budget: dict[str, float]) -> None:
    result = cnf.fit(small_flow(), moons(640), config=cnf.FitConfig(**budget, **QUICK))
    spent = {"steps": result.steps, "epochs": result.steps / 10, "seconds": result.seconds}
    name, allowed = next(iter(budget.items()))
    assert allowed <= spent[name] < allowed + 1


def test_without_a_budget_there_are_ninety_seconds() -> None:
    assert cnf.FitConfig().seconds_allowed == 90
    assert cnf.FitConfig(steps=1).seconds_allowed is None


def test_phases_share_the_budget_and_each_has_its_own_schedule() -> None:
    phases = [
        cnf.Phase(cnf.FlowMatching(), share=3, learning_rate=1e-3),
        cnf.Phase(cnf.MaximumLikelihood(), share=1, learning_rate=1e-2),
    ]
    config = cnf.FitConfig(**{**QUICK, "steps": 40, "checks": 40, "warmup": 0})
    rows = cnf.fit(small_flow(), moons(100), phases, config=config).history
    assert ["matching" in row for row in rows] == [True] * 30 + [False] * 10
    assert ["nll" in row for row in rows] == [False] * 30 + [True] * 10
    rates = [row["learning_rate"] for row in rows]
    assert rates[0] == pytest.approx(1e-3, rel=0.01)
    assert rates[29] == pytest.approx(0, abs=1e-9)
    assert rates[34] == pytest.approx(0.5e-2)
    assert rates[39] == pytest.approx(0, abs=1e-9)


def test_a_phase_that_stalls_gives_its_budget_to_the_next() -> None:
    phases = [cnf.Phase(cnf.FlowMatching(), learning_rate=1e-12), cnf.Phase(learning_rate=1e-3)]
    config = cnf.FitConfig(**{**QUICK, "steps": 100, "checks": 100, "patience": 3})
    flow = small_flow()
    result = cnf.fit(flow, moons(500), phases, validation=moons(200, 1), config=config)
    matched = sum("matching" in row for row in result.history)
    assert matched < 10
    assert result.stopped == "budget"
    assert result.steps == 100
    assert result.best_step > 50


def test_a_phase_is_judged_at_its_end_and_each_row_of_the_log_is_of_one_phase() -> None:
    phases = [cnf.Phase(cnf.FlowMatching()), cnf.Phase(cnf.MaximumLikelihood(), share=2.0)]
    result = cnf.fit(small_flow(), moons(200), phases, moons(50, 1), cnf.FitConfig(steps=24, patience=None, **QUICK))
    assert 8 in [row["step"] for row in result.history]
    assert all(("matching" in row) == (row["step"] <= 8) != ("nll" in row) for row in result.history)


def test_without_validation_the_next_phase_begins_with_the_averaged_weights() -> None:
    settings = {**QUICK, "ema": 0.9}
    begun = []

    def seen(flow: cnf.Flow, x: torch.Tensor, context: torch.Tensor | None = None) -> cnf.Loss:
        begun.append(weights(flow))
        return cnf.MaximumLikelihood()(flow, x, context)

    phases = [cnf.Phase(cnf.FlowMatching()), cnf.Phase(seen)]
    cnf.fit(small_flow(), moons(200), phases, config=cnf.FitConfig(steps=20, **settings))
    alone = small_flow()
    cnf.fit(alone, moons(200), phases[:1], config=cnf.FitConfig(steps=10, **settings))
    assert torch.allclose(begun[0], weights(alone), atol=1e-6)


@pytest.mark.parametrize("objective", ["ml", cnf.MaximumLikelihood])
def test_an_objective_that_is_a_name_or_a_class_is_refused(objective: object) -> None:
    with pytest.raises(TypeError, match=r"objective must be a function \(such as cnf.MaximumLikelihood\(\)\), got"):
        cnf.Phase(objective)  # type: ignore[arg-type]


def test_an_objective_that_is_none_is_named() -> None:
    with pytest.raises(TypeError, match="sequence of cnf.Phase"):
        cnf.fit(small_flow(), moons(10), [cnf.FlowMatching()])


def test_the_log_holds_what_the_history_holds(tmp_path: Path) -> None:
    config = cnf.FitConfig(steps=30, **QUICK)
    result = cnf.fit(small_flow(), moons(300), validation=moons(50), config=config, folder=tmp_path)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [float(row["loss"]) for row in rows] == pytest.approx([row["loss"] for row in result.history], rel=1e-5)
    assert {"step", "seconds", "learning_rate", "validation_nll", "evaluations"} <= set(rows[0])
    assert float(rows[0]["evaluations"]) > 0


def test_a_non_finite_loss_names_step_and_rows() -> None:
    x = moons(64)
    x[17] = 1e30
    flow = cnf.build("cnf", 2, hidden=(16, 16), preprocess="none")
    with pytest.raises(cnf.TrainingError, match=r"step 0: .*Rows of the data: \[17\] \(1 in all\).*learning_rate"):
        cnf.fit(flow, x, config=cnf.FitConfig(steps=5, **QUICK))


def test_a_failed_solve_names_step_and_rows() -> None:
    class Explosive(torch.nn.Module):
        def forward(self, t: torch.Tensor, x: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
            return -(x**3) * 1e4

    x = torch.full((10, 1), 1e-3)
    x[4] = 5.0
    flow = cnf.Flow(cnf.CNF(Explosive(), solver=cnf.RungeKutta(max_steps=50)), cnf.StandardNormal(1))
    flow.shift = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(cnf.TrainingError, match=r"step 0: .*t = .*Rows of the data: \[4\]") as caught:
        cnf.fit(flow, x, config=cnf.FitConfig(steps=5, **{**QUICK, "batch_size": 10}))
    text = str(caught.value)
    assert "Samples" not in text  # of a batch, which the reader does not see
    assert text.count("Try: ") == 1
    assert ".." not in text
    assert caught.value.advice in text


def test_nan_in_the_data_is_found_before_training() -> None:
    x = moons(100)
    x[[3, 50], 0] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinite values in 2 of 100 rows read, first in rows \[3, 50\]"):
        cnf.fit(small_flow(), x, config=cnf.FitConfig(steps=5, **QUICK))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be .* from 1 to .*, got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be a number above 0"),
        ({"ema": 1.0}, "ema must be"),
        ({"clip": -1.0}, "clip must be a number not below 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cnf.FitConfig(**settings)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    config = cnf.FitConfig(steps=3, **QUICK)
    cnf.fit(small_flow(), moons(100), config=config, folder=tmp_path)
    with pytest.raises(FileExistsError, match="resume=True"):
        cnf.fit(small_flow(), moons(100), config=config, folder=tmp_path)


def test_resume_wants_a_whole_checkpoint_of_the_same_settings(tmp_path: Path) -> None:
    with pytest.raises(cnf.CheckpointError, match=r"no checkpoint\.safetensors"):
        cnf.fit(small_flow(), moons(100), config=cnf.FitConfig(steps=3, **QUICK), folder=tmp_path, resume=True)
    cnf.fit(small_flow(), moons(100), config=cnf.FitConfig(steps=3, **QUICK), folder=tmp_path)
    with pytest.raises(cnf.CheckpointError, match="steps 3 → 4"):
        cnf.fit(small_flow(), moons(100), config=cnf.FitConfig(steps=4, **QUICK), folder=tmp_path, resume=True)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(cnf.CheckpointError, match="damaged"):
        cnf.fit(small_flow(), moons(100), config=cnf.FitConfig(steps=3, **QUICK), folder=tmp_path, resume=True)


RUN = """
    import sys, torch, cnf
    from cnf.data import toy
    torch.manual_seed(0)
    flow = cnf.build("cnf", 2, hidden=(32, 32))
    x = toy("moons").sample(1000, generator=torch.Generator().manual_seed(0))
    config = cnf.FitConfig(steps=STEPS, checks=CHECKS, batch_size=64, divergence=cnf.Hutchinson(), progress=False)
    phases = [cnf.Phase(cnf.FlowMatching()), cnf.Phase(cnf.MaximumLikelihood(), share=2, optimizer="muon")]
    if __name__ == "__main__":
        result = cnf.fit(flow, x, phases, validation=x[:100], config=config, folder=FOLDER, resume=RESUME)
        torch.save([p.detach() for p in flow.parameters()], FOLDER + "/final.pt")
        print(result.stopped, result.checkpoint)
"""


def script(folder: Path, *, steps: int, resume: bool, checks: int = 10) -> str:
    values = {"STEPS": steps, "CHECKS": checks, "FOLDER": repr(str(folder)), "RESUME": resume}
    program = RUN
    for name, value in values.items():
        program = program.replace(name, str(value))
    return program


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not (folder / "checkpoint.safetensors").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    finish(start(script(whole, steps=120, resume=False), whole))
    process = start(script(broken, steps=120, resume=False), broken)
    wait_for_checkpoint(broken, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "final.pt").exists(), "the run ended before it was killed"
    finish(start(script(broken, steps=120, resume=True), broken))
    expected, resumed = (torch.load(folder / "final.pt") for folder in (whole, broken))
    for left, right in zip(expected, resumed, strict=True):
        assert torch.equal(left, right)
    assert (whole / "log.csv").read_text().count("\n") == (broken / "log.csv").read_text().count("\n")


def test_interrupting_saves_and_says_where(tmp_path: Path) -> None:
    process = start(script(tmp_path, steps=100_000, resume=False, checks=10_000), tmp_path)
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGINT)
    output = finish(process)
    assert f"interrupted {tmp_path / 'checkpoint.safetensors'}" in output


def test_two_processes_follow_the_loss_curve_of_one(tmp_path: Path) -> None:
    program = """
        import json, torch, cnf
        from cnf.data import toy
        torch.manual_seed(0)
        flow = cnf.build("cnf", 2, hidden=(16, 16))
        x = toy("moons").sample(1000, generator=torch.Generator().manual_seed(0))
        config = cnf.FitConfig(steps=20, checks=20, batch_size=64, devices=DEVICES, accelerator="cpu", progress=False)
        if __name__ == "__main__":
            result = cnf.fit(flow, x, validation=x[:101], config=config, folder="FOLDER")
            print(json.dumps(result.history[-1]))
    """
    curves = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        finish(start(program.replace("DEVICES", str(devices)).replace("FOLDER", str(folder)), folder))
        rows = list(csv.DictReader((folder / "log.csv").open()))
        curves.append([[float(row[name]) for name in ("loss", "validation_nll")] for row in rows])
    torch.testing.assert_close(torch.tensor(curves[0]), torch.tensor(curves[1]), rtol=2e-5, atol=0)


def test_a_trained_density_integrates_to_one() -> None:
    flow = small_flow()
    cnf.fit(flow, moons(2000), config=cnf.FitConfig(steps=200, **QUICK))
    assert flow.base.dtype == torch.float32
    assert normalization(flow, (-8, -8), (8, 8), points=300) == pytest.approx(1, abs=1e-3)


def test_mixed_precision_trains_in_the_precision_of_the_state() -> None:
    flow = small_flow()
    result = cnf.fit(
        flow, moons(500), validation=moons(50), config=cnf.FitConfig(steps=40, precision="bf16-mixed", **QUICK)
    )
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert weights(flow).dtype == torch.float32
    with pytest.raises(ValueError, match=r"precision must be one of '32-true'.*flow\.double\(\)"):
        cnf.FitConfig(precision="64-true")


def test_a_flow_without_parameters_is_initialized() -> None:
    flow = cnf.build("rbig", 2, layers=20)
    x = moons(2000)
    before = flow.log_prob(x).mean()
    result = cnf.fit(flow, x, config=cnf.FitConfig(steps=5, **QUICK))
    assert (result.stopped, result.steps) == ("initialized", 0)
    assert flow.log_prob(x).mean() > before + 0.5


def test_validation_data_that_do_not_fit_are_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"validation that does not fit .* shape \(2,\), got \(3,\)"):
        cnf.fit(small_flow(), moons(100), validation=torch.randn(10, 3), config=cnf.FitConfig(steps=3, **QUICK))


def test_history_is_plain_numbers() -> None:
    result = cnf.fit(small_flow(), moons(100), config=cnf.FitConfig(steps=3, **QUICK))
    json.dumps(result.history)
