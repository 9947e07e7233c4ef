"""Build the documentation: a page for the package, and one for each module that it shows.

    pip install -e ".[docs]" && python .ci/docs/build.py site

A page shows what `__all__` names. Formulas are in Unicode, in the source as on the page; here they get a mathematical
typeface and real subscripts, so that the pages need no script and no network.
"""

from __future__ import annotations

import argparse
import html
import importlib
import inspect
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pdoc
import pdoc.render
from markupsafe import Markup

import cnf

CODE = re.compile(r"(<pre.*?</pre>)|<code>([^<]*)</code>", re.DOTALL)
SYMBOLS = re.compile(r"[∂∇∑Σ∏∫√‖ᵀᵢⱼₖ₀₁₂₃²³⁻≤≥≈∈∘→⊗∧·×−α-ωΓΔΘΛΠΣΦΨΩ]")
SUBSCRIPT = re.compile(r"(?<![A-Za-z0-9_])([A-Za-zα-ωΑ-Ω])_([A-Za-z0-9α-ω]+|\{[^}]*\})")
SUPERSCRIPT = re.compile(r"\^(\w+|\{[^}]*\}|\([^)]*\))")


def pages() -> list[str]:
    """The modules that have a page: the package, and those that it shows."""
    return ["cnf", *(f"cnf.{name}" for name in dir(cnf) if inspect.ismodule(getattr(cnf, name)))]


def loaded(name: str) -> str:
    """The name of a module, all of whose public names are there: those that load when asked for are asked for."""
    module = importlib.import_module(name)
    names = {public: getattr(module, public) for public in getattr(module, "__all__", ())}
    vars(module).update(names)
    for part in names.values():
        if inspect.ismodule(part) and part.__name__.startswith(f"{name}."):
            loaded(part.__name__)
    return name


class Written:
    """A hint as the source has it, and `help()`."""

    def __init__(self, hint: str) -> None:
        self.hint = hint

    def __repr__(self) -> str:
        return self.hint


def as_written(signature: inspect.Signature, function: Callable[..., Any]) -> inspect.Signature:
    """The signature with the hints of the source, which are shorter than what they resolve to."""
    if not callable(function):  # a method that scikit-learn makes
        return signature
    source = inspect.signature(function)
    hints = {name: parameter.annotation for name, parameter in source.parameters.items()}
    parameters = [each.replace(annotation=_hint(hints[each.name])) for each in signature.parameters.values()]
    result = inspect.Signature.empty if function.__name__ == "__init__" else _hint(source.return_annotation)
    return signature.replace(parameters=parameters, return_annotation=result)


def _hint(hint: Any) -> Any:
    return Written(hint) if isinstance(hint, str) else hint


def typeset(text: str) -> Markup:
    """HTML with its formulas typeset: inline code with a mathematical symbol in it is one."""
    return Markup(CODE.sub(lambda match: match[1] or _formula(match[2]), text))


def _formula(code: str) -> str:
    if not SYMBOLS.search(html.unescape(code)):
        return f"<code>{code}</code>"
    code = SUBSCRIPT.sub(lambda match: f"{match[1]}<sub>{match[2].strip('{}')}</sub>", code)
    code = SUPERSCRIPT.sub(lambda match: f"<sup>{match[1].strip('{}')}</sup>", code)
    return f'<code class="formula">{code}</code>'


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the documentation.")
    parser.add_argument("folder", type=Path, help="where to write it")
    folder = parser.parse_args().folder
    pdoc.render.configure(
        docformat="google", show_source=False, include_undocumented=False, template_directory=Path(__file__).parent
    )
    pdoc.render.env.filters |= {"as_written": as_written, "typeset": typeset}
    warnings.simplefilter("error")  # of public names that do not exist
    warnings.filterwarnings("ignore", "Error parsing type annotation")  # of NamedTuple, whose module pdoc misses
    pdoc.pdoc(*map(loaded, pages()), output_directory=folder)
    print(f"wrote {folder / 'cnf.html'}")


if __name__ == "__main__":
    main()
