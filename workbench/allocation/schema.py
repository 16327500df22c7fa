"""The plan format `wb.allocation`, major version 1: where the bits of a model go, for people and for other tools.

This family of types *is* the format; the JSON Schema beside this file is generated from it (`python -m
workbench.allocation.schema`). What a JSON Schema cannot say is checked here too: `numel` is the product of `shape`,
`storage_bits` fits the scheme, `budget.solved` fits the tensors. Unknown keys are refused in `model`, `budget` and
`tensors`, where ignoring one would change the meaning; elsewhere they are kept and written again.

Left out: slices of stacked experts, number formats other than integers, group size 0 (one scale for a tensor).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from workbench.allocation.facts import (
    VERSION_PATTERN,
    Bits,
    Budget,
    CalibrationFacts,
    Closed,
    Defaults,
    Digest,
    EvaluationFacts,
    Extent,
    FileName,
    GroupSize,
    Measured,
    ModelFacts,
    Open,
    Provenance,
    ResultFacts,
    Salient,
    Size,
    SolverFacts,
)
from workbench.errors import shown
from workbench.scheme import UNTOUCHED, affine_stored_bits

SCHEMA_NAME = "wb.allocation"
SCHEMA_VERSION = "1.1.0"
SCHEMA_FILE = Path(__file__).with_name("wb.allocation-1.json")

# Methods that store codes on an affine grid, with the bits they may hold besides it for each input column:
# gptq a 32-bit group index when it reorders columns, awq a scale; 64 leaves room for both.
AFFINE_METHODS = {"rtn": 0, "hqq": 0, "gptq": 64, "awq": 64}
MOST_BITS = 64
# `solved` may have been rounded for reading, to this share of itself.
SOLVED_TOLERANCE = 0.005


class TensorPlan(Closed):
    """The scheme of one matrix; `shape` is `[out, in]` whatever class holds it, groups run along `in`."""

    shape: Annotated[tuple[Extent, Extent], Field(strict=False)]
    numel: Size
    method: str = Field(min_length=1)
    bits: Bits
    group_size: GroupSize
    symmetric: bool
    method_options: dict[str, Any] = Field(default_factory=dict)
    salient: Salient | None = None
    storage_bits: Size
    measured: Measured | None = None

    @model_validator(mode="after")
    def _check(self) -> TensorPlan:
        if self.numel != math.prod(self.shape):
            raise ValueError(
                f"numel is {self.numel}, but shape {list(self.shape)} holds {math.prod(self.shape)} weights"
            )
        low, high = self.storage_range()
        if not low <= self.storage_bits <= high:
            expected = f"{low}" if low == high else f"between {low} and {high}"
            raise ValueError(
                f"storage_bits is {self.storage_bits}, but {self.numel} weights under {shown(self.method)} at "
                f"{self.bits} bits, group size {self.group_size}, take {expected}"
            )
        return self

    def storage_range(self) -> tuple[int, int]:
        """The least and the most `storage_bits` that this scheme can take; equal when the scheme alone fixes them."""
        if self.bits == UNTOUCHED:
            return self.numel * UNTOUCHED, self.numel * UNTOUCHED
        if self.method not in AFFINE_METHODS:
            return self.numel * self.bits, self.numel * MOST_BITS
        rows, columns = self.shape
        grid = round(self.numel * affine_stored_bits(rows, columns, self.bits, self.group_size, self.symmetric))
        return grid, self.numel * MOST_BITS if self.salient else grid + AFFINE_METHODS[self.method] * columns


class Plan(Open):
    """A whole plan. Keys of `tensors` are parameter names; averages are derived from them and never typed in."""

    schema_name: Literal["wb.allocation"] = Field(alias="schema")
    schema_version: str = Field(pattern=VERSION_PATTERN)
    created: str | None = None
    model: ModelFacts
    calibration: CalibrationFacts | None = None
    evaluation: EvaluationFacts | None = None
    budget: Budget
    solver: SolverFacts | None = None
    defaults: Defaults | None = None
    tensors: dict[str, TensorPlan] = Field(min_length=1)
    excluded: dict[str, str] = Field(default_factory=dict)
    result: ResultFacts | None = None
    candidates_file: FileName | None = None
    candidates_sha256: Digest | None = None
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _check(self) -> Plan:
        both = next((name for name in self.excluded if name in self.tensors), None)
        if both is not None:
            raise ValueError(f"{shown(both)} stands in both tensors and excluded")
        derived = derived_budget(self)
        solved = self.budget.solved
        if solved is not None and abs(solved - derived) > SOLVED_TOLERANCE * derived:
            raise ValueError(
                f"budget.solved is {solved:g}, but the tensors add up to {derived:.6g} ({self.budget.kind})"
            )
        return self


def stored_bits(plan: Plan) -> float:
    """Mean stored bits per weight over the tensors, scales and zero points included; embeddings and head apart."""
    return sum(t.storage_bits for t in plan.tensors.values()) / sum(t.numel for t in plan.tensors.values())


def nominal_bits(plan: Plan) -> float:
    """Mean width of the codes alone over the plan's tensors, weighted by size."""
    return sum(t.bits * t.numel for t in plan.tensors.values()) / sum(t.numel for t in plan.tensors.values())


def derived_budget(plan: Plan) -> float:
    """What the tensors take, in the unit of the plan's budget: mean stored bits per weight, or bytes together."""
    if plan.budget.kind == "file_bytes":
        return sum(t.storage_bits for t in plan.tensors.values()) / 8 + (plan.budget.other_bytes or 0)
    return stored_bits(plan)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the format."""
    schema = Plan.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "wb.allocation-1.json", **schema}


def write_schema(path: Path = SCHEMA_FILE) -> None:
    """Write the JSON Schema, by default over the shipped one."""
    path.write_text(json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schema()
