"""From sensitivity rows to items: what is read, what is refused, and that no value is changed unless asked."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.allocation.solve import read_items, restrict, rows_of
from workbench.errors import WorkbenchError

SHAPES = {"a": [8, 64], "b": [16, 64]}
MATRICES = [{"name": name, "shape": shape} for name, shape in SHAPES.items()]
VALUES = {"a": {2: 0.5, 4: 0.1}, "b": {2: 0.3, 4: -0.01}}


def test_items_hold_sizes_and_values_from_small_to_large(make_rows: Callable[..., Any]) -> None:
    a, b = read_items(reversed(make_rows(VALUES, SHAPES)))[::-1]
    assert (a.name, a.numel, b.numel) == ("a", 512, 1024)
    assert [(c.bits, c.size, c.value) for c in a.choices] == [(2, 512 * 2.5, 0.5), (4, 512 * 4.5, 0.1)]
    assert [c.value for c in b.choices] == [0.3, -0.01]


def test_what_the_shape_fixes_may_be_left_to_it(make_rows: Callable[..., Any]) -> None:
    rows = make_rows(VALUES, SHAPES)
    bare = [{k: v for k, v in row.items() if k not in ("parameters", "stored_bits", "symmetric")} for row in rows]
    assert read_items(bare, matrices=MATRICES) == read_items(rows)
    with pytest.raises(
        WorkbenchError, match="a cell of the sensitivity table lacks 'parameters'; it has: matrix, bits"
    ):
        read_items(bare)
    other = [row | {"quantizer": "squeezellm"} for row in bare]
    with pytest.raises(WorkbenchError, match="lacks 'stored_bits'"):
        read_items(other, matrices=MATRICES)


def test_numbers_of_numpy_are_numbers(make_rows: Callable[..., Any]) -> None:
    rows = make_rows(VALUES, SHAPES)
    boxed = [
        row | {"bits": np.int64(row["bits"]), "value": np.float64(row["value"]), "symmetric": np.bool_(False)}
        for row in rows
    ]
    assert read_items(boxed) == read_items(rows)


def test_a_null_value_takes_the_scheme_out_of_the_choices(make_rows: Callable[..., Any]) -> None:
    a, b = read_items(make_rows(VALUES | {"a": {2: None, 4: 0.1}}, SHAPES))
    assert [c.bits for c in a.choices] == [4]
    assert [c.bits for c in b.choices] == [2, 4]
    with pytest.raises(WorkbenchError, match="no value of 'a' at any width"):
        read_items(make_rows(VALUES | {"a": {2: None}}, SHAPES))
    with pytest.raises(WorkbenchError, match="no value of 'a' at widths 2, 3"):
        read_items(make_rows(VALUES | {"a": {2: None, 4: 0.1}}, SHAPES), widths=[3, 2])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"value": float("nan")}, "'value' has value nan in the cell of 'a'; write null for what is not known"),
        ({"value": float("inf")}, "'value' has value inf in the cell of 'a'"),
        ({"value": "0.5"}, "'value' has value '0.5' in a cell"),
        ({"bits": 5}, "the cell of 'a' has bits 5; choose one of: 1, 2, 3, 4, 8"),
        ({"bits": 2.0}, "'bits' has value 2.0 in a cell"),
        ({"bits": True}, "'bits' has value True in a cell"),
        ({"symmetric": 0}, "'symmetric' has value 0 in a cell"),
        ({"stored_bits": -1.0}, "'stored_bits' has value -1.0 in the cell of 'a'; it should be above zero"),
        ({"stored_bits": float("nan")}, "'stored_bits' has value nan"),
        ({"parameters": 0}, "the cell of 'a' has 0 parameters; it should be a positive number"),
        ({"parameters": 7}, "'a' has 7 parameters in one cell and 512 in another"),
        ({"bits": 4}, "the cell of 'a' at 4 bits stands twice"),
        ({"matrix": 3}, "'matrix' has value 3"),
    ],
)
def test_bad_cells(make_rows: Callable[..., Any], change: dict[str, Any], sentence: str) -> None:
    rows = make_rows(VALUES, SHAPES)
    with pytest.raises(WorkbenchError) as caught:
        read_items([rows[0] | change, *rows[1:]])
    assert sentence in str(caught.value)


def test_the_table_is_about_the_matrices_of_the_model_and_no_others(make_rows: Callable[..., Any]) -> None:
    rows = make_rows(VALUES, SHAPES)
    with pytest.raises(WorkbenchError, match="lacks 1 of the 2 matrices, first 'b'"):
        read_items(rows[:2], matrices=MATRICES)
    with pytest.raises(WorkbenchError, match="a matrix that the model does not have: 'b'"):
        read_items(rows, matrices=MATRICES[:1])
    with pytest.raises(WorkbenchError, match="the cell of 'a' has 512 parameters; it should be 256"):
        read_items(rows, matrices=[{"name": "a", "shape": [4, 64]}, MATRICES[1]])
    with pytest.raises(WorkbenchError, match="the sensitivity table has no cells"):
        read_items([])


@pytest.mark.parametrize("document", [None, [], {}, {"cells": {}}, {"cells": [1]}])
def test_a_document_without_rows(document: Any) -> None:
    with pytest.raises(WorkbenchError, match="should be a JSON object whose"):
        rows_of(document)


def test_the_envelope_is_the_nearest_table_that_does_not_rise(make_rows: Callable[..., Any]) -> None:
    # 3 bits came out worse than 2 by noise: both become their mean, the others stay (pool adjacent violators by hand).
    table = {"a": {2: 0.4, 3: 0.6, 4: 0.1, 8: 0.0}}
    (plain,) = read_items(make_rows(table, SHAPES))
    (smooth,) = read_items(make_rows(table, SHAPES), envelope=True)
    assert [c.value for c in plain.choices] == [0.4, 0.6, 0.1, 0.0]
    assert [c.value for c in smooth.choices] == pytest.approx([0.5, 0.5, 0.1, 0.0])


@given(values=st.lists(st.floats(-5, 5), min_size=5, max_size=5))
def test_the_envelope_never_rises_and_leaves_falling_tables_alone(
    make_rows: Callable[..., Any], values: list[float]
) -> None:
    widths = (1, 2, 3, 4, 8)
    (item,) = read_items(make_rows({"a": dict(zip(widths, values, strict=True))}, SHAPES), envelope=True)
    fitted = [choice.value for choice in item.choices]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(fitted))
    assert sum(fitted) == pytest.approx(sum(values), abs=1e-9)
    if values == sorted(values, reverse=True):
        assert fitted == pytest.approx(values)


def test_locks_and_limits(make_rows: Callable[..., Any]) -> None:
    items = read_items(make_rows(VALUES, SHAPES))
    a, b = restrict(items, locks={"a": 2}, floor=4)
    assert (a.widths, a.locked) == ([2], True)
    assert (b.widths, b.locked) == ([4], False)
    assert [item.widths for item in restrict(items, ceiling=3)] == [[2], [2]]


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"locks": {"z": 4}}, "there is no matrix 'z' to lock; the nearest names are: "),
        ({"locks": {"<b>" * 5000: 4}}, "there is no matrix '<b><b>"),
        ({"locks": {"a": 3}}, "the lock of 'a' has value 3; choose one of: 2, 4"),
        ({"floor": 5}, "'a' has no width from 5 to 16 bits; its widths are: 2, 4"),
        ({"floor": 3, "ceiling": 3}, "'a' has no width from 3 to 3 bits; its widths are: 2, 4"),
    ],
)
def test_bad_locks_and_limits(make_rows: Callable[..., Any], keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(WorkbenchError) as caught:
        restrict(read_items(make_rows(VALUES, SHAPES)), **keywords)
    assert str(caught.value).startswith(sentence)
    assert len(str(caught.value)) < 400
