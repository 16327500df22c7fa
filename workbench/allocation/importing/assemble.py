"""From schemes that somebody wrote elsewhere to a plan for a model: widths that are here, sizes from the shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from workbench.allocation.facts import ModelFacts
from workbench.allocation.reading import read_plan
from workbench.allocation.schema import AFFINE_METHODS, SCHEMA_NAME, SCHEMA_VERSION, Plan
from workbench.errors import WorkbenchError, shown, unknown
from workbench.scheme import GROUP_SIZES, UNTOUCHED, WIDTHS, affine_stored_bits

Document = Mapping[str, Any]
INDEX_BITS = 16
"""Bits that the group of a column takes where gptq reorders columns."""


@dataclass(frozen=True)
class Wanted:
    """How one matrix should be treated, as it was read: widths and groups may still be ones that are not here."""

    bits: int
    group_size: int = 64
    symmetric: bool = False
    method: str = "rtn"
    options: dict[str, Any] = field(default_factory=dict)


LEFT = Wanted(UNTOUCHED)
"""A matrix that nothing was said about."""


@dataclass(frozen=True)
class Imported:
    """A plan made elsewhere, as one of ours.

    Attributes:
        plan: the plan.
        form: what the file was.
        losses: what of it could not be read or is another here, a sentence each.
    """

    plan: Plan
    form: str
    losses: tuple[str, ...]


def assemble(wanted: Mapping[str, Wanted], inspected: Document, form: str, losses: list[str]) -> Imported:
    """The plan.

    Args:
        wanted: matrix -> how it should be treated; those that are not named are left at 16 bits.
        inspected: the document of `inspect`: `model`, `matrices` and `skipped`.
        form: what the file was, for the plan's record.
        losses: what has been lost so far; more may be added.

    Raises:
        WorkbenchError: a method whose size the shapes do not tell, or that is not there.
    """
    matrices = inspected["matrices"]
    unnamed = [matrix["name"] for matrix in matrices if matrix["name"] not in wanted]
    if unnamed:
        losses.append(f"{len(unnamed)} matrices are not named (first {unnamed[0]}) and are left at 16 bits")
    tensors = {m["name"]: _tensor(m, _here(m["name"], wanted.get(m["name"], LEFT), losses)) for m in matrices}
    stored = sum(one["storage_bits"] for one in tensors.values()) / sum(one["numel"] for one in tensors.values())
    facts = {name: inspected["model"][name] for name in ModelFacts.model_fields if name in inspected["model"]}
    plan = {
        "schema": SCHEMA_NAME,
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "model": facts,
        "budget": {"requested": stored, "solved": stored},
        "solver": {"name": "imported", "objective": f"none: read from a {form}", "status": "by hand"},
        "tensors": tensors,
        "excluded": {part["name"]: part["reason"] for part in inspected.get("skipped", ())},
    }
    return Imported(read_plan(plan), form, tuple(dict.fromkeys(losses)))


def _here(name: str, wanted: Wanted, losses: list[str]) -> Wanted:
    """The nearest that can be computed here: no fewer bits, and a group size that there is."""
    if wanted.method not in AFFINE_METHODS:
        raise WorkbenchError(
            f"{shown(name)} has method {shown(wanted.method)}; a plan from elsewhere may name one of: "
            f"{', '.join(AFFINE_METHODS)} (any other needs a whole plan in our own format, with its storage_bits)"
        )
    bits = min((one for one in (*WIDTHS, UNTOUCHED) if one >= wanted.bits), default=None)
    if wanted.bits < 1 or bits is None:
        raise unknown(f"width of {shown(name)}", wanted.bits, tuple(map(str, (*WIDTHS, UNTOUCHED))))
    if bits != wanted.bits:
        losses.append(f"{wanted.bits} bits are no width here; {bits} are taken (first in {name})")
    group = min(GROUP_SIZES[:-1], key=lambda one: (abs(one - wanted.group_size), one)) if wanted.group_size > 0 else -1
    if bits != UNTOUCHED and group != wanted.group_size:
        losses.append(f"group size {wanted.group_size} is none here; {group} is taken (first in {name})")
    return Wanted(bits, group, wanted.symmetric, wanted.method, wanted.options)


def _tensor(matrix: Document, wanted: Wanted) -> dict[str, Any]:
    rows, columns = matrix["shape"]
    size = round(rows * columns * affine_stored_bits(rows, columns, wanted.bits, wanted.group_size, wanted.symmetric))
    dynamic = wanted.options.get("act_order") and not wanted.options.get("static_groups")
    if wanted.bits != UNTOUCHED and dynamic and 0 < wanted.group_size < columns:
        size += INDEX_BITS * columns
    return {
        "shape": [rows, columns],
        "numel": rows * columns,
        "method": wanted.method,
        "bits": wanted.bits,
        "group_size": wanted.group_size,
        "symmetric": wanted.symmetric,
        "method_options": wanted.options,
        "storage_bits": size,
    }
