"""The part "Where it is lost": damage by matrix and token, which together are all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from workbench.figures.damage import damage_heat
from workbench.ui import controls, picking
from workbench.ui.attribution import TOLERANCE
from workbench.ui.damage_sums import ALL, Map, added_up, cell_sentence, full_colour, wide_table
from workbench.ui.drawing import drawing
from workbench.ui.escape import markdown, plotly_text, visible
from workbench.ui.numbers import number, percent, plural
from workbench.ui.study import Shown

ROWS = {"matrix": "each matrix", "block": "each block", "role": "each role"}
"""What a row of the map is -> in words."""

MEASURED = {"logprob": "log-probability"}
"""Kind of a target -> what it is called, where that is not its name."""

NAMED_ROWS = 64
"""Most matrices that have a row each at first; of more, those of a block are added up."""


def draw(shown: Shown) -> None:
    """The exact sum in words, the map with its sums, and the numbers of what is chosen."""
    document = shown.document
    _draw_sum(document)
    matrices = len(document["matrices"])
    by = controls.segments(
        "Rows", list(ROWS), "matrix" if matrices <= NAMED_ROWS else "block", key="damage_rows", show=ROWS.__getitem__
    )
    held = added_up(shown.tables["damage"], document["tokens"], by)
    if held.first:
        st.caption(f"The last {len(held.tokens) - held.first} of {len(held.tokens)} tokens are drawn.")
    above = st.container()
    row, token = _cell_choice(held)
    with above:
        _draw_map(held, _unit(document), row, token)
    st.write(cell_sentence(held, row, token))


def _draw_sum(document: dict[str, Any]) -> None:
    gap, lost = document["relative_gap"], document["full_value"] - document["quantized_value"]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if gap <= TOLERANCE:
            st.badge("adds up", icon=":material/check:", color="green")
        else:
            st.badge("does not add up", icon=":material/warning:", color="orange")
        st.markdown(f"**{markdown(document['target']['label'])}** {'falls' if lost > 0 else 'rises'} by "
                    f"{number(abs(lost))}", width="content")  # fmt: skip
    parts = len(document["matrices"]) * len(document["tokens"])
    st.write(
        f"It is {number(document['full_value'])} in the full model and {number(document['quantized_value'])} in the "
        f"quantized one. The {plural(parts, 'cell')} below add up to {number(sum(document['by_token']), sign=True)}: "
        f"they miss {percent(gap)} of the change, with {plural(document['nodes'], 'point')} on the path between the "
        "models. Orange cells lose, blue cells win it back."
    )


def _unit(document: dict[str, Any]) -> str:
    kind = document["target"]["kind"]
    return f"loss of {MEASURED.get(kind, kind)}"


def _cell_choice(held: Map) -> tuple[int, int]:
    """Draw the choice of a row and a token, at first the cell that loses most; `ALL` is the sum over them."""
    spots = range(len(held.rows)), range(held.first, len(held.tokens))
    worst = max(((row, token) for row in spots[0] for token in spots[1]), key=lambda one: held.values[one[0]][one[1]])
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        row = controls.select(
            "Row in numbers",
            [ALL, *spots[0]],
            worst[0],
            key="damage_row",
            show=lambda one: "all rows" if one == ALL else held.rows[one],
            width=300,
        )
        token = controls.select(
            "Token in numbers",
            [ALL, *spots[1]],
            worst[1],
            key="damage_token",
            show=lambda one: "all tokens" if one == ALL else f"{one + 1}: {visible(held.tokens[one])}",
            width=220,
        )
    return row, token


def _draw_map(held: Map, unit: str, row: int, token: int) -> None:
    drawn = list(range(held.first, len(held.tokens)))
    cells = [(line, place) for line in range(len(held.rows)) for place in drawn]
    frame = pd.DataFrame(
        {
            "row": [line for line, _ in cells],
            "column": [place - held.first for _, place in cells],
            "value": [held.values[line][place] for line, place in cells],
            "label": [
                f"{held.rows[line]} at {visible(held.tokens[place])} (token {place + 1})" for line, place in cells
            ],
        }
    )
    rows, columns = range(len(held.rows)), range(len(drawn))
    places = [{"damage_row": line, "damage_token": place} for line, place in cells]
    places += [{"damage_row": line, "damage_token": ALL} for line in rows]
    places += [{"damage_row": ALL, "damage_token": place} for place in drawn]
    worst = max(rows, key=held.row_sum), max(drawn, key=held.token_sum)
    table = wide_table(held)
    picking.chart(
        drawing(
            damage_heat,
            frame,
            held.rows,
            [plotly_text(held.tokens[place]) for place in drawn],
            unit=unit,
            limit=full_colour(frame["value"].tolist()),
            selected=(None if row == ALL else row, None if token == ALL else columns[token - held.first]),
        ),
        alt=f"Damage of {plural(len(held.rows), 'row')} at {plural(len(drawn), 'token')}. Most in all is lost by "
        f"{held.rows[worst[0]]}, {number(held.row_sum(worst[0]))}, and at token {worst[1] + 1}, "
        f"{visible(held.tokens[worst[1]])}, {number(held.token_sum(worst[1]))}.",
        key="damage-map",
        places=places,
        table_of=table,
        cell=_chooser(table, len(held.rows)),
        file_name="damage.csv",
    )


def _chooser(table: pd.DataFrame, rows: int) -> Callable[[int, str], dict[str, int]]:
    """What a cell of `wide_table` chooses: its token from the row, its row of the map from the column."""
    names = list(table.columns)

    def choose(place: int, column: str) -> dict[str, int]:
        row = names.index(column) - 3 if column in names else ALL
        return {"damage_token": place, "damage_row": row if 0 <= row < rows else ALL}

    return choose
