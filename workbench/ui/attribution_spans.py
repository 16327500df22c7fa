"""Spans of tokens that a person names: written as numbers or words, chosen in a strip, added up in every map."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from workbench.ui import address, controls, present
from workbench.ui.attribution import known
from workbench.ui.attribution_units import occurrences
from workbench.ui.escape import markdown, visible
from workbench.ui.numbers import number, percent
from workbench.ui.study import Shown
from workbench.ui.tokens import Span

MARKED, NAMED = "marked", "names"
NUMBERS = re.compile(r"(\d{1,6})(?:\s*[-\N{EN DASH}]\s*(\d{1,6}))?")


def written(span: Span) -> str:
    """A span as people count: `5` or `5-7`, the first token being 1."""
    first, last = span[0] + 1, span[1]
    return str(first) if first == last else f"{first}-{last}"


def read(text: str) -> list[Span] | None:
    """The spans in a text such as `5-7, 12`; None where it is no such text."""
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = NUMBERS.fullmatch(part)
        first, last = (0, 0) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not 1 <= first <= last:
            return None
        found.append((first - 1, last))
    return found


def spans_choice(label: str, *, key: str, **extra: Any) -> list[Span]:
    """A box for token numbers; what cannot be read is said and left out."""
    text = controls.line(label, key=key, **extra)
    spans = read(text)
    if spans is None:
        st.warning(f"{label}: write numbers of tokens, such as 5-7 or 12, with commas between them.")
    return spans or []


def draw_chosen(span: Span, results: Mapping[str, Shown], *, key: str) -> None:
    """What the chosen tokens score in every map, and what can be done with them.

    Args:
        span: of tokens.
        results: name of a map -> the map; those of other tokens are left out.
        key: of this place on the page.
    """
    first = next(iter(results.values()))
    tokens = first.document["tokens"]
    if span[1] > len(tokens):
        return
    alike = {name: one for name, one in results.items() if one.document["tokens"] == tokens}
    count = span[1] - span[0]
    number_words = f"Token {span[0] + 1}" if count == 1 else f"Tokens {span[0] + 1} to {span[1]}"
    text = "".join(visible(token) for token in tokens[span[0] : span[1]])
    with st.container(border=True, key=f"chosen-{key}"):
        st.markdown(f"**{number_words} of {len(tokens)}: “{markdown(text)}”**")
        table = pd.DataFrame([_row(name, one, span) for name, one in alike.items()])
        st.table(table, hide_index=True, border="horizontal", alt="The chosen tokens in each map")
        with st.container(horizontal=True):
            st.button(
                "Explain this",
                key=f"explain-{key}",
                icon=":material/troubleshoot:",
                on_click=address.put,
                args=("explain", written(span)),
                disabled=span[0] == 0,
                help="What made the model write these tokens, given what stands before them.",
            )
            st.button(
                "Take the mark away" if span in (read(st.session_state.get(MARKED, "")) or []) else "Mark this",
                key=f"mark-{key}",
                icon=":material/ink_marker:",
                on_click=_mark,
                args=(span,),
                help="Marks say what you think should count; maps can then be held against them.",
            )


def _mark(span: Span) -> None:
    """Add a span to what is marked; one that is marked already is taken away."""
    held = read(st.session_state.get(MARKED, "")) or []
    spans = [one for one in held if one != span] if span in held else [*held, span]
    address.put(MARKED, ", ".join(written(one) for one in sorted(spans)))


def _row(name: str, shown: Shown, span: Span) -> dict[str, str]:
    scores, document = known(shown.document["scores"]), shown.document
    inside = scores[span[0] : span[1]]
    row = {"map": name, "score": number(sum(inside), sign=document["signed"])}
    if len(inside) == 1:
        row["rank by strength"] = f"{1 + sum(abs(one) > abs(inside[0]) for one in scores)} of {len(scores)}"
    row["share of all strength"] = percent(_strength(inside) / (_strength(scores) or 1.0))
    row["held fixed"] = "yes" if all(document["held_fixed"][span[0] : span[1]]) else "no"
    return row


def _strength(scores: Sequence[float]) -> float:
    return sum(abs(score) for score in scores)


def draw_sums(results: Mapping[str, Shown], marked: Sequence[Span]) -> None:
    """What marked spans and named words add up to in every map, beside the share of the tokens that they are."""
    names = controls.line(
        "Words to add up",
        key=NAMED,
        placeholder="Lily, ball",
        help="Names or other words of the prompt, with commas between them. Every place where one stands is added up.",
    )
    document = next(iter(results.values())).document
    wanted = {name: occurrences(document, name) for name in _listed(names)}
    missing = [name for name, places in wanted.items() if not places]
    if missing:
        st.caption(markdown(f"Not in the prompt: {', '.join(missing)}."))
    groups = _marked(document, marked) | {name: places for name, places in wanted.items() if places}
    if not groups:
        st.caption("Nothing is named or marked yet.")
        return
    present.table(
        sums(results, groups),
        key="sums-table",
        file_name="attribution-sums.csv",
        label="Sums over names and marks",
        expanded=True,
        formats={"share of the tokens": "percent", "share of all strength": "percent", "sum": "%.4g"},
    )


def _listed(names: str) -> list[str]:
    return list(dict.fromkeys(filter(None, (name.strip() for name in names.split(",")))))


def _marked(document: Mapping[str, Any], marked: Sequence[Span]) -> dict[str, list[Span]]:
    tokens = document["tokens"]
    inside = [span for span in marked if span[1] <= len(tokens)]
    return {f"{''.join(tokens[span[0] : span[1]]).strip()} ({written(span)})": [span] for span in inside}


def sums(results: Mapping[str, Shown], groups: Mapping[str, Sequence[Span]]) -> pd.DataFrame:
    """A row for every group of spans and map: what its tokens add up to, and its share of strength and of tokens."""
    rows = []
    for group, spans in groups.items():
        for name, shown in results.items():
            scores = known(shown.document["scores"])
            inside = [scores[place] for span in spans for place in range(*span)]
            rows.append(
                {
                    "what": group,
                    "times": len(spans),
                    "map": name,
                    "sum": sum(inside),
                    "share of all strength": _strength(inside) / (_strength(scores) or 1.0),
                    "share of the tokens": len(inside) / len(scores),
                }
            )
    return pd.DataFrame(rows)
