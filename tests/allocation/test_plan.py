"""The format: what is written is read and written again to the byte, averages follow from the tensors."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.allocation.facts import Provenance
from workbench.allocation.plan import (
    check_against,
    diff,
    dumps,
    nominal_bits,
    parse,
    read_plan,
    scheme_of,
    schemes,
    stored_bits,
    to_document,
)
from workbench.allocation.schema import SCHEMA_FILE, Plan, json_schema
from workbench.errors import WorkbenchError
from workbench.scheme import Scheme, affine_stored_bits

Q, K, DOWN, UP = (
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.0.mlp.<b>up</b>_proj.weight",
)


def tensor(rows: int, columns: int, bits: int = 4, **changes: Any) -> dict[str, Any]:
    stored = affine_stored_bits(rows, columns, bits, 64, False)
    return {
        "shape": [rows, columns],
        "numel": rows * columns,
        "method": "rtn",
        "bits": bits,
        "group_size": 64,
        "symmetric": False,
        "storage_bits": round(rows * columns * stored),
        **changes,
    }


def document(**tensors: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": "wb.allocation",
        "schema_version": "1.0.0",
        "model": {"id": "m", "architecture": "A", "dtype": "float32", "config_sha256": "1" * 64},
        "budget": {"requested": 4.5},
        "tensors": tensors or {"a.weight": tensor(8, 64)},
    }


def test_the_golden_file_reads_and_writes_to_the_same_bytes(golden: bytes) -> None:
    plan = parse(golden)
    assert dumps(plan).encode() == golden
    assert set(plan.tensors) == {Q, K, DOWN, UP}
    assert plan.tensors[K].method_options == {"damp": 0.01, "act_order": True, "clip": None}


def test_a_file_of_the_first_version_reads_as_the_same_plan(golden: bytes) -> None:
    first = parse((Path(__file__).parent / "data" / "plan-1.0.0.json").read_bytes())
    assert first.tensors == parse(golden).tensors
    assert first.budget.other_bytes is None
    assert first.solver is not None
    assert first.solver.tie_price is None


def test_what_this_program_does_not_know_survives_outside_the_closed_parts(golden: bytes) -> None:
    written = json.loads(dumps(parse(golden)))
    assert written["x_other_tool"] == {"kept": [1, 1.0, 1e-07, "<script>"]}
    assert written["calibration"]["note"] == "für später"
    assert written["solver"]["left_out"] == [[Q, 2]]


def test_the_shipped_json_schema_is_the_one_of_the_types() -> None:
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json_schema()


def test_an_outside_validator_agrees_with_the_types(golden: bytes) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    assert validator.is_valid(json.loads(golden))
    for path, value in [
        (("tensors", Q, "bits"), 99),
        (("tensors", Q, "group_size"), 0),
        (("tensors", Q, "colour"), "red"),
        (("model", "config_sha256"), "x"),
        (("schema_version",), "2.0.0"),
    ]:
        broken = json.loads(golden)
        place = broken
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        assert not validator.is_valid(broken), path
        with pytest.raises(WorkbenchError):
            read_plan(broken)


def test_averages_are_means_weighted_by_size(golden: bytes) -> None:
    # q: 3 bits + one fp16 scale in 64; k: 4 bits + 32/64 + a 32-bit index a column; down and up as written in the file.
    stored = 128 * 128 * 3.25 + 64 * 128 * 4.5 + 32 * 128 + (12800 * 8 + 128 * 16 + 64 * 48) + 32 * 16
    weights = 128 * 128 + 64 * 128 + 128 * 100 + 4 * 8
    assert stored_bits(parse(golden)) == pytest.approx(stored / weights, rel=1e-12)
    assert nominal_bits(parse(golden)) == pytest.approx(
        (128 * 128 * 3 + 64 * 128 * 4 + 12800 * 8 + 32 * 16) / weights, rel=1e-12
    )


@pytest.mark.parametrize(
    ("bits", "group_size", "symmetric", "expected"),
    [
        (4, 128, False, 4.25),
        (3, 64, False, 3.5),
        (3, 64, True, 3.25),
        (2, -1, False, 2 + 32 / 256),
        (16, 64, True, 16.0),
    ],
)
def test_stored_bits_of_a_grid_are_the_ones_on_paper(
    bits: int, group_size: int, symmetric: bool, expected: float
) -> None:
    assert affine_stored_bits(8, 256, bits, group_size, symmetric) == expected


def test_a_short_last_group_is_counted_at_its_own_length() -> None:
    # 100 columns at 3 bits in groups of 64: planes of 64*2 and 64*1 bits, then of 36*2 and 36*1 bits, in whole bytes.
    assert affine_stored_bits(1, 100, 3, 64, False) * 100 / 8 == (16 + 8 + 4) + (9 + 5 + 4)


def test_a_later_minor_version_is_read_and_keeps_its_number() -> None:
    later = document() | {"schema_version": "1.7.2", "added_later": {"x": 1}}
    assert json.loads(dumps(read_plan(later)))["schema_version"] == "1.7.2"


def test_bytes_may_be_budgeted_instead_of_bits() -> None:
    held = 8 * 64 * 4.5 / 8
    plan = document() | {"budget": {"kind": "file_bytes", "requested": 300.0, "solved": held}}
    assert read_plan(plan).budget.solved == held
    with pytest.raises(WorkbenchError, match=r"budget\.solved is 4\.5, but the tensors add up to 288"):
        read_plan(plan | {"budget": {"kind": "file_bytes", "requested": 300.0, "solved": 4.5}})


leaf = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
KNOWN = Plan.model_fields.keys() | Provenance.model_fields.keys()
extras = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name not in KNOWN), st.lists(leaf, max_size=3) | leaf, max_size=3
)
one_tensor = st.builds(
    lambda rows, columns, bits, options: tensor(rows, columns, bits, method_options=options),
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([1, 2, 3, 4, 8, 16]),
    extras,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tensors=st.dictionaries(st.text(max_size=40), one_tensor, min_size=1, max_size=4), extra=extras)
def test_any_plan_is_written_back_to_the_byte(tensors: dict[str, Any], extra: dict[str, Any]) -> None:
    known = document(**tensors)
    plan = read_plan({**extra, **known, "provenance": {**extra, "exports": []}})
    text = dumps(plan)
    assert dumps(parse(text.encode())) == text
    assert math.isclose(stored_bits(parse(text.encode())), stored_bits(plan))


def test_schemes_of_a_plan() -> None:
    plan = read_plan(document(a=tensor(8, 64), b=tensor(8, 64, 3, method_options={"clip": 0.9})))
    assert schemes(plan) == {"a": Scheme("rtn", 4, 64), "b": Scheme("rtn", 3, 64, options={"clip": 0.9})}
    with pytest.raises(WorkbenchError, match="no matrix 'c'; it names 2 others"):
        scheme_of(plan, "c")


def test_schemes_that_cannot_be_applied_are_refused_by_name(golden: bytes) -> None:
    with pytest.raises(WorkbenchError, match=r"salient weights of 'model\.layers\.0\.mlp\.down_proj\.weight' apart"):
        schemes(parse(golden))
    odd = read_plan(document(a=tensor(8, 64, group_size=48, storage_bits=8 * 64 * 4 + 8 * 2 * 32)))
    with pytest.raises(WorkbenchError, match="matrix 'a' of the plan: group size has value 48; choose one of: 32, 64"):
        scheme_of(odd, "a")


class TestCheckAgainst:
    matrices = ({"name": "a", "shape": [8, 64]}, {"name": "b", "shape": [16, 64]})
    identity = {"id": "m", "architecture": "A", "config_sha256": "1" * 64, "weights_sha256": "2" * 64}  # noqa: RUF012

    def plan(self, **tensors: dict[str, Any]):
        return read_plan(document(**(tensors or {"a": tensor(8, 64), "b": tensor(16, 64)})))

    def test_the_plan_of_this_model_passes(self) -> None:
        check_against(self.plan(), self.matrices, self.identity)

    @pytest.mark.parametrize("fact", ["architecture", "config_sha256"])
    def test_another_model(self, fact: str) -> None:
        other = self.identity | {fact: "9" * 64}
        with pytest.raises(WorkbenchError, match=f"the plan is for another model, 'm': its {fact} is"):
            check_against(self.plan(), self.matrices, other)

    def test_other_weights_are_seen_where_both_digests_are_known(self) -> None:
        known = document(a=tensor(8, 64), b=tensor(16, 64))
        known["model"]["weights_sha256"] = "7" * 64
        with pytest.raises(WorkbenchError, match="its weights_sha256 is '777"):
            check_against(read_plan(known), self.matrices, self.identity)

    def test_missing_and_strange_matrices_and_shapes(self) -> None:
        with pytest.raises(WorkbenchError, match="the plan lacks 1 of the model's 2 matrices, first 'b'"):
            check_against(self.plan(a=tensor(8, 64)), self.matrices, self.identity)
        more = {"a": tensor(8, 64), "b": tensor(16, 64), "c": tensor(8, 64)}
        with pytest.raises(WorkbenchError, match="names 1 matrices that the model does not have, first 'c'"):
            check_against(self.plan(**more), self.matrices, self.identity)
        turned = {"a": tensor(64, 8), "b": tensor(16, 64)}
        with pytest.raises(WorkbenchError, match=r"'a' has shape \[64, 8\] in the plan and \[8, 64\] in the model"):
            check_against(self.plan(**turned), self.matrices, self.identity)


def test_a_difference_names_only_what_is_treated_otherwise() -> None:
    a = read_plan(document(x=tensor(8, 64), y=tensor(8, 64), z=tensor(8, 64)))
    changed = {"x": tensor(8, 64, measured={"delta_loss": 1.0}), "y": tensor(8, 64, 2), "w": tensor(8, 64, 8)}
    rows = diff(a, read_plan(document(**changed)))
    assert [(row.matrix, row.bits_a, row.bits_b) for row in rows] == [("y", 4, 2), ("z", 4, None), ("w", None, 8)]
    assert (rows[0].stored_a, rows[0].stored_b) == (4.5, 2.5)
    assert (rows[0].scheme_a, rows[2].scheme_b) == ("rtn 4 bit g64", "rtn 8 bit g64")
    assert diff(a, a) == []


def test_a_plan_cannot_be_changed_in_place(golden: bytes) -> None:
    plan = parse(golden)
    before = copy.deepcopy(to_document(plan))
    with pytest.raises(ValueError, match="frozen"):
        plan.tensors[Q].bits = 2  # type: ignore[misc]
    assert to_document(plan) == before
