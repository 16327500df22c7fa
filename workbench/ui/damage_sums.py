"""Damage by matrix and token, added up into rows, and what its numbers say. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from workbench.figures.labels import block_name, role_labels
from workbench.ui.escape import markdown, visible
from workbench.ui.numbers import number, percent
from workbench.ui.sentences import quoted

CELLS = 12_000
"""Most cells that are drawn at once; of more, those of the last tokens."""

FULL_COLOUR = 0.99
"""Share of the cells whose size stays under the end of the colour scale."""

ALL = -1


@dataclass(frozen=True)
class Map:
    """The damage, added up into rows.

    Attributes:
        rows: names, from top to bottom.
        tokens: of the prompt, as they are.
        values: damage of every row at every token.
        first: the first token that is drawn.
    """

    rows: list[str]
    tokens: list[str]
    values: list[list[float]]
    first: int

    def row_sum(self, row: int) -> float:
        """Damage of a row over all tokens."""
        return sum(self.values[row])

    def token_sum(self, token: int) -> float:
        """Damage at a token over all rows."""
        return sum(line[token] for line in self.values)

    @property
    def total(self) -> float:
        """All of it."""
        return sum(map(sum, self.values))


def added_up(damage: pd.DataFrame, tokens: Sequence[str], by: str) -> Map:
    """Table `damage` with the matrices of a row added up, which keeps the whole as it is."""
    names = _row_names(damage, by)
    rows = list(dict.fromkeys(names))
    values = [[0.0] * len(tokens) for _ in rows]
    places = {name: place for place, name in enumerate(rows)}
    for name, position, part in zip(names, damage["position"], damage["damage"], strict=True):
        values[places[name]][position] += float(part)
    return Map(rows, list(tokens), values, max(0, len(tokens) - max(1, CELLS // len(rows))))


def _row_names(damage: pd.DataFrame, by: str) -> list[str]:
    if by == "role":
        return damage["role"].tolist()
    blocks = [f"block {name}" if name.isdigit() else name for name in damage["block"].map(block_name)]
    if by == "block":
        return blocks
    known = damage.drop_duplicates("matrix")
    roles = dict(zip(known["matrix"], role_labels(known), strict=True))
    return [f"{block}, {roles[name]}" for block, name in zip(blocks, damage["matrix"], strict=True)]


def cell_sentence(held: Map, row: int, token: int) -> str:
    """The chosen cell, row or column in numbers; safe in Markdown."""
    total = held.total
    name = "" if row == ALL else f"**{markdown(held.rows[row])}**"
    place = "" if token == ALL else f"{quoted(held.tokens[token])} (token {token + 1})"
    if row == ALL and token == ALL:
        return f"All cells together: {number(total, sign=True)}."
    if token == ALL:
        return f"{name} at all tokens: {_part(held.row_sum(row), total)}."
    if row == ALL:
        return f"All rows at {place}: {_part(held.token_sum(token), total)}."
    return (
        f"{name} at {place}: {_part(held.values[row][token], total)}. The row alone, over all tokens: "
        f"{_part(held.row_sum(row), total)}; the token alone, over all rows: {_part(held.token_sum(token), total)}."
    )


def _part(value: float, total: float) -> str:
    share = value / total if total else 0.0
    if abs(share) > 1:  # parts may cancel each other, so that one of them can be larger than the whole
        return f"{number(value, sign=True)}, {number(abs(share), 2)} times the whole change"
    return f"{number(value, sign=True)}, {percent(abs(share))} of the whole change"


def wide_table(held: Map) -> pd.DataFrame:
    """A row a token, a column a row of the map, and the sums."""
    sums = [held.token_sum(place) for place in range(len(held.tokens))]
    table = pd.DataFrame(
        {
            "token number": range(1, len(held.tokens) + 1),
            "token": [visible(token) for token in held.tokens],
            "all rows": sums,
        }
    )
    return table.assign(**dict(zip(held.rows, held.values, strict=True)))


def full_colour(values: Sequence[float]) -> float:
    """The size that all but the largest hundredth of the cells stay under; above zero."""
    sizes = sorted(abs(value) for value in values)
    return sizes[round(FULL_COLOUR * (len(sizes) - 1))] or sizes[-1] or 1.0
