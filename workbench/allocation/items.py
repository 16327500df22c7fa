"""What a solver chooses from: for every matrix the schemes that were measured, what each takes and what each costs."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.errors import WorkbenchError, shown
from workbench.scheme import UNTOUCHED

SchemeKey = tuple[str, int, int, bool]


@dataclass(frozen=True, slots=True)
class Choice:
    """One scheme for one matrix.

    Attributes:
        size: bits that the matrix takes under it in all, scales and zero points included.
        value: what it costs in the unit of the sensitivity table; smaller is better, below zero is allowed.
    """

    quantizer: str
    bits: int
    group_size: int
    symmetric: bool
    size: int
    value: float

    @property
    def scheme(self) -> SchemeKey:
        """What is the same in two matrices that are treated alike."""
        return self.quantizer, self.bits, self.group_size, self.symmetric


@dataclass(frozen=True, slots=True)
class Item:
    """One matrix and its choices, from small to large; `locked` when a person has fixed its width."""

    name: str
    numel: int
    choices: tuple[Choice, ...]
    locked: bool = False

    @property
    def widths(self) -> list[int]:
        """The widths among the choices."""
        return sorted({choice.bits for choice in self.choices})


def restrict(
    items: Sequence[Item],
    *,
    locks: Mapping[str, int] | None = None,
    floor: int | None = None,
    ceiling: int | None = None,
) -> tuple[Item, ...]:
    """Items with fewer choices: a fixed width for the locked matrices, a least and a most width for all the others.

    Raises:
        WorkbenchError: a lock of an unknown matrix or on a width that was not measured, a floor and a ceiling that
            leave a matrix nothing.
    """
    locks = locks or {}
    names = [item.name for item in items]
    strange = next((name for name in locks if name not in names), None)
    if strange is not None:
        near = ", ".join(difflib.get_close_matches(strange[:200], names, n=3, cutoff=0.0))
        raise WorkbenchError(f"there is no matrix {shown(strange)} to lock; the nearest names are: {near}")
    low, high = 1 if floor is None else floor, UNTOUCHED if ceiling is None else ceiling
    return tuple(_lock(i, locks[i.name]) if i.name in locks else _limit(i, low, high) for i in items)


def _lock(item: Item, bits: int) -> Item:
    kept = tuple(choice for choice in item.choices if choice.bits == bits)
    if not kept:
        choices = ", ".join(map(str, item.widths))
        raise WorkbenchError(f"the lock of {shown(item.name)} has value {shown(bits)}; choose one of: {choices}")
    return dataclasses.replace(item, choices=kept, locked=True)


def _limit(item: Item, low: int, high: int) -> Item:
    kept = tuple(choice for choice in item.choices if low <= choice.bits <= high)
    if not kept:
        choices = ", ".join(map(str, item.widths))
        raise WorkbenchError(f"{shown(item.name)} has no width from {low} to {high} bits; its widths are: {choices}")
    return dataclasses.replace(item, choices=kept)
