"""Whether wishes can be kept at all, told from the shapes of the matrices before anything is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workbench.allocation.items import Item
from workbench.allocation.planning import Wish, check_budget, items_of
from workbench.allocation.schema import AFFINE_METHODS
from workbench.allocation.solution import budget_range
from workbench.allocation.ties import tie
from workbench.errors import WorkbenchError
from workbench.quantizers.driving.schemes import complete_scheme
from workbench.scheme import Scheme, affine_stored_bits

Offer = tuple[str, list[int], dict[str, Any]]
"""A quantizer, its widths and its options."""


def check_possible(
    chosen: Sequence[Offer], grid: Mapping[str, Any], inspected: Mapping[str, Any], wishes: Sequence[Wish]
) -> None:
    """Refuse wishes that no table of these choices could keep.

    Where a method's size depends on what it finds, only a budget that is below anything it could take is refused.

    Args:
        chosen: what there is to choose from.
        grid: `group_size` and `symmetric`.
        inspected: the document of `inspect`.
        wishes: limits, locks, ties and budgets.

    Raises:
        WorkbenchError: an unfit choice, a lock, limit or tie that cannot be kept, a budget out of range.
    """
    exact = all(AFFINE_METHODS.get(name) == 0 for name, _, _ in chosen)
    for wish in wishes:
        items = items_by_shapes(chosen, grid, inspected, wish)
        if exact:
            check_budget(items, wish)
        elif wish.request.bits < (least := budget_range(tie(items, wish.ties))[0]):
            raise WorkbenchError(
                f"a budget of {wish.request.bits:g} stored bits per weight cannot be met; codes and scales of these "
                f"choices alone take {least:g}"
            )


def items_by_shapes(
    chosen: Sequence[Offer], grid: Mapping[str, Any], inspected: Mapping[str, Any], wish: Wish
) -> tuple[Item, ...]:
    """What the wishes leave to choose from, every choice at the least that it can take and at no cost.

    Raises:
        WorkbenchError: an unfit choice, a lock or limit that leaves a matrix nothing.
    """
    schemes = [
        complete_scheme(Scheme(name, bits, grid["group_size"], grid["symmetric"], settings))
        for name, widths, settings in chosen
        for bits in widths
    ]
    cells = [cell for matrix in inspected["matrices"] for cell in _cells(matrix, schemes)]
    return items_of({"cells": cells}, inspected["matrices"], wish)


def _cells(matrix: Mapping[str, Any], schemes: Sequence[Scheme]) -> Iterator[dict[str, Any]]:
    """A row a scheme with the least that it can take, and no cost."""
    rows, columns = matrix["shape"]
    for scheme in schemes:
        facts = {"quantizer": scheme.quantizer, "bits": scheme.bits, "symmetric": scheme.symmetric}
        least = float(scheme.bits or 1)
        if scheme.quantizer in AFFINE_METHODS:
            least = affine_stored_bits(rows, columns, scheme.bits or 1, scheme.group_size, scheme.symmetric)
        yield {"matrix": matrix["name"], "group_size": scheme.group_size, **facts, "stored_bits": least, "value": 0.0}
