"""The plans that solvers give for one budget: on every table, between two of them, and with fused matrices alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.allocation.blend import blend
from workbench.allocation.planning import Wish, solved_plan
from workbench.allocation.ties import fused_groups
from workbench.errors import WorkbenchError
from workbench.studies.candidates import Candidate

Table = Mapping[str, Any]

LABELS = {"isolated": "isolated changes", "joint-path": "joint-path shares", "second-order": "second order"}
ENDS = ("isolated", "joint-path")
"""A matrix changed with all others whole, and with all others changed alike: what a plan does lies between them."""

PARTS = (0.75, 0.5)
"""How much of the first end the tables between the two take."""


def solved_candidates(tables: Sequence[Table], inspected: Mapping[str, Any], wish: Wish) -> list[Candidate]:
    """The solver's plan on every table, with the ties of the wish alone and with all fused matrices alike.

    Fewer free choices follow the noise and the missing cross terms of a table less, so that a plan with fused matrices
    alike may cost less although its sum is higher; where the locks or the budget leave no such plan there is none.

    Args:
        tables: sensitivity documents of the model.
        inspected: the document of `inspect`.
        wish: budget and what every plan must keep.

    Raises:
        WorkbenchError: the wish cannot be kept.
    """
    every = [*((_label(table), table) for table in tables), *_between(tables)]
    free = [Candidate(f"solved on {label}", False, solved_plan(table, inspected, wish)) for label, table in every]
    return [*free, *_alike(every, inspected, wish)]


def _label(table: Table) -> str:
    by = str(table.get("by") or "its table")
    return LABELS.get(by, by)


def _between(tables: Sequence[Table]) -> list[tuple[str, Table]]:
    """Tables between isolated changes and joint-path shares, where both were measured on the loss."""
    held = {table.get("by"): table for table in tables if table.get("measure") == "loss"}
    if not all(end in held for end in ENDS):
        return []
    first, second = (held[end] for end in ENDS)
    named = " and ".join(LABELS[end] for end in ENDS)
    return [(f"{named}, {part:.0%} of the first", blend(first, second, part)) for part in PARTS]


def _alike(every: Sequence[tuple[str, Table]], inspected: Mapping[str, Any], wish: Wish) -> list[Candidate]:
    groups = fused_groups(inspected["matrices"])
    tied = {name for group in wish.ties for name in group}
    more = tuple(group for group in groups if not tied.intersection(group))
    found: list[Candidate] = []
    for label, table in every if more else ():
        try:
            plan = solved_plan(table, inspected, dataclasses.replace(wish, ties=(*wish.ties, *more)))
        except WorkbenchError:  # locks that differ inside a group, or a budget that only unequal widths keep
            continue
        found.append(Candidate(f"solved on {label}, fused matrices alike", False, plan, tied=True))
    return found
