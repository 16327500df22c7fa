"""The costs behind docs/scale.md: sizes against published ones, tables in the page against the model."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks import scale_model
from benchmarks.scale_costs import Device, Place, Shape, Text, crew_of, plan
from benchmarks.scale_seconds import (
    alone_seconds,
    forward_seconds,
    part_seconds,
    passes_of,
    streamed_bytes,
    streamed_seconds,
)
from benchmarks.scale_setting import H200, PLACES, SHAPES, TEXT
from benchmarks.scale_tables import predicted_parts, replayed, tables
from benchmarks.scheduling import bounds, simulate

# weights of Llama 2 as its checkpoints hold them, norms left out: 2 a block and one at the end, of hidden size
PUBLISHED = {"7B": 6_738_415_616, "13B": 13_015_864_320, "70B": 68_976_648_192}
SLOW = Device("slow", 1e12, 1e10, 40e9, 1e9)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda one: one.name)
def test_sizes_are_the_published_ones(shape: Shape) -> None:
    norms = (2 * shape.layers + 1) * shape.hidden
    assert shape.parameters + norms == PUBLISHED[shape.name]
    assert shape.cells == shape.layers * 7 * 4


def test_the_page_holds_what_the_model_computes() -> None:
    text = scale_model.DOCUMENT.read_text(encoding="utf-8")
    assert scale_model.filled(text, tables(scale_model.read_measured())) == text, (
        "run python -m benchmarks.scale_model --write"
    )


def test_a_forward_takes_the_larger_of_arithmetic_and_traffic() -> None:
    shape = SHAPES[0]
    few, many = Text(16, 16, 16), Text(65_536, 2048, 8192)
    assert forward_seconds(shape, H200, few) == pytest.approx(shape.bytes_behind(0) / H200.traffic)
    arithmetic = shape.operations(many.tokens, many.window) / H200.operations
    assert forward_seconds(shape, H200, many) == pytest.approx(arithmetic)
    products = 2 * many.tokens * (shape.parameters - shape.head)
    assert shape.operations(many.tokens, many.window) == pytest.approx(products, rel=0.06), "attention is the rest"


def test_a_streamed_table_waits_for_the_link_or_for_the_arithmetic() -> None:
    shape, text = SHAPES[0], Text(2048, 2048, 2048)
    linked = sum(streamed_seconds(shape, dataclasses.replace(H200, link=1e9), text))
    assert linked == pytest.approx(streamed_bytes(shape, text) / 1e9)
    computed = sum(streamed_seconds(shape, dataclasses.replace(H200, link=1e15), text))
    alone = sum(alone_seconds(shape, H200, text))
    assert 0.9 * alone < computed < alone, "it stands before its blocks once and not block by block"
    cells = [block for _, group in passes_of(shape) for block in group]
    assert len(cells) == shape.cells
    assert cells == sorted(cells)


def test_parts_grow_shorter_towards_the_end_of_the_model() -> None:
    parts = part_seconds(SHAPES[0], H200, TEXT)
    assert len(parts) == 32 * 7
    assert parts == sorted(parts, reverse=True)
    whole = forward_seconds(SHAPES[0], H200, TEXT)
    assert parts[0] == pytest.approx(5 * whole)
    assert whole < parts[-1] < 1.4 * whole


def test_a_model_is_put_where_it_fits() -> None:
    seven, _, seventy = SHAPES
    machine = Place("eight", 2, 8, 2e9)
    assert (plan(seven, machine, H200, TEXT).devices, plan(seven, machine, H200, TEXT).workers) == (1, 16)
    held = plan(seventy, machine, H200, TEXT, packed=True)
    assert held.devices * 0.92 * H200.memory >= held.need > (held.devices - 1) * 0.92 * H200.memory
    assert held.workers == 2 * (8 // held.devices)
    alone = plan(seventy, dataclasses.replace(machine, machines=1, devices=1), SLOW, TEXT)
    assert alone.streamed
    assert alone.need < SLOW.memory


def test_the_whole_run_lies_within_the_bounds_of_scheduling() -> None:
    for shape in SHAPES:
        planned = plan(shape, PLACES[2], H200, TEXT, packed=True)
        parts = part_seconds(shape, H200, TEXT)
        least, most = bounds(parts, planned.workers)
        took = simulate(parts, crew_of(planned)).makespan - planned.load
        assert least <= took <= 2 * most


def test_what_was_measured_is_met() -> None:
    held = scale_model.read_measured()
    for one in held["cells"]:
        assert sum(predicted_parts(one)) == pytest.approx(sum(one["parts"]), rel=0.5)
    real = held["two_workers"]
    assert real["workers"] == 2
    assert replayed(real) == pytest.approx(real["makespan"], rel=0.25)
