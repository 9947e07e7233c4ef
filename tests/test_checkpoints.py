"""Saving and loading: the same flow comes back, readable by a person; anything else is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from instances import affine, conditional, randomized

from cnf import (
    Bottleneck,
    CheckpointError,
    DirectionalJacobian,
    Exact,
    Flow,
    HigherDerivative,
    Hutchinson,
    HutchPP,
    JacobianFrobenius,
    KineticEnergy,
    RandomEnd,
    RungeKutta,
    StandardNormal,
    Torchdiffeq,
    build,
    load,
    save,
)
from cnf.checkpoints import write_pieces

CASES = {
    "cnf": ("cnf", 2, 0, {}),
    "cnf-options": (
        "cnf", (2, 2), 3,
        {
            "hidden": (8, 8, 8), "activation": "silu", "time": "concatsquash", "residual": True,
            "regularizers": {"kinetic": KineticEnergy(), "frobenius": JacobianFrobenius(probes=2)},
            "divergence": HutchPP(3), "solver": RungeKutta("rk4", steps=3, gradient="checkpoint"),
        },
    ),
    "cnf-training": (
        "cnf", 2, 0,
        {
            "hidden": (8, 4), "divergence": Bottleneck(4, 2, "orthogonal"),
            "regularizers": {"derivative": HigherDerivative(3), "directional": DirectionalJacobian()},
            "solver": RandomEnd(RungeKutta("rk4", steps=3, redraw=True), 0.3),
        },
    ),
    "ffjord": ("ffjord", 3, 0, {"blocks": 2, "divergence": Hutchinson(2, "gaussian"), "hidden": (8,)}),
    "ffjord-image": ("ffjord", (1, 3, 3), 1, {"hidden": (4,), "divergence": Exact()}),
    "rnode": ("rnode", 2, 0, {"solver": Torchdiffeq("dopri8", rtol=1e-4, options={"first_step": 0.1})}),
    "ot_flow": ("ot_flow", 2, 1, {"hidden": 6, "depth": 2, "rank": 2}),
    "planar_cnf": ("planar_cnf", 2, 0, {"width": 5}),
}  # fmt: skip


def made(name, event_shape, context_dim, options) -> tuple[Flow, torch.Tensor, torch.Tensor | None]:
    flow = randomized(build(name, event_shape, context_dim, **options), 0.5)
    x = torch.rand(6, *flow.event_shape)
    context = torch.randn(6, context_dim) if context_dim else None
    flow.initialize(x, context)
    return flow, x, context


@pytest.fixture
def folder(tmp_path):
    flow, _, _ = made("cnf", 2, 0, {})
    return save(flow, tmp_path / "model")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_saved_is_loaded(case, dtype, tmp_path):
    flow, x, context = made(*case)
    flow, x, context = flow.to(dtype), x.to(dtype), None if context is None else context.to(dtype)
    assert save(flow, tmp_path / "deep" / "folder") == tmp_path / "deep" / "folder"
    twin = load(tmp_path / "deep" / "folder")
    results = []
    for one in (flow, twin):
        torch.manual_seed(5)
        results.append(one(x, context))
    assert twin.initialized
    assert results[0].log_prob.dtype == dtype
    assert torch.equal(results[0].log_prob, results[1].log_prob)
    assert torch.equal(results[0].z, results[1].z)
    assert all(torch.equal(cost, results[1].costs[name]) for name, cost in results[0].costs.items())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_settings_come_back(case, tmp_path):
    flow, _, _ = made(*case)
    twin = load(save(flow, tmp_path))
    parts = [[m for m in one.modules() if hasattr(m, "divergence")] for one in (flow, twin)]
    assert len(parts[0]) == len(parts[1]) > 0
    for before, after in zip(*parts, strict=True):
        assert (before.divergence, before.solver, before.regularizers) == (
            after.divergence, after.solver, after.regularizers,
        )  # fmt: skip
    assert save(twin, tmp_path / "again").joinpath("model.json").read_text() == (tmp_path / "model.json").read_text()


def test_the_description_can_be_read_by_a_person(tmp_path):
    flow, _, _ = made(*CASES["cnf-options"])
    description = json.loads(save(flow, tmp_path).joinpath("model.json").read_text())
    assert description["model"] == "cnf"
    assert description["event_shape"] == [2, 2]
    assert description["options"]["solver"]["method"] == "rk4"
    assert description["options"]["regularizers"]["frobenius"] == {"type": "JacobianFrobenius", "probes": 2}
    assert description["parameters"] == sum(p.numel() for p in flow.parameters())
    assert "torch" in description["versions"]


def test_saving_again_replaces_and_leaves_no_other_files(tmp_path):
    first, x, _ = made("cnf", 2, 0, {})
    second = randomized(build("cnf", 2), 0.5)
    save(first, tmp_path)
    save(second, tmp_path)
    assert torch.equal(load(tmp_path).log_prob(x), second.log_prob(x))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_flows_of_ones_own_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match=r"only flows made by cnf.build can be saved.*state_dict"):
        save(Flow(conditional(0), StandardNormal(3)), tmp_path)
    with pytest.raises(ValueError, match="only flows made by cnf.build"):
        save(Flow(affine((3,)), StandardNormal(3)), tmp_path)


def test_options_that_json_cannot_hold_are_refused(tmp_path):
    flow = build("cnf", 2, solver=Torchdiffeq(options={"norm": torch.norm}))
    with pytest.raises(ValueError, match="options must be numbers, strings, lists or settings"):
        save(flow, tmp_path)


def edited(folder, **changes) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


SPOILED = {
    "no folder": (lambda f: [path.unlink() for path in f.iterdir()], "no model.json in"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors in"),
    "truncated weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-10]),
        "truncated, or of another run",
    ),
    "truncated description": (lambda f: (f / "model.json").write_text('{"format": 1, "mod'), "it is no JSON"),
    "binary description": (lambda f: (f / "model.json").write_bytes(b"\xff\xfe\x00"), "it is no JSON"),
    "list": (lambda f: (f / "model.json").write_text("[]"), "holds no JSON object"),
    "foreign": (lambda f: (f / "model.json").write_text('{"a": 1}'), "it has no model"),
    "newer": (lambda f: edited(f, format=99), "newer cnf"),
    "unknown model": (lambda f: edited(f, model="ice"), "unknown model 'ice'"),
    "unknown option": (lambda f: edited(f, options={"width": 3}), "no option width"),
    "unknown setting": (lambda f: edited(f, options={"solver": {"type": "Magic"}}), "unknown setting 'Magic'"),
    "unknown field of a setting": (lambda f: edited(f, options={"solver": {"type": "RungeKutta", "x": 1}}), "'x'"),
    "impossible setting": (
        lambda f: edited(f, options={"solver": {"type": "RungeKutta", "method": "rk9"}}), "unknown method 'rk9'",
    ),
    "options no object": (lambda f: edited(f, options=[1]), "does not hold the model"),
    "other architecture": (lambda f: edited(f, options={"hidden": [3]}), "does not hold the model"),
    "other shape": (lambda f: edited(f, event_shape=[3]), "does not hold the model"),
    "no such dtype": (lambda f: edited(f, dtype="float99"), "does not hold the model"),
    "no dtype": (lambda f: edited(f, dtype="nn"), "does not hold the model"),
    "foreign weights": (
        lambda f: (edited(f, weights_sha256=None), (f / "model.safetensors").write_bytes(b"nonsense")),
        "no safetensors",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_folder_says_what_is_wrong(spoil, message, folder):
    load(folder)
    spoil(folder)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_a_file_in_pieces_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_pieces(path, (bytes([number]) for number in range(3)))
    assert path.read_bytes() == b"\x00\x01\x02"

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("the solver gave up")

    with pytest.raises(RuntimeError, match="gave up"):
        write_pieces(path, broken())
    assert path.read_bytes() == b"\x00\x01\x02"
    assert list(path.parent.iterdir()) == [path]
