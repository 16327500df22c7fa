"""Every plan that cannot be read is refused in one plain sentence, whatever it holds, and quickly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.allocation.plan import parse, read_plan
from workbench.errors import WorkbenchError

Q = "model.layers.0.self_attn.q_proj.weight"
HOSTILE = "<img src=x onerror=alert(1)>\x00\x1b[2J\u202e" + "A" * 10_000


def refusal(raw: bytes, **keywords: Any) -> str:
    with pytest.raises(WorkbenchError) as caught:
        parse(raw, **keywords)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.isprintable()
    assert len(sentence) < 500
    return sentence


def changed(golden: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(golden)
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"x" * 1_000_001, "the plan has 1,000,001 bytes; at most 1,000,000 are read"),
        (b'{"a": "\xff"}', "the plan is not UTF-8 text: byte 7 cannot be read"),
        (b"", "the plan is not JSON: expecting value at line 1, column 1"),
        (b'{\n "a": tru}', "the plan is not JSON: expecting value at line 2, column 7"),
        (b'{"a": 1} x', "the plan is not JSON: extra data at line 1, column 10"),
        (b"[1, 2]", "a plan should be a JSON object; this is [1, 2]"),
        (b"null", "a plan should be a JSON object; this is null"),
        (b"[" * 9 + b"]" * 9, "the plan is nested deeper than 8 levels"),
        (b"[" * 400_000, "the plan is nested deeper than 8 levels"),
        (b'{"a":' * 150_000, "the plan is nested deeper than 8 levels"),
        (b"[" * 300 + b"]" * 300, "the plan is nested deeper than 8 levels"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice in one object of the plan"),
        (b'{"a": NaN}', "the plan holds NaN, which JSON does not have; write null for a number that is not known"),
        (b'{"a": [-Infinity]}', "the plan holds -Infinity, which JSON does not have; write null"),
        (b'{"a": 1e999}', "the plan holds the number inf, which JSON does not have; write null instead"),
        (b'{"a": ' + b"9" * 5000 + b"}", "the plan holds a whole number of more than 4300 digits"),
        (b'{"a": "\\ud800"}', "the plan holds text that is not Unicode: '\\ud800'"),
        (b"{}", "the plan lacks schema"),
        (b'{"schema": "wb.allocation"}', "the plan lacks schema_version"),
        (b'{"schema": "bits/1", "schema_version": "1.0.0"}', "schema has value 'bits/1'; this program reads 'wb.alloc"),
        (b'{"schema": null, "schema_version": "1.0.0"}', "schema has value null; this program reads 'wb.allocation'"),
        (b'{"schema": "wb.allocation", "schema_version": "2.0.0"}', "'2.0.0'; this program reads version 1.x.y"),
        (b'{"schema": "wb.allocation", "schema_version": 1}', "schema_version has value 1; this program reads version"),
        (b'{"schema": "wb.allocation", "schema_version": "1.x"}', "schema_version has value '1.x'; it should be three"),
        (b'{"schema": "wb.allocation", "schema_version": "1.0.0"}', "the plan lacks model"),
    ],
)
def test_what_is_no_plan(raw: bytes, sentence: str) -> None:
    assert sentence in refusal(raw)


def put(*path: str | int) -> Callable[[Any], Callable[[dict[str, Any]], None]]:
    """A change that puts a value at a path."""

    def with_value(value: Any) -> Callable[[dict[str, Any]], None]:
        def change(document: Any) -> None:
            for step in path[:-1]:
                document = document[step]
            document[path[-1]] = value

        return change

    return with_value


bits, shape, group = put("tensors", Q, "bits"), put("tensors", Q, "shape"), put("tensors", Q, "group_size")
AT_Q = f"tensors['{Q}']"
CHOICES = "choose one of: 1, 2, 3, 4, 8 or 16"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (bits(99), f"{AT_Q}.bits has value 99; {CHOICES}"),
        (bits(4.0), f"{AT_Q}.bits has value 4.0; {CHOICES}"),
        (bits(True), f"{AT_Q}.bits has value true; {CHOICES}"),
        (bits("4"), f"{AT_Q}.bits has value '4'; {CHOICES}"),
        (bits(None), f"{AT_Q}.bits has value null; {CHOICES}"),
        (bits(4), f"{AT_Q}: storage_bits is 53248, but 16384 weights under 'rtn' at 4 bits, group size 64, take 69632"),
        (group(0), f"{AT_Q}.group_size has value 0; it should be a positive number of columns, or -1 for a whole row"),
        (group(-2), f"{AT_Q}.group_size has value -2; it should be a positive number"),
        (group(64.0), f"{AT_Q}.group_size has value 64.0; it should be a whole number"),
        (group(10**300), f"{AT_Q}.group_size has value 1000"),
        (shape([128]), f"the plan lacks {AT_Q}.shape[1]"),
        (shape([128, 128, 1]), f"{AT_Q}.shape has value [128, 128, 1]; it should have at most 2 entries"),
        (shape([-128, -128]), f"{AT_Q}.shape[0] has value -128; it should be greater than or equal to 1"),
        (shape([128, 64]), f"{AT_Q}: numel is 16384, but shape [128, 64] holds 8192 weights"),
        (shape("ab"), f"{AT_Q}.shape has value 'ab'; it should be a list"),
        (put("tensors", Q, "numel")(-16384), f"{AT_Q}.numel has value -16384; it should be greater"),
        (put("tensors", Q, "storage_bits")(53247), f"{AT_Q}: storage_bits is 53247, but 16384 weights"),
        (put("tensors", Q, "storage_bits")(10**400), f"{AT_Q}.storage_bits has value 1000"),
        (put("tensors", Q, "symmetric")(1), f"{AT_Q}.symmetric has value 1; it should be true or false"),
        (put("tensors", Q, "method")(7), f"{AT_Q}.method has value 7; it should be text"),
        (put("tensors", Q, "colour")("red"), f"{AT_Q} has no field 'colour'; its fields are: shape, numel, method,"),
        (put("tensors", Q, "measured")({"ppl": 1}), f"{AT_Q}.measured has no field 'ppl'; its fields are: weight_rel"),
        (put("tensors", Q)([1]), f"{AT_Q} has value [1]; it should be an object"),
        (put("tensors")({}), "tensors has value {}; it should have at least 1 entries"),
        (put("tensors")([]), "tensors has value []; it should be an object"),
        (put("model", "colour")("red"), "model has no field 'colour'; its fields are: id, revision,"),
        (put("model", "config_sha256")("0x1"), "model.config_sha256 has value '0x1'; it should be 64 hexadecimal"),
        (put("model")(None), "model has value null; it should be an object"),
        (put("budget", "average")(3), "budget has no field 'average'; its fields are: kind, requested,"),
        (
            put("budget", "kind")("bits"),
            "budget.kind has value 'bits'; choose one of: 'bits_per_weight' or 'file_bytes'",
        ),
        (put("budget", "requested")(-1), "budget.requested has value -1; it should be greater than 0"),
        (put("budget", "requested")(10**400), "budget.requested has value 1000"),
        (put("budget", "solved")(3.0), "budget.solved is 3, but the tensors add up to 5.40633 (bits_per_weight)"),
        (put("excluded", Q)("why"), f"'{Q}' stands in both tensors and excluded"),
        (
            put("candidates_file")("../../etc/passwd"),
            "candidates_file has value '../../etc/passwd'; it should be a bare",
        ),
        (put("solver", "locks")({Q: 5}), f"solver.locks['{Q}'] has value 5; {CHOICES}"),
        (lambda d: d["model"].pop("config_sha256"), "the plan lacks model.config_sha256"),
        (lambda d: d["tensors"][Q].pop("storage_bits"), f"the plan lacks {AT_Q}.storage_bits"),
        (lambda d: d.pop("budget"), "the plan lacks budget"),
    ],
)
def test_what_is_a_plan_but_for_one_thing(
    golden: bytes, change: Callable[[dict[str, Any]], Any], sentence: str
) -> None:
    assert refusal(changed(golden, change)).startswith(sentence)


@pytest.mark.parametrize(
    "change",
    [
        put("tensors", HOSTILE)({"bits": 99}),
        put("tensors", Q, HOSTILE)(1),
        put("tensors", Q, "bits")(HOSTILE),
        put("tensors", Q, "method")([HOSTILE] * 40),
        put("model", HOSTILE)(1),
        put("budget", "kind")(HOSTILE),
        put("schema")(HOSTILE),
        put("schema_version")(HOSTILE),
        put("excluded")({HOSTILE: HOSTILE, Q: HOSTILE, "x": 3}),
    ],
)
def test_hostile_text_is_cut_and_made_printable(golden: bytes, change: Callable[[dict[str, Any]], None]) -> None:
    assert "A" * 80 not in refusal(changed(golden, change))


def test_depth_is_met_in_a_thread_too() -> None:
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(refusal(b"[" * 900_000)))
    thread.start()
    thread.join()
    assert told == ["the plan is nested deeper than 8 levels"]


def test_the_deepest_plan_that_may_be_read(golden: bytes) -> None:
    seven: Any = 1
    for _ in range(7):
        seven = [seven]
    assert parse(changed(golden, put("x_deep")(seven)))
    assert "deeper than 8" in refusal(changed(golden, put("x_deep")([seven])))


@pytest.mark.parametrize(
    "change",
    [
        put("budget", "counted")([0] * 100_000),
        put("excluded")({f"{n}": 1 for n in range(30_000)}),
        put("tensors", Q)({"shape": [2**24, 2**24], "numel": 2**48, "method": "rtn", "bits": 4, "group_size": 1}),
    ],
)
def test_a_large_bad_plan_is_refused_soon(golden: bytes, change: Callable[[dict[str, Any]], None]) -> None:
    started = time.process_time()
    refusal(changed(golden, change))
    assert time.process_time() - started < 5


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    raw=st.binary(max_size=200)
    | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_no_bytes_at_all_cause_anything_but_a_refusal(raw: bytes) -> None:
    refusal(raw)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
paths = st.sampled_from(
    [
        (f,)
        for f in ("model", "budget", "calibration", "evaluation", "solver", "defaults", "tensors", "excluded", "result")
    ]
    + [("budget", f) for f in ("kind", "requested", "solved", "counted", "lm_head", "include_scales")]
    + [("solver", f) for f in ("ties", "locks", "mip_gap", "version")]
    + [
        ("tensors", Q, f)
        for f in ("shape", "numel", "method", "bits", "group_size", "salient", "storage_bits", "measured")
    ]
    + [("provenance", "exports"), ("result", "additive_prediction"), ("created",), ("candidates_sha256",)]
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=paths, value=values)
def test_any_value_anywhere_is_read_or_refused_in_a_sentence(path: tuple[str, ...], value: Any) -> None:
    document = {
        "model": {"id": "m", "architecture": "A", "dtype": "float32", "config_sha256": "1" * 64},
        "budget": {"requested": 4.5},
        "solver": {"name": "s", "objective": "o", "status": "x"},
        "tensors": {
            Q: {"shape": [8, 64], "numel": 512, "method": "rtn", "bits": 4, "group_size": 64, "symmetric": False}
            | {"storage_bits": 2304}
        },
        "provenance": {},
        "result": {},
        "schema": "wb.allocation",
        "schema_version": "1.0.0",
    }
    put(*path)(value)(document)
    try:
        read_plan(document)
        told = ""
    except WorkbenchError as error:
        told = str(error)
    assert told.isprintable()
    assert len(told) < 500
