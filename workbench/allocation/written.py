"""What a plan records of the files that were written from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.allocation.build import build_plan
from workbench.allocation.items import Choice
from workbench.allocation.plan import Plan, read_plan, to_document
from workbench.allocation.solution import Solution


@dataclass(frozen=True)
class Written:
    """A checkpoint that was written and read back.

    Attributes:
        format: `dense` or `compressed-tensors`.
        file_bytes: of the weights' file.
        tensor_bytes: of all tensors in it; the rest is its table of names.
        matrix_bytes: of the tensors that stand for the plan's matrices.
        max_logit_difference: to the logits that were measured here.
        versions: of what read it back.
    """

    format: str
    file_bytes: int
    tensor_bytes: int
    matrix_bytes: int
    max_logit_difference: float
    versions: Mapping[str, Any]


def with_export(plan: Plan, written: Written) -> Plan:
    """The plan with the file's size as `measured_file`, in the budget's unit, and an entry in `provenance.exports`.

    As bits per weight it is what the file holds for the plan's matrices, as bytes the whole file.
    """
    document = to_document(plan)
    numel = sum(tensor.numel for tensor in plan.tensors.values())
    by_weight = plan.budget.kind == "bits_per_weight"
    document["budget"]["measured_file"] = 8 * written.matrix_bytes / numel if by_weight else written.file_bytes
    provenance = document["provenance"] or {}
    entry = {
        "target": written.format,
        "file_bytes": written.file_bytes,
        "tensor_bytes": written.tensor_bytes,
        "matrix_bytes": written.matrix_bytes,
        "max_logit_difference": written.max_logit_difference,
        "versions": dict(written.versions),
    }
    document["provenance"] = {**provenance, "exports": [*(provenance.get("exports") or ()), entry]}
    return read_plan(document)


def plan_of_choice(choices: Mapping[str, Choice], options: Mapping[str, Any], inspected: Mapping[str, Any]) -> Plan:
    """A plan for what was quantized without one: a quantizer for all matrices.

    Args:
        choices: matrix -> its scheme and the bits that it was seen to take.
        options: of the quantizer.
        inspected: `model`, `matrices` and `skipped` as `inspect` prints them.
    """
    numel = sum(matrix["parameters"] for matrix in inspected["matrices"])
    solution = Solution(dict(choices), numel, 0.0, None, "uniform", "by hand", None, 0.0, {})
    return build_plan(
        solution,
        {"cells": [], "options": dict(options)},
        identity=inspected["model"],
        matrices=inspected["matrices"],
        requested=solution.stored_bits,
        excluded={part["name"]: part["reason"] for part in inspected["skipped"]},
    )
