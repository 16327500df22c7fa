"""llama.cpp: types by width and shape, sizes against the package's own table, the budget solved again."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from planned_families import inspected, plan_of

from workbench.allocation.export import export
from workbench.allocation.export.gguf_names import by_table
from workbench.allocation.export.gguf_types import TYPES, nearest
from workbench.allocation.importing.assemble import Wanted
from workbench.allocation.plan import Plan
from workbench.errors import WorkbenchError
from workbench.scheme import affine_stored_bits

WIDTHS = (2, 3, 4, 8)


def told(text: str) -> dict[str, str]:
    return {line.rpartition("=")[0]: line.rpartition("=")[2] for line in text.splitlines()}


def cells_of(plan: Plan, values: dict[int, float]) -> dict[str, Any]:
    """A sensitivity document in which a matrix costs its place in the plan times a value of the width."""
    rows = [
        {
            "matrix": name,
            "bits": bits,
            "group_size": 64,
            "quantizer": "rtn",
            "symmetric": True,
            "parameters": one.numel,
            "stored_bits": affine_stored_bits(*one.shape, bits, 64, True),
            "value": (place + 1) * value,
        }
        for place, (name, one) in enumerate(plan.tensors.items())
        for bits, value in values.items()
    ]
    return {"cells": rows, "identity": plan.model.model_dump()}


@pytest.mark.parametrize(
    ("bits", "columns", "expected"),
    [
        *((1, 256, "q2_K"), (2, 256, "q2_K"), (3, 512, "q3_K"), (4, 256, "q4_K"), (8, 256, "q8_0"), (16, 256, "f16")),
        *((2, 64, "q4_0"), (4, 96, "q4_0"), (8, 64, "q8_0"), (4, 172, "f16"), (16, 172, "f16")),
    ],
)
def test_the_nearest_type_has_no_fewer_bits_and_blocks_that_divide_the_columns(
    bits: int, columns: int, expected: str
) -> None:
    assert nearest(bits, columns).name == expected


def test_sizes_and_names_are_those_of_the_package() -> None:
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    for one in TYPES:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[one.name.upper()]]
        assert (8 * size / block, block) == (one.size, one.block)
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 11)
    for matrix in inspected("llama")["matrices"]:
        assert by_table(matrix["name"]) == table.get_name(matrix["name"], try_suffixes=(".weight",))


def test_types_that_get_more_bits_than_planned_are_said() -> None:
    plan = plan_of("llama", (Wanted(1, 64, True),))
    assert set(told(export(plan, "llama.cpp").text).values()) == {"q2_K"}
    assert any("get more bits than planned: no type of 1 bits" in line for line in export(plan, "llama.cpp").losses)


def test_the_budget_is_solved_again_as_an_exhaustive_search_solves_it() -> None:
    plan = plan_of("llama", (Wanted(4, 64, True),) * 12 + (Wanted(16),))  # 4.25 stored bits but for one at 16
    values = {2: 1.0, 3: 0.2, 4: 0.05, 8: 0.0}
    found = told(export(plan, "llama.cpp", cells=cells_of(plan, values)).text)
    free = [name for name, one in plan.tensors.items() if one.bits != 16]
    size = {"q2_K": 2.625, "q3_K": 3.4375, "q4_K": 4.5, "q8_0": 8.5}
    width = dict(zip(WIDTHS, size, strict=True))
    budget = plan.budget.requested * sum(one.numel for one in plan.tensors.values())
    fixed = sum(16 * one.numel for one in plan.tensors.values() if one.bits == 16)
    tries = itertools.product(WIDTHS, repeat=3)
    # the search is over the three dearest and three cheapest matrices, all others as they were solved
    names = {name: found[f"^{by_table(name).replace('.', chr(92) + '.')}$"] for name in plan.tensors}
    moved = [free[0], free[1], free[-1]]
    rest = fixed + sum(size[names[name]] * plan.tensors[name].numel for name in free if name not in moved)
    place = {name: index + 1 for index, name in enumerate(plan.tensors)}

    def cost(widths: tuple[int, ...]) -> float:
        return sum(place[name] * values[bits] for name, bits in zip(moved, widths, strict=True))

    def fits(widths: tuple[int, ...]) -> bool:
        taken = sum(size[width[b]] * plan.tensors[n].numel for n, b in zip(moved, widths, strict=True))
        return rest + taken <= budget

    back = {kind: bits for bits, kind in width.items()}
    best = min((one for one in tries if fits(one)), key=cost)
    assert cost(tuple(back[names[name]] for name in moved)) == pytest.approx(cost(best))
    total = fixed + sum(size[names[name]] * plan.tensors[name].numel for name in free)
    assert total <= budget
    assert names[next(name for name, one in plan.tensors.items() if one.bits == 16)] == "f16"


def test_a_generous_budget_takes_the_largest_types_and_a_small_one_is_refused_with_the_range() -> None:
    plan = plan_of("llama", (Wanted(8, 32, True),))  # 8.5 stored bits
    document = cells_of(plan, {2: 1.0, 4: 0.1})
    assert set(told(export(plan, "llama.cpp", cells=document).text).values()) == {"q4_K"}
    low = plan_of("llama", (Wanted(2, 64, True),))  # 2.25 stored bits; q2_K takes 2.625
    with pytest.raises(WorkbenchError, match=r"below the smallest.*between 2\.625 and 4\.5"):
        export(low, "llama.cpp", cells=document)


def test_cells_of_another_model_are_refused() -> None:
    plan = plan_of("llama")
    document = cells_of(plan, {2: 1.0, 4: 0.1})
    document["identity"] = {**document["identity"], "weights_sha256": "9" * 64}
    with pytest.raises(WorkbenchError, match="the sensitivity table is for another model"):
        export(plan, "llama.cpp", cells=document)


def test_cells_for_any_other_target_are_said_to_be_of_no_use() -> None:
    plan = plan_of("llama")
    assert export(plan, "torchao", cells=cells_of(plan, {4: 0.1})).losses[-1].startswith("--from is for llama.cpp")
