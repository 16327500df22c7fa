"""Plans as pages show them: as tables, compared, and stripped to what is measured. No Streamlit, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.allocation import plan as plans
from workbench.allocation.plan import Plan, TensorPlan
from workbench.scheme import UNTOUCHED
from workbench.ui.numbers import plural

Document = Mapping[str, Any]
Widths = Mapping[str, int]


def plan_table(plan: Plan, matrices: Sequence[Document], locks: Widths) -> pd.DataFrame:
    """Columns `matrix`, `block`, `role`, `bits`, `stored_bits`, `scheme`, `locked`, in the model's order."""
    rows = [
        {
            "matrix": one["name"],
            "block": one["block"],
            "role": one["role"],
            "bits": plan.tensors[one["name"]].bits,
            "stored_bits": plan.tensors[one["name"]].storage_bits / plan.tensors[one["name"]].numel,
            "scheme": _words(plan.tensors[one["name"]]),
            "locked": one["name"] in locks,
        }
        for one in matrices
    ]
    return pd.DataFrame(rows)


def _words(tensor: TensorPlan) -> str:
    group = "whole rows" if tensor.group_size == -1 else f"groups of {tensor.group_size}"
    return f"{tensor.method}, {tensor.bits} bits, {group}{', symmetric' if tensor.symmetric else ''}"


def widths_of(plan: Plan) -> dict[str, int]:
    """Matrix name -> bits."""
    return {name: tensor.bits for name, tensor in plan.tensors.items()}


def locks_of(plan: Plan) -> dict[str, int]:
    """The locks that the plan's writer noted, as far as the plan keeps them."""
    noted = plan.solver.locks if plan.solver else {}
    widths = widths_of(plan)
    return {name: bits for name, bits in noted.items() if widths.get(name) == bits}


def width_words(plan: Plan) -> str:
    """How many matrices have which width."""
    counts = sorted(Counter(tensor.bits for tensor in plan.tensors.values()).items())
    return ", ".join(f"{plural(count, 'matrix', 'matrices')} at {plural(bits, 'bit')}" for bits, count in counts)


def method_words(plan: Plan) -> str | None:
    """How many matrices each quantizer has, where a plan mixes several; None where it does not."""
    counts = Counter(tensor.method for tensor in plan.tensors.values() if tensor.bits != UNTOUCHED)
    if len(counts) < 2:
        return None
    return ", ".join(f"{plural(count, 'matrix', 'matrices')} by {name}" for name, count in sorted(counts.items()))


def difference_table(one: Plan, other: Plan, names: tuple[str, str] = ("before", "after")) -> pd.DataFrame:
    """The matrices that two plans treat differently; columns `matrix`, both names, and `stored bits` of both."""
    first, second = names
    columns = ["matrix", first, second, f"stored bits {first}", f"stored bits {second}"]
    found = plans.diff(one, other)
    rows = [(each.matrix, each.scheme_a, each.scheme_b, each.stored_a, each.stored_b) for each in found]
    return pd.DataFrame(rows, columns=columns)


def bare(plan: Plan) -> dict[str, Any]:
    """The plan's schemes without its history, so that two ways to the same schemes are one question to measure."""
    document = plans.to_document(plan)
    history = ("created", "calibration", "evaluation", "solver", "defaults", "result", "provenance")
    kept = {name: value for name, value in document.items() if name in Plan.model_fields or name == "schema"}
    tensors = {name: {**tensor, "measured": None} for name, tensor in document["tensors"].items()}
    stored = plans.stored_bits(plan)
    budget = {"kind": "bits_per_weight", "requested": stored, "solved": stored}
    empty = dict.fromkeys((*history, "candidates_file", "candidates_sha256"))
    return {**kept, **empty, "budget": budget, "tensors": tensors, "excluded": {}}
