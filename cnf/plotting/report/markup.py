"""HTML as text whose parts are escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import Any

ALONE = {"meta", "img", "br", "source"}  # elements without an end


class Html(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def element(tag: str, *children: Any, **attributes: Any) -> Html:
    """An element; children that are not `Html` are escaped, those that are None are left out.

    Args:
        tag: Its name.
        children: What it holds.
        attributes: Its attributes; `class_` is class, `aria_label` is aria-label. None leaves one out.

    Example:
        >>> element("p", "1 < 2", element("b", "yes"), class_="note")
        '<p class="note">1 &lt; 2<b>yes</b></p>'
    """
    given = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    opened = tag + "".join(f' {name}="{html.escape(str(value))}"' for name, value in given.items())
    return Html(f"<{opened} />" if tag in ALONE else f"<{opened}>{joined(*children)}</{tag}>")


def joined(*children: Any) -> Html:
    """Several parts one after another."""
    return Html(
        "".join(
            child if isinstance(child, Html) else html.escape(str(child)) for child in children if child is not None
        )
    )


def paragraph(*children: Any, **attributes: Any) -> Html:
    """A paragraph."""
    return element("p", *children, **attributes)


def table(
    head: list[str],
    rows: list[list[Any]],
    *,
    class_: str = "",
    numeric: tuple[int, ...] = (),
    marked: Sequence[bool] = (),
) -> Html:
    """A table; on narrow screens, each row becomes a block in which every cell is named by its column.

    Args:
        head: Names of the columns.
        rows: Cells, of which the first names the row.
        class_: Classes of the table.
        numeric: Places of the columns that are set flush right.
        marked: Which rows stand out.
    """
    align = ["n" if place in numeric else None for place in range(len(head))]
    stands_out = marked or [False] * len(rows)
    heads = (element("th", name, scope="col", class_=side) for name, side in zip(head, align, strict=True))
    return element(
        "table",
        element("thead", element("tr", *heads)),
        element("tbody", *(_row(head, row, align, own) for row, own in zip(rows, stands_out, strict=True))),
        class_=class_ or None,
    )


def _row(head: list[str], row: list[Any], align: list[str | None], own: bool) -> Html:
    first = element("th", row[0], scope="row")
    others = zip(head[1:], row[1:], align[1:], strict=True)
    cells = (element("td", cell, data_label=name, class_=side) for name, cell, side in others)
    return element("tr", first, *cells, class_="own" if own else None)


def picture(data: bytes, alt: str, *, class_: str | None = None) -> Html:
    """A PNG file within the page, drawn when it comes into view."""
    return element("img", src=_address(data), alt=alt, loading="lazy", class_=class_)


def both(wide: bytes, narrow: bytes, alt: str) -> Html:
    """One of two PNG files, by the width of the screen."""
    source = element("source", media="(max-width: 640px)", srcset=_address(narrow))
    return element("picture", source, picture(wide, alt))


def _address(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
