"""HTML that cannot be broken by what it shows: text is escaped where it is put in, unless it is HTML already."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VOID = ("meta", "col", "br")


class Html(str):
    """Text that is HTML, to be put in as it is."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element; children that are not `Html` are escaped, None and attributes that are None are left out.

    An underscore at the end of an attribute's name is dropped, one inside is a hyphen: `class_`, `aria_label`.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{together(children)}</{name}>")


def together(children: Iterable[object]) -> Html:
    """Children one after the other."""
    held = (child for child in children if child is not None)
    return Html("".join(child if isinstance(child, Html) else html.escape(str(child)) for child in held))


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """A table whose first column names its rows; without titles of columns where all are empty."""
    titles = tag("thead", tag("tr", *(tag("th", one, scope="col") for one in head))) if any(head) else None
    body = (tag("tr", tag("th", row[0], scope="row"), *(tag("td", one) for one in row[1:])) for row in rows)
    held = tag("table", tag("caption", caption), titles, tag("tbody", *body))
    return tag("div", held, class_="wide", tabindex="0", role="region", aria_label=caption)


def folded(title: str, *children: object) -> Html:
    """Something that is opened by a click; a printed page shows its title alone."""
    return tag("details", tag("summary", title), *children)


def marked(pieces: Iterable[Mapping[str, Any]]) -> Html:
    """A text in pieces, `text` and whether it is `changed`, with the changed ones marked."""
    return together(tag("mark", piece["text"]) if piece["changed"] else piece["text"] for piece in pieces)
