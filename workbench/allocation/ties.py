"""Matrices that must share a scheme because an engine fuses them: q, k and v of a layer, gate and up of an MLP.

Tied matrices are one item to the solver, their sizes and values summed; its choices are the schemes that all of them
have. What the tie costs is the difference to the plan without it, never below zero where both are optimal.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.allocation.items import Choice, Item
from workbench.allocation.solution import Solution
from workbench.errors import WorkbenchError, shown

Groups = tuple[tuple[str, ...], ...]
FUSED = "fused"
"""The word for `fused_groups` where a person names ties."""


@dataclass(frozen=True, slots=True)
class TiedItem(Item):
    """Several matrices as one item; `parts` are their own items, in order."""

    parts: tuple[Item, ...] = ()


def fused_groups(matrices: Sequence[Mapping[str, Any]]) -> Groups:
    """The matrices that read the same input, as engines fuse them: in a Llama q, k, v and gate, up of every layer.

    Where a family runs attention and MLP side by side, the first matrix of the MLP reads that input too and is tied
    with them, which is more than an engine asks for.

    Args:
        matrices: `name` and `site` of each, as `inspect` prints them.
    """
    found: dict[str, list[str]] = {}
    for matrix in matrices:
        found.setdefault(matrix["site"], []).append(matrix["name"])
    return tuple(tuple(names) for names in found.values() if len(names) > 1)


def read_ties(words: Sequence[str], matrices: Sequence[Mapping[str, Any]]) -> Groups:
    """Groups from `fused` and from lists of names with commas between them.

    Raises:
        WorkbenchError: an unknown name, a single name, or a name in two groups.
    """
    names = [matrix["name"] for matrix in matrices]
    groups: list[tuple[str, ...]] = []
    for word in words:
        groups.extend(fused_groups(matrices) if word.strip() == FUSED else [_names(word, names)])
    taken: set[str] = set()
    for name in (name for group in groups for name in group):
        if name in taken:
            raise WorkbenchError(f"{shown(name)} stands in two ties; name every matrix once")
        taken.add(name)
    return tuple(groups)


def _names(word: str, known: Sequence[str]) -> tuple[str, ...]:
    group = tuple(dict.fromkeys(name.strip() for name in word.split(",") if name.strip()))
    strange = next((name for name in group if name not in known), None)
    if strange is not None:
        near = ", ".join(difflib.get_close_matches(strange[:200], known, n=3, cutoff=0.0))
        raise WorkbenchError(f"there is no matrix {shown(strange)} to tie; the nearest names are: {near}")
    if len(group) < 2:
        raise WorkbenchError(f"the tie {shown(word)} names {len(group)} matrices; give two or more, or the word fused")
    return group


def tie(items: Sequence[Item], groups: Groups) -> tuple[Item, ...]:
    """The items with every group as one, in the place of its first member.

    Raises:
        WorkbenchError: the members of a group have no scheme in common, for example under different locks.
    """
    group_of = {name: group for group in groups for name in group}
    by_name = {item.name: item for item in items}
    tied: dict[tuple[str, ...], Item] = {}
    for item in items:
        group = group_of.get(item.name, (item.name,))
        if group not in tied:
            tied[group] = _join([by_name[name] for name in group]) if len(group) > 1 else item
    return tuple(tied.values())


def _join(parts: Sequence[Item]) -> TiedItem:
    held = [{choice.scheme: choice for choice in item.choices} for item in parts]
    common = [scheme for scheme in held[0] if all(scheme in other for other in held)]
    if not common:
        listed = ", ".join(shown(item.name) for item in parts)
        raise WorkbenchError(f"the tied matrices {listed} have no width in common that was measured and is allowed")
    choices = [_sum([other[scheme] for other in held]) for scheme in common]
    return TiedItem(
        name=parts[0].name,
        numel=sum(item.numel for item in parts),
        choices=tuple(sorted(choices, key=lambda choice: (choice.size, choice.value))),
        locked=any(item.locked for item in parts),
        parts=tuple(parts),
    )


def _sum(choices: Sequence[Choice]) -> Choice:
    size, value = sum(choice.size for choice in choices), sum(choice.value for choice in choices)
    return dataclasses.replace(choices[0], size=size, value=value)


def untie(solution: Solution, items: Sequence[Item]) -> Solution:
    """The same solution with a choice for every matrix.

    Args:
        solution: one of the tied items.
        items: what `tie` made.
    """
    choices: dict[str, Choice] = {}
    locks: dict[str, int] = {}
    for item in items:
        taken = solution.choices[item.name]
        for part in item.parts if isinstance(item, TiedItem) else (item,):
            choices[part.name] = next(choice for choice in part.choices if choice.scheme == taken.scheme)
            if part.locked:
                locks[part.name] = choices[part.name].bits
    ties = tuple(tuple(part.name for part in item.parts) for item in items if isinstance(item, TiedItem))
    return dataclasses.replace(solution, choices=choices, locks=locks, ties=ties)
