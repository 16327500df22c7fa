"""llama.cpp: lines `pattern=type` for `--tensor-type-file`, one a matrix, anchored, without comments.

Its types have sizes of their own, so the same budget buys another plan: with the cells of a sensitivity sweep the
budget is solved again at its sizes, else every width becomes the nearest type.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from workbench.allocation.cells import read_items, rows_of
from workbench.allocation.export.gguf_names import gguf_names
from workbench.allocation.export.gguf_types import F16, GgufType, nearest
from workbench.allocation.export.subject import SUFFIX, Losses, Subject, anchored, counted
from workbench.allocation.items import Choice, Item
from workbench.allocation.plan import check_identity
from workbench.allocation.schema import Plan, TensorPlan, stored_bits
from workbench.allocation.solve import budget_range, solve_milp
from workbench.scheme import UNTOUCHED

TARGET = "llama.cpp"
Types = dict[str, GgufType]


def export(subject: Subject, cells: Mapping[str, Any] | None = None) -> tuple[str, Losses]:
    """The lines.

    Args:
        subject: the plan.
        cells: a sensitivity document of the same model; the budget is then solved again.

    Raises:
        WorkbenchError: names that GGUF does not have, cells of another model, a budget below the smallest types.
    """
    plan = subject.plan
    names = gguf_names(plan.tensors, plan.model.architecture)
    types = solve_again(plan, cells) if cells is not None else nearest_types(plan)
    text = "".join(f"{anchored(names[name])}={one.name}\n" for name, one in types.items())
    losses = ["group sizes, methods, steps and codes are not carried: each type brings its own"]
    losses += _sizes(plan, types) if cells is None else _solved(plan, types)
    losses += _raised(plan, types)
    untouched = [f"{name}{SUFFIX}" for name in subject.heads] + ["the embedding"]
    losses.append(f"{' and '.join(untouched)} take the type that llama.cpp gives them by itself")
    return text, losses


def nearest_types(plan: Plan) -> Types:
    """The nearest type of every width."""
    return {name: nearest(one.bits, one.shape[1]) for name, one in plan.tensors.items()}


def solve_again(plan: Plan, cells: Mapping[str, Any]) -> Types:
    """The types of least summed cost within the plan's budget, each at its own size, costing what its width cost."""
    check_identity(cells.get("identity") or {}, plan.model.model_dump(), "the sensitivity table")
    matrices = [{"name": name, "shape": one.shape} for name, one in plan.tensors.items()]
    items = [_item(item, plan.tensors[item.name]) for item in read_items(rows_of(cells), matrices=matrices)]
    solved = solve_milp(items, min(_budget(plan), budget_range(items)[1]))
    return {name: nearest(solved.choices[name].bits, one.shape[1]) for name, one in plan.tensors.items()}


def _item(item: Item, tensor: TensorPlan) -> Item:
    """The same matrix with types to choose from; what the plan leaves at 16 bits stays there."""
    columns = tensor.shape[1]
    if tensor.bits == UNTOUCHED:
        untouched = Choice("f16", UNTOUCHED, -1, True, round(F16.size * item.numel), 0.0)
        return dataclasses.replace(item, choices=(untouched,))
    best: dict[str, Choice] = {}
    for choice in item.choices:
        one = nearest(choice.bits, columns)
        held = best.get(one.name)
        # several widths may become one type: the widest of them is nearest to it, the cheapest of that width its price
        if held is None or (choice.bits, -choice.value) > (held.bits, -held.value):
            best[one.name] = dataclasses.replace(choice, size=round(one.size * item.numel))
    return dataclasses.replace(item, choices=tuple(sorted(best.values(), key=lambda c: (c.size, c.value))))


def _budget(plan: Plan) -> float:
    """The budget that was asked for, as a mean of stored bits."""
    asked = plan.budget
    if asked.kind == "bits_per_weight":
        return asked.requested
    numel = sum(one.numel for one in plan.tensors.values())
    return 8 * (asked.requested - (asked.other_bytes or 0)) / numel


def mean_size(plan: Plan, types: Types) -> float:
    """Bits a weight that llama.cpp stores."""
    sizes = math.fsum(types[name].size * one.numel for name, one in plan.tensors.items())
    return sizes / sum(one.numel for one in plan.tensors.values())


def _sizes(plan: Plan, types: Types) -> Losses:
    theirs, ours = mean_size(plan, types), stored_bits(plan)
    return [
        f"the size changes: {theirs:.3f} bits a weight in llama.cpp's types, {ours:.3f} as planned; --from CELLS "
        "solves the budget again at its sizes"
    ]


def _solved(plan: Plan, types: Types) -> Losses:
    return [
        f"the budget of {_budget(plan):g} was solved again at llama.cpp's sizes and takes {mean_size(plan, types):.3f} "
        "bits a weight; each type is priced by our own rounding at its width, which is not its own"
    ]


def _raised(plan: Plan, types: Types) -> Losses:
    """Types of more bits than planned, where the columns fit no block of a smaller one, or there is none."""
    raised = [name for name, one in plan.tensors.items() if nearest(one.bits, one.shape[1]).bits != one.bits]
    kept = [name for name in raised if types[name] == nearest(plan.tensors[name].bits, plan.tensors[name].shape[1])]
    if not kept:
        return []
    first = plan.tensors[kept[0]]
    return [
        f"{counted(kept)} get more bits than planned: no type of {first.bits} bits has blocks that divide "
        f"{first.shape[1]} columns, so {types[kept[0]].name} is taken"
    ]
