"""What a script is compared with, and its own numbers as the table prints them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["reproduced", "in small", "measured", "not reproduced"]
Read = Literal["the paper", "the authors' code", "a third party", "memory, not checked", ""]


@dataclass(frozen=True)
class Paper:
    """What a figure or a table of a paper says, and whether it is seen here.

    Args:
        work: Authors and year, and the method's name.
        place: Figure or table.
        claim: What is to be seen, in a sentence.
        verdict: "reproduced": the paper's claim at its setting or its numbers; "in small": its claim at a smaller
            setting; "measured": a figure of ours that no paper has; "not reproduced": the claim is not seen here.
        because: What holds and what does not, in a sentence.
        value: The paper's numbers, if it has any.
        read: Where they, or the claim, were read.
        arxiv: Number of the paper.
    """

    work: str
    place: str
    claim: str
    verdict: Verdict
    because: str
    value: str = ""
    read: Read = ""
    arxiv: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, [self.work and f"{self.work}, {self.place}:", self.claim, self.value]))


def paired(papers: Paper | tuple[Paper, ...], texts: str | tuple[str, ...]) -> list[tuple[Paper, str]]:
    """Claims with what is seen of each."""
    many = papers if isinstance(papers, tuple) else (papers,)
    return list(zip(many, texts if isinstance(texts, tuple) else (texts,), strict=True))


def number(results: dict[str, Any], key: str, digits: int = 3) -> str:
    """A number of the first level: its mean, with the standard deviation over seeds where there are several."""
    return spread([seed[key] for seed in results["seeds"] if key in seed], digits)


def numbers(results: dict[str, Any], keys: Iterable[str], digits: int = 3) -> str:
    """Several, with strokes between them."""
    return " / ".join(number(results, key, digits) for key in keys)


def spread(values: list[float | None], digits: int = 3) -> str:
    """Mean and standard deviation as text."""
    known = [math.nan if value is None else value for value in values]
    mean = _text(statistics.fmean(known), digits)
    return f"{mean} ± {_text(statistics.stdev(known), digits)}" if len(known) > 1 else mean


def _text(value: float, digits: int) -> str:
    """With so many places; a number that would be zero in them by its power of ten."""
    if value and abs(value) < 0.5 * 10**-digits:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.{digits}f}"
