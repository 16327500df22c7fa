"""Reading a plan that anybody may have written: every fault is one plain sentence, and nothing is read by halves."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from workbench.allocation.facts import (
    DIGEST_PATTERN,
    FILE_NAME_PATTERN,
    VERSION_PATTERN,
    Budget,
    Measured,
    ModelFacts,
    Salient,
)
from workbench.allocation.schema import SCHEMA_NAME, SCHEMA_VERSION, Plan, TensorPlan
from workbench.errors import WorkbenchError, shown

MAX_BYTES = 1_000_000
MAX_DEPTH = 8

_CLOSED: dict[str, type[BaseModel]] = {"model": ModelFacts, "budget": Budget, "salient": Salient, "measured": Measured}
_PATTERNS = {
    DIGEST_PATTERN: "it should be 64 hexadecimal digits in lower case",
    FILE_NAME_PATTERN: "it should be a bare file name, without a folder",
    VERSION_PATTERN: "it should be three numbers, such as 1.0.0",
}
# pydantic's kinds of fault in the words of JSON; kinds that are not here speak for themselves.
_EXPECTED = {
    "literal_error": "choose one of: {expected}",
    "too_long": "it should have at most {max_length} entries",
    "too_short": "it should have at least {min_length} entries",
    "tuple_type": "it should be a list",
    "list_type": "it should be a list",
    "dict_type": "it should be an object",
    "model_type": "it should be an object",
    "int_type": "it should be a whole number",
    "float_type": "it should be a number",
    "bool_type": "it should be true or false",
    "string_type": "it should be text",
}


def parse(raw: bytes, *, max_bytes: int = MAX_BYTES) -> Plan:
    """Read a plan from the bytes of a file; its name and declared type mean nothing here.

    Raises:
        WorkbenchError: too large, not UTF-8, not JSON, or whatever `read_plan` refuses.
    """
    return read_plan(load_json(decode(raw, max_bytes=max_bytes)))


def decode(raw: bytes, *, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file that somebody handed in.

    Raises:
        WorkbenchError: too large, or not UTF-8.
    """
    if len(raw) > max_bytes:
        raise WorkbenchError(f"the plan has {len(raw):,} bytes; at most {max_bytes:,} are read")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkbenchError(f"the plan is not UTF-8 text: byte {error.start} cannot be read") from None


def read_plan(document: Any) -> Plan:
    """Read a plan from a document that has already been taken out of its JSON text.

    Raises:
        WorkbenchError: nested too deeply, a number that JSON does not have, another schema or major version, a field
            that is missing, unknown or out of its choices, sizes that do not fit each other.
    """
    _check_tree(document)
    if not isinstance(document, dict):
        raise WorkbenchError(f"a plan should be a JSON object; this is {_spoken(document)}")
    _check_version(document)
    try:
        return Plan.model_validate(document)
    except ValidationError as error:
        raise WorkbenchError(_sentence(error)) from None


def load_json(text: str) -> Any:
    """A JSON text without doubled keys, NaN or Infinity.

    Raises:
        WorkbenchError: as said, or no JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise WorkbenchError(f"the plan is not JSON: {reason} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise WorkbenchError(f"the plan is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        # The one ValueError that is no JSONDecodeError: Python refuses to convert integers of thousands of digits.
        raise WorkbenchError("the plan holds a whole number of more than 4300 digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for name, value in pairs:
        if name in held:
            raise WorkbenchError(f"the key {shown(name)} stands twice in one object of the plan")
        held[name] = value
    return held


def _refuse_constant(name: str) -> Any:
    raise WorkbenchError(f"the plan holds {name}, which JSON does not have; write null for a number that is not known")


def _check_tree(document: Any) -> None:
    """Refuse depth, numbers and text that a plan could not be written back with; level by level, so no depth harms."""
    level, depth = [document], 0
    while level:
        depth += 1
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple):
                below += value
            else:
                _check_leaf(value)
        if depth > MAX_DEPTH and any(isinstance(value, dict | list | tuple) for value in level):
            raise WorkbenchError(f"the plan is nested deeper than {MAX_DEPTH} levels")
        level = below


def _check_leaf(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise WorkbenchError(f"the plan holds the number {value}, which JSON does not have; write null instead")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise WorkbenchError(f"the plan holds text that is not Unicode: {shown(value)}") from None


def _check_version(document: dict[str, Any]) -> None:
    for field in ("schema", "schema_version"):
        if field not in document:
            raise WorkbenchError(f"the plan lacks {field}")
    if document["schema"] != SCHEMA_NAME:
        raise WorkbenchError(f"schema has value {_spoken(document['schema'])}; this program reads {SCHEMA_NAME!r}")
    version = document["schema_version"]
    if not isinstance(version, str) or version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        major = SCHEMA_VERSION.split(".")[0]
        raise WorkbenchError(f"schema_version has value {_spoken(version)}; this program reads version {major}.x.y")


def _sentence(error: ValidationError) -> str:
    """The first fault, with its place, its value and the choices."""
    fault = error.errors(include_url=False)[0]
    path, kind, context = fault["loc"], fault["type"], fault.get("ctx", {})
    if kind == "missing":
        return f"the plan lacks {_place(path)}"
    if kind == "extra_forbidden":
        parent = _CLOSED.get(str(path[-2]), TensorPlan) if len(path) != 3 else TensorPlan
        fields = ", ".join(parent.model_fields)
        return f"{_place(path[:-1])} has no field {shown(path[-1])}; its fields are: {fields}"
    if kind == "value_error":
        return f"{_place(path)}: {context['error']}" if path else str(context["error"])
    if kind == "string_pattern_mismatch":
        expected = _PATTERNS[context["pattern"]]
    elif kind in _EXPECTED:
        expected = _EXPECTED[kind].format(**context)
    else:
        expected = fault["msg"].replace("Input should", "it should")
    return f"{_place(path)} has value {_spoken(fault['input'])}; {expected}"


def _place(path: Sequence[str | int]) -> str:
    """A path as one would write it: `tensors['model.layers.0.mlp.down_proj.weight'].bits`."""
    parts = [
        f".{part}"
        if isinstance(part, str) and part.isidentifier() and part.isascii() and len(part) <= 40
        else f"[{shown(part)}]"
        for part in path
    ]
    return "".join(parts).removeprefix(".")


def _spoken(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else shown(value)
