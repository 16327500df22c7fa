"""Plans as the rest of the program uses them: read, write, compare, check against a model, turn into schemes.

No torch is imported here or below, so that pages may use it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.allocation.reading import MAX_BYTES, MAX_DEPTH, parse, read_plan
from workbench.allocation.schema import Plan, TensorPlan, derived_budget, nominal_bits, stored_bits
from workbench.errors import WorkbenchError, shown
from workbench.scheme import Scheme

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "Difference",
    "Plan",
    "TensorPlan",
    "check_against",
    "check_identity",
    "derived_budget",
    "diff",
    "dumps",
    "nominal_bits",
    "parse",
    "read_plan",
    "scheme_of",
    "schemes",
    "stored_bits",
    "to_document",
]


def to_document(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON: fields in the order of the format, tensors in their own order, kept extras after both."""
    return plan.model_dump(mode="json", by_alias=True)


def dumps(plan: Plan) -> str:
    """The plan as canonical text: what this writes, `parse` reads and this writes again, to the byte."""
    return json.dumps(to_document(plan), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def scheme_of(plan: Plan, name: str) -> Scheme:
    """The scheme of one matrix.

    Raises:
        WorkbenchError: the plan has no such matrix, or gives it a scheme that this program cannot apply.
    """
    if name not in plan.tensors:
        raise WorkbenchError(f"the plan has no matrix {shown(name)}; it names {len(plan.tensors)} others")
    tensor = plan.tensors[name]
    if tensor.salient is not None:
        raise WorkbenchError(
            f"the plan keeps salient weights of {shown(name)} apart ({shown(tensor.salient.kind)}), which only the "
            "program that made their mask can apply"
        )
    try:
        return Scheme(tensor.method, tensor.bits, tensor.group_size, tensor.symmetric, dict(tensor.method_options))
    except WorkbenchError as error:
        raise WorkbenchError(f"matrix {shown(name)} of the plan: {error}") from None


def schemes(plan: Plan) -> dict[str, Scheme]:
    """The scheme of every matrix, in the plan's order."""
    return {name: scheme_of(plan, name) for name in plan.tensors}


def check_against(plan: Plan, matrices: Sequence[Mapping[str, Any]], identity: Mapping[str, Any]) -> None:
    """Make sure that the plan is for this model and names its matrices, all of them and no other.

    Args:
        plan: the plan.
        matrices: of each quantizable matrix of the model its `name` and `shape` `[out, in]`.
        identity: the model's `id`, `architecture` and digests.

    Raises:
        WorkbenchError: another architecture, configuration or weights; matrices missing, strange or of another shape.
    """
    check_identity(plan.model.model_dump(), identity, "the plan")
    shapes = {matrix["name"]: tuple(matrix["shape"]) for matrix in matrices}
    lacking = [name for name in shapes if name not in plan.tensors]
    if lacking:
        raise WorkbenchError(
            f"the plan lacks {len(lacking)} of the model's {len(shapes)} matrices, first {shown(lacking[0])}"
        )
    strange = [name for name in plan.tensors if name not in shapes]
    if strange:
        raise WorkbenchError(
            f"the plan names {len(strange)} matrices that the model does not have, first {shown(strange[0])}"
        )
    for name, shape in shapes.items():
        if plan.tensors[name].shape != shape:
            planned = list(plan.tensors[name].shape)
            raise WorkbenchError(f"{shown(name)} has shape {planned} in the plan and {list(shape)} in the model")


def check_identity(claimed: Mapping[str, Any], identity: Mapping[str, Any], what: str) -> None:
    """Make sure that `what` was made for the model of this identity; a fact that one side does not know is passed over.

    The tokenizer is not compared: another one changes what was measured, not which weights there are.

    Raises:
        WorkbenchError: another architecture, configuration or weights.
    """
    for fact in ("architecture", "config_sha256", "weights_sha256"):
        theirs, ours = claimed.get(fact), identity.get(fact)
        if theirs and ours and theirs != ours:
            raise WorkbenchError(
                f"{what} is for another model, {shown(claimed.get('id'))}: its {fact} is {shown(theirs, 24)}, "
                f"that of {shown(identity.get('id'))} is {shown(ours, 24)}"
            )


@dataclass(frozen=True, slots=True)
class Difference:
    """A matrix that two plans treat differently; None where a plan does not name it. `stored` is bits per weight."""

    matrix: str
    bits_a: int | None
    bits_b: int | None
    stored_a: float | None
    stored_b: float | None
    scheme_a: str | None
    scheme_b: str | None


def diff(plan_a: Plan, plan_b: Plan) -> list[Difference]:
    """The matrices whose treatment differs, in the order of the first plan, then those of the second alone."""
    names = [*plan_a.tensors, *(name for name in plan_b.tensors if name not in plan_a.tensors)]
    pairs = ((name, plan_a.tensors.get(name), plan_b.tensors.get(name)) for name in names)
    return [_difference(name, a, b) for name, a, b in pairs if _treatment(a) != _treatment(b)]


def _treatment(tensor: TensorPlan | None) -> dict[str, Any] | None:
    return None if tensor is None else tensor.model_dump(exclude={"measured"})


def _difference(name: str, a: TensorPlan | None, b: TensorPlan | None) -> Difference:
    bits = [None if tensor is None else tensor.bits for tensor in (a, b)]
    stored = [None if tensor is None else tensor.storage_bits / tensor.numel for tensor in (a, b)]
    return Difference(name, bits[0], bits[1], stored[0], stored[1], _label(a), _label(b))


def _label(tensor: TensorPlan | None) -> str | None:
    """The scheme in a few words, without the checks of `Scheme`: a plan to compare with need not be one to apply."""
    if tensor is None:
        return None
    group = "row" if tensor.group_size == -1 else f"g{tensor.group_size}"
    return f"{tensor.method} {tensor.bits} bit {group}{' symmetric' if tensor.symmetric else ''}"
