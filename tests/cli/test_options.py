"""What is typed: values of options, solvers, headers, numbers out of range."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

import cnf
from cnf.cli import main
from cnf.cli.options import ReadingOptions, SolverOptions, model_options
from cnf.cli.usage import UsageError, check_numbers, chosen_columns
from cnf.continuous.twins import cnfs_of


def test_values_are_literals_or_strings() -> None:
    pairs = [["hidden=64,64", "activation=softplus"], ["layers=3", "time=None", "a=-1e-3", "b=[1, (2,)]", "c=x=y"]]
    assert model_options(pairs) == {
        "hidden": (64, 64), "activation": "softplus", "layers": 3, "time": None, "a": -1e-3, "b": [1, (2,)], "c": "x=y"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([["hidden"]], "KEY=VALUE, got 'hidden'"),
        ([["=3"]], "KEY=VALUE"),
        ([["a b=3"]], "KEY=VALUE"),
        ([["hidden=8"], ["hidden=9"]], "--option hidden is given twice"),
        ([["hidden=" + "-" * 100_000 + "1"]], "--option hidden: expected at most 1000 characters, got 100001"),
    ],
)
def test_what_is_no_option_says_why(pairs: list[list[str]], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        model_options(pairs)
    assert len(str(caught.value)) < 200


def test_values_of_all_kinds_end_in_an_option_or_a_usage_error() -> None:
    chance = random.Random(0)
    signs = "()[]{}-+~*/,:'\"\\0123456789eEjx_ab \0\n#=.é"
    texts = ["".join(chance.choices(signs, k=chance.randrange(60))) for _ in range(2_000)]
    texts += [sign * n for sign in signs for n in (200, 990)] + [sign * 300 + "1" for sign in "-+~([{"]
    for text in texts:
        assert set(model_options([[f"key={text}"]])) == {"key"}


def test_deep_brackets_for_a_size_are_a_usage_error(tmp_path) -> None:
    for text in ("[" * 900, "-" * 900 + "1", "((((1))))", "9" * 900, "1e400"):
        with pytest.raises(SystemExit, match="cnf: .*hidden") as caught:
            main(["fit", "moons", "--out", str(tmp_path / "run"), "--steps", "1", "--option", f"hidden=x{text}"])
        assert len(str(caught.value)) < 400
    assert not list(tmp_path.iterdir())


def test_a_solver_replaces_the_model_s_own() -> None:
    flow = cnf.build("cnf", 2)
    assert SolverOptions().solved(flow) is flow
    loose = cnfs_of(SolverOptions(tolerance=1e-2).solved(flow))[0].solver
    assert (loose.method, loose.rtol, loose.atol, loose.steps) == ("dopri5", 1e-2, 1e-2, None)
    fixed = cnfs_of(SolverOptions(solver="rk4", solver_steps=7).solved(flow))[0].solver
    assert (fixed.method, fixed.steps) == ("rk4", 7)


@pytest.mark.parametrize(
    ("options", "model", "message"),
    [
        ({"solver": "rk5"}, "cnf", "--solver must be one of euler, .*dopri5.*, got 'rk5'"),
        ({"solver": "rk4"}, "cnf", "--solver rk4 cannot adapt its steps: .*--solver-steps"),
        ({"solver": "rk4", "tolerance": 0.1}, "cnf", "--solver rk4 cannot adapt its steps"),
        ({"tolerance": 0.1, "solver_steps": 3}, "cnf", "give one of them"),
        ({"tolerance": 0.1}, "maf", "--tolerance.* are for continuous flows: leave them out"),
    ],
)
def test_solvers_that_do_not_exist_name_the_option(options: dict[str, object], model: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SolverOptions(**options).solved(cnf.build(model, 2))  # type: ignore[arg-type]


def test_a_header_is_there_or_not() -> None:
    assert ReadingOptions().header_given() is None
    assert ReadingOptions(header=True).header_given() is True
    assert ReadingOptions(no_header=True).header_given() is False
    with pytest.raises(UsageError, match="contradict"):
        ReadingOptions(header=True, no_header=True).header_given()


NUMBERS = {
    "fit moons --out OUT": {
        "--seed": ["-1", "1000000000000000"], "--steps": ["0"], "--epochs": ["nan", "0", "inf"], "--seconds": ["-3"],
        "--batch-size": ["0"], "--learning-rate": ["inf", "-1"], "--patience": ["0"], "--devices": ["0", "100000"],
        "--num-nodes": ["0"], "--threads": ["0"],
    },
    "score OUT moons": {"--batch-size": ["0"], "--tolerance": ["0", "nan", "1"], "--solver-steps": ["-1"]},
    "sample OUT": {"--n": ["0", "-5"], "--seed": ["4294967296"], "--batch-size": ["-1"]},
    "plot OUT": {"--tolerance": ["-1e-3"]},
}  # fmt: skip


@pytest.mark.parametrize("command", NUMBERS)
def test_numbers_out_of_range_name_the_option_and_leave_nothing(command: str, tmp_path) -> None:
    given = [str(tmp_path / "out") if word == "OUT" else word for word in command.split()]
    for option, values in NUMBERS[command].items():
        for value in values:
            with pytest.raises(SystemExit, match=f"cnf: {option} must be .*, got|cnf: {option} must be .*; got"):
                main([*given, option, value])
    assert not list(tmp_path.iterdir())


def test_numbers_in_range_pass() -> None:
    @dataclass
    class Nothing:
        progress: bool = True

    check_numbers(Nothing())
    check_numbers(SolverOptions(tolerance=0.1))


def test_columns_are_chosen_by_name() -> None:
    assert chosen_columns("", ["a", "b, c"]) == []
    assert chosen_columns('"b, c",a', ["a", "b, c"]) == ["b, c", "a"]
    for text, message in (("a,z", "names z, but the columns of the model are a"), ("a,a", "twice")):
        with pytest.raises(UsageError, match=message):
            chosen_columns(text, ["a", "b, c"])


def test_repeated_options_add_up(tmp_path) -> None:
    out = str(tmp_path / "run")
    with pytest.raises(SystemExit, match="cnf: .*hiden"):
        main(["fit", "moons", "--out", out, "--option", "hiden=3", "--option", "activation=tanh"])
