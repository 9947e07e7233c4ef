"""Options of several commands: of the model, of the reading of a table, of the solver."""

from __future__ import annotations

import ast
import copy
import difflib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any

import tyro
from tyro.conf import FlagCreatePairsOff

from cnf.arguments import Count, inside
from cnf.cli.usage import UsageError
from cnf.continuous.solvers import RungeKutta
from cnf.continuous.solvers.tableaus import TABLEAUS
from cnf.continuous.twins import cnfs_of, reconfigure
from cnf.errors import SampleError
from cnf.flows import Flow
from cnf.models import MODELS, Model

LONGEST = 1_000  # characters of an option's value

Tolerance = Annotated[float, inside(0, 1)]
ADAPTIVE = [name for name, tableau in TABLEAUS.items() if tableau.error]
METHODS = (
    f"Method of the ODE solver: {', '.join(ADAPTIVE)}; with --solver-steps also "
    f"{', '.join(name for name in TABLEAUS if name not in ADAPTIVE)}."
)
SETTINGS = {"solver", "divergence", "regularizers"}  # objects, which cannot be typed


def optional(metavar: str | None, default: str = "", help: str | None = None) -> Any:
    """An option that may be left out, as it stands in the help.

    Args:
        metavar: What stands for the value.
        default: What happens without the option, in words.
        help: What the option does; by default its line in the docstring.
    """
    return tyro.conf.arg(metavar=metavar, help=help, help_behavior_hint=f"(default: {default})" if default else "")


@dataclass(kw_only=True)
class ReadingOptions:
    """How a table is read.

    Args:
        header: The first line of a text file holds the names of the columns.
        no_header: The first line of a text file holds data.
        sheet: Sheet of an Excel file that has several.
    """

    header: Annotated[bool, FlagCreatePairsOff, optional(None, "seen by the cells")] = False
    no_header: Annotated[bool, FlagCreatePairsOff, optional(None, "seen by the cells")] = False
    sheet: Annotated[str | None, optional("NAME", "the only one with rows")] = None

    def header_given(self) -> bool | None:
        """Whether there is a header; None if it is to be detected."""
        if self.header and self.no_header:
            raise UsageError("--header and --no-header contradict each other: give one of them")
        return True if self.header else False if self.no_header else None


@dataclass(kw_only=True)
class SolverOptions:
    """How the equation of a continuous flow is solved.

    Args:
        solver: Method of the ODE solver.
        tolerance: Relative and absolute tolerance of adaptive steps, such as 1e-5.
        solver_steps: Solve with this number of equal steps instead of adaptive ones.
    """

    solver: Annotated[str | None, optional("NAME", "the model's", help=METHODS)] = None
    tolerance: Annotated[Tolerance | None, optional("FLOAT", "the model's")] = None
    solver_steps: Annotated[Count | None, optional("INT", "the model's")] = None

    def solved(self, flow: Flow) -> Flow:
        """The flow with the solver that is asked for.

        Raises:
            UsageError: Options that contradict each other, or a model that solves no equation.
        """
        if self.solver is self.tolerance is self.solver_steps is None:
            return flow
        cnfs = cnfs_of(flow)
        if not cnfs:
            raise UsageError("--solver, --tolerance and --solver-steps are for continuous flows: leave them out")
        own = cnfs[0].solver
        return reconfigure(flow, solver=self._chosen(own if isinstance(own, RungeKutta) else RungeKutta()))

    def _chosen(self, own: RungeKutta) -> RungeKutta:
        method = self.solver or own.method
        if method not in TABLEAUS:
            raise UsageError(f"--solver must be one of {', '.join(TABLEAUS)}, got {method!r}")
        if self.tolerance and self.solver_steps:
            raise UsageError("--tolerance is for adaptive steps, --solver-steps for equal ones: give one of them")
        steps = self.solver_steps or (None if self.tolerance else own.steps)
        if steps is None and TABLEAUS[method].error is None:
            raise UsageError(f"--solver {method} cannot adapt its steps: give their number, such as --solver-steps 50")
        rtol, atol = (self.tolerance or own.rtol), (self.tolerance or own.atol)
        return replace(own, method=method, rtol=rtol, atol=atol, steps=steps, redraw=own.redraw and steps is not None)


REMEDY = "--tolerance 1e-3, or --solver rk4 --solver-steps 100 (rows are counted from 0)."


@contextmanager
def solving(flow: Flow, command: str = "") -> Iterator[None]:
    """Errors of rows that cannot be solved, with advice in terms of command line options.

    Args:
        flow: The flow that is solved.
        command: The command that takes these options, if it is another one.
    """
    try:
        yield
    except SampleError as error:
        raise error if not cnfs_of(flow) else in_words_of_options(error, command) from error


def in_words_of_options(error: SampleError, command: str = "") -> SampleError:
    """The error with advice in terms of command line options instead of Python calls."""
    told = copy.copy(error)
    told.advice = f"{command} {REMEDY}".strip()
    return told


def typed_options(model: Model) -> dict[str, Any]:
    """The options of a model that can be typed, with their defaults."""
    return {name: option.default for name, option in model.options.items() if name not in SETTINGS}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Hold the names of options against those of a model.

    Raises:
        UsageError: The model has no such option, or it cannot be typed; the message lists those that can.
    """
    known = typed_options(MODELS[name]) if name in MODELS else dict(options)  # `cnf.build` names an unknown model
    for option in options:
        if option in SETTINGS:
            raise UsageError(
                f"--option {option} cannot be typed: settings of the equation are given in Python, to cnf.build. "
                "Training uses those of the model; cnf score, sample and plot take --solver and --tolerance"
            )
        if option not in known:
            near = difflib.get_close_matches(option, known, 1)
            listed = ", ".join(f"{key}={value!r}" for key, value in known.items())
            raise UsageError(
                f"--model {name} has no option {option}"
                + (f", did you mean {near[0]}?" if near else ".")
                + f" Its options and their defaults: {listed}"
            )


def model_options(pairs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """`KEY=VALUE` as Python values; a value that is not a Python literal is a string.

    Raises:
        UsageError: No pair, a key that comes twice, or a value that is too long.
    """
    options: dict[str, Any] = {}
    for pair in (pair for group in pairs for pair in group):
        key, sign, text = pair.partition("=")
        if not sign or not key.isidentifier():
            raise UsageError(f"--option takes KEY=VALUE, got {pair[:60]!r}")
        if key in options:
            raise UsageError(f"--option {key} is given twice: give it once")
        options[key] = _value(key, text)
    return options


def _value(key: str, text: str) -> Any:
    if len(text) > LONGEST:
        raise UsageError(f"--option {key}: expected at most {LONGEST} characters, got {len(text)}: {text[:40]}…")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, of escape sequences
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two of many signs or brackets
        return text
