"""How far maps of the same prompt agree, pair by pair. Agreement is no sign of being right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float64
from torch import Tensor

from workbench.measures.map_similarity import aiou, kendall, top_k_overlap
from workbench.ordering import spearman

MEASURES = ("spearman", "kendall", "top_k_overlap", "aiou")


def pair(
    first: Float64[Tensor, " unit"], second: Float64[Tensor, " unit"], *, signed: bool, top_k: int
) -> dict[str, float | None]:
    """The four measures of two maps; sizes are compared where the sign means nothing in one of them.

    None where a measure is not defined: fewer than two tokens, or a map that is the same everywhere.
    """
    sides = (first, second) if signed else (first.abs(), second.abs())
    found = {
        "spearman": spearman(*sides) if first.numel() > 1 else float("nan"),
        "kendall": kendall(*sides),
        "top_k_overlap": top_k_overlap(first, second, top_k),
        "aiou": aiou(first, second),
    }
    return {name: value if value == value else None for name, value in found.items()}


def agreement_rows(
    maps: Mapping[str, Float64[Tensor, " unit"]], signed: Mapping[str, bool], top_k: int
) -> list[dict[str, Any]]:
    """A row for every ordered pair of methods."""
    return [
        {
            "method": one,
            "other": other,
            **pair(maps[one], maps[other], signed=signed[one] and signed[other], top_k=top_k),
        }
        for one in maps
        for other in maps
    ]


def square(rows: Sequence[Mapping[str, Any]], measure: str) -> list[list[float | None]]:
    """One measure of `agreement_rows` as a matrix."""
    side = round(len(rows) ** 0.5)
    values = [row[measure] for row in rows]
    return [values[start : start + side] for start in range(0, len(values), side)]
