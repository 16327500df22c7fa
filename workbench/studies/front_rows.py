"""The measured points of `front`, sorted into the front itself, the uniform plans and the rules of thumb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.allocation.plan import Plan, to_document
from workbench.allocation.planning import Wish
from workbench.results import Result
from workbench.studies.decision import Decision


def sort_out(
    found: Mapping[str, Any],
    wishes: Sequence[Wish],
    taken: Sequence[Decision],
    uniform: Sequence[Plan],
    ruled: Sequence[Mapping[str, Any]],
) -> Result:
    """Rows of `tradeoff` in the order front, uniform, rules, as the document and the table of `front`."""
    rows = found["points"]
    front, even = rows[: len(taken)], rows[len(taken) : len(taken) + len(uniform)]
    points = [
        {
            "budget": wish.request.bits,
            **_measured(row),
            "label": one.taken.label,
            "reason": one.reason,
            "predicted_loss": one.taken.predicted,
            "measured_loss": row["delta_loss"],
            "plan": to_document(one.taken.plan),
        }
        for wish, row, one in zip(wishes, front, taken, strict=True)
    ]
    alike = [
        {
            "bits": next(iter(plan.tensors.values())).bits,
            "quantizer": next(iter(plan.tensors.values())).method,
            **_measured(row),
            "plan": to_document(plan),
        }
        for plan, row in zip(uniform, even, strict=True)
    ]
    rules = [
        {"metric": one["metric"], "budget": one["budget"], **_measured(row), "plan": to_document(one["plan"])}
        for one, row in zip(ruled, rows[len(taken) + len(uniform) :], strict=True)
    ]
    kinds = [("front", points), ("uniform", alike), ("rule", rules)]
    table = pd.DataFrame([{"kind": kind, **_flat(one)} for kind, held in kinds for one in held])
    facts = {key: found[key] for key in ("model", "text", "reference")}
    return Result({**facts, "points": points, "uniform": alike, "rules": rules}, {"points": table})


def _measured(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("stored_bits", "perplexity", "loss", "standard_error", "delta_loss", "delta_standard_error", "kl_mean")
    return {key: row[key] for key in (*kept, "top1_agreement")}


def _flat(one: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key != "plan"}
