"""How to go on with the model."""

from __future__ import annotations

import shlex

from cnf.plotting.report.markup import Html, element, joined, paragraph


def use_section(python: str, commands: str) -> Html:
    """Code that loads the model, and commands that use it.

    Args:
        python: Lines of Python.
        commands: Lines of a shell.
    """
    return joined(
        paragraph("In Python:"),
        element("pre", element("code", python)),
        paragraph("On the command line:"),
        element("pre", element("code", commands)),
    )


def flow_code(folder: str, context: tuple[str, ...], width: int, classes: int = 0) -> str:
    """Python that loads a flow, scores and samples.

    Args:
        folder: Of the model.
        context: Names of what it is conditioned on.
        width: Numbers of a row.
        classes: Where the context is a class, how many there are.
    """
    lines = ["import torch", "import cnf", "", f"flow = cnf.load({folder!r})"]
    if context:
        zeros = ", ".join(["0.0"] * len(context))
        given = (
            f"torch.eye({classes})[0]  # the class 0" if classes else f"torch.tensor([{zeros}])  # {', '.join(context)}"
        )
        lines += [f"given = {given}", "x = flow.sample(1000, given)"]
        return "\n".join(
            [*lines, "log_prob = cnf.metrics.log_prob_of_rows(flow, (x, given.expand(1000, -1)))  # in nats"]
        )
    return "\n".join(
        [
            *lines,
            f"x = flow.sample(1000)  # (1000, {width})",
            "log_prob = cnf.metrics.log_prob_of_rows(flow, x)  # in nats",
        ]
    )


def flow_commands(folder: str, context: tuple[str, ...], data: str) -> str:
    """Commands that score new rows and draw samples."""
    where = shlex.quote(folder)
    given = f" --given {','.join(f'{shlex.quote(name)}=0' for name in context)}" if context else ""
    return (
        f"cnf score {where} {shlex.quote(data)} --out log_prob.csv\ncnf sample {where} -n 1000{given} --out samples.csv"
    )


def table_code(folder: str) -> str:
    """Python that loads a `TableFlow`, samples, scores and fills empty cells."""
    return "\n".join(
        [
            "import cnf",
            "",
            f"model = cnf.TableFlow.load({folder!r})",
            "rows = model.sample(1000)  # a table like the one that was learned",
            "log_prob = model.log_prob(rows)  # in nats a row",
            "p_values = model.p_values(rows)  # small ones are unusual rows",
            "filled = model.impute(rows)  # empty cells, drawn given the others of their row",
        ]
    )


def table_commands(folder: str) -> str:
    """Commands that score new rows and draw samples."""
    where = shlex.quote(folder)
    return f"cnf score {where} rows.csv --out scores.csv\ncnf sample {where} -n 1000 --out samples.csv"
