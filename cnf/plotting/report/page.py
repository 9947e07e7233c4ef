"""The page: a head, and sections that may fail one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnf.files import write_bytes
from cnf.plotting.report.look import STYLE
from cnf.plotting.report.markup import Html, element, joined, paragraph


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: Its heading.
        make: Makes what stands below the heading; None leaves the section out.
    """

    name: str
    make: Callable[[], Html | None]

    @property
    def anchor(self) -> str:
        """What links to it end in."""
        return self.name.lower().replace(" ", "-")


def write_page(path: Path, title: str, lead: str, tiles: Html, sections: Sequence[Section]) -> Path:
    """Write a page that needs no other file and no network; a part that fails is reported on it.

    Args:
        path: The file.
        title: The heading.
        lead: A sentence below it.
        tiles: The main numbers.
        sections: The parts, in their order.
    """
    bodies = [(section, _body(section)) for section in sections]
    shown = [(section, body) for section, body in bodies if body is not None]
    links = (element("a", section.name, href=f"#{section.anchor}") for section, _ in shown)
    parts = (element("section", element("h2", section.name), body, id=section.anchor) for section, body in shown)
    head = element("header", element("h1", title), paragraph(lead, class_="lead"), tiles, element("nav", *links))
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", title),
            element("style", Html(STYLE)),
        ),
        element("body", element("main", head, *parts)),
        lang="en",
    )
    write_bytes(path, joined(Html("<!DOCTYPE html>\n"), page, "\n").encode())
    return path


def _body(section: Section) -> Html | None:
    """What a section shows, or why it shows nothing."""
    try:
        return section.make()
    except Exception as error:  # the other parts are worth having
        reason = " ".join(str(error).split()) or type(error).__name__
        return paragraph(f"This part could not be made: {reason}", class_="failed")


def tiles(facts: Sequence[tuple[str, str, str]]) -> Html:
    """The main numbers: a name, a value and a remark each."""
    return element(
        "dl",
        *(
            element("div", element("dt", name), element("dd", value, element("small", remark) if remark else None))
            for name, value, remark in facts
        ),
        class_="tiles",
    )
