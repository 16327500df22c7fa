"""From a solution to a plan: what was chosen, from which table, for which model, by which program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from workbench.allocation.blend import BLEND
from workbench.allocation.budgets import Request, bits_request
from workbench.allocation.cells import options_of, rows_of
from workbench.allocation.facts import ModelFacts
from workbench.allocation.items import Choice
from workbench.allocation.plan import check_against, check_identity, read_plan, to_document
from workbench.allocation.schema import SCHEMA_NAME, SCHEMA_VERSION, Plan
from workbench.allocation.solution import Solution
from workbench.errors import WorkbenchError, shown

Document = Mapping[str, Any]

ADDITIVE = ("isolated", "joint-path", "second-order", BLEND)
"""Ways of measuring whose sum over matrices predicts the rise of the loss."""

# What a value of the table is called in a tensor's `measured`, for tables of isolated changes.
_MEASURED = {"loss": "delta_loss", "kl": "delta_kl", "output-error": "output_rel_fro"}


def build_plan(
    solution: Solution,
    cells: Document,
    *,
    identity: Document,
    matrices: Sequence[Document],
    requested: float | Request,
    excluded: Mapping[str, str] | None = None,
    provenance: Document | None = None,
    created: datetime | None = None,
) -> Plan:
    """Write a solution down as a plan.

    Names of the model and of texts are cut to their last part where they are paths of this machine.

    Args:
        solution: one choice a matrix.
        cells: the sensitivity document that the choices came from: `cells`, and where it has them `measure`, `by`,
            `options` (of the quantizer), `calibration` (facts of the text) and `identity` (of the model measured).
        identity: the model's identity, as `inspect` prints it.
        matrices: `name` and `shape` `[out, in]` of every quantizable matrix, in the model's order.
        requested: the budget that was asked for; a number is stored bits per weight.
        excluded: parameters left as they are, and why.
        provenance: program, versions, device, threads, seed.
        created: now, unless given.

    Raises:
        WorkbenchError: the table is of another model, or its sizes do not fit the scheme that it names.
    """
    check_identity(cells.get("identity") or {}, identity, "the sensitivity table")
    request = requested if isinstance(requested, Request) else bits_request(requested)
    plan = read_plan(
        {
            "schema": SCHEMA_NAME,
            "schema_version": SCHEMA_VERSION,
            "created": (created or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "model": _model(identity),
            "calibration": _calibration(cells),
            "budget": _budget(solution, request),
            "solver": _solver(solution, cells),
            "defaults": _most_common(solution),
            "tensors": _tensors(solution, cells, matrices),
            "excluded": dict(excluded or {}),
            "result": _prediction(solution, cells),
            "provenance": None if provenance is None else dict(provenance),
        }
    )
    check_against(plan, matrices, identity)
    return plan


def with_result(plan: Plan, evaluation: Document) -> Plan:
    """The plan with what it was measured to cost.

    Args:
        plan: the plan that was measured.
        evaluation: the document of the `evaluate` study for this plan. The perplexity's standard error follows from the
            loss's: it is the perplexity times that.
    """
    document = to_document(plan)
    text = evaluation["text"]
    document["evaluation"] = {
        **{key: text.get(key) for key in ("text_sha256", "token_ids_sha256")},
        "corpus": _last_part(text["corpus"]),
        "n_tokens": text["tokens"],
        "seq_len": text["window"],
        "stride": text["window"],
    }
    predicted = (document["result"] or {}).get("additive_prediction") or {}
    error = evaluation["standard_error"]
    document["result"] = {
        "ppl_reference": evaluation["reference"]["perplexity"],
        "ppl_quantised": evaluation["perplexity"],
        "ppl_se": None if error is None or evaluation["perplexity"] is None else evaluation["perplexity"] * error,
        **{key: evaluation[key] for key in ("kl_mean", "kl_p99", "top1_agreement")},
        "additive_prediction": {**predicted, "measured": evaluation.get("delta_loss")},
    }
    return read_plan(document)


def _model(identity: Document) -> dict[str, Any]:
    facts = {field: identity[field] for field in ModelFacts.model_fields if field in identity}
    return {**facts, "id": _last_part(identity["id"], keep_owner=True)}


def _last_part(name: str, *, keep_owner: bool = False) -> str:
    """A name without the folders of this machine; `owner/name` of a hub stays whole where `keep_owner`."""
    parts = name.replace("\\", "/").rstrip("/").split("/")
    is_hub = keep_owner and len(parts) == 2 and parts[0].strip(".~") and ":" not in parts[0]
    return name if is_hub else parts[-1]


def _budget(solution: Solution, request: Request) -> dict[str, Any]:
    if request.kind == "bits_per_weight":
        return {"requested": request.requested, "solved": solution.stored_bits}
    size = sum(choice.size for choice in solution.choices.values()) / 8 + (request.other_bytes or 0)
    counted = {"counted": ["linear", "embedding", "norm"], "lm_head": "included", "embeddings": "included"}
    known = {"kind": request.kind, "requested": request.requested, "solved": size, "other_bytes": request.other_bytes}
    return {**known, **(counted if request.other_bytes else {})}


def _calibration(cells: Document) -> dict[str, Any] | None:
    text = cells.get("calibration")
    if not text:
        return None
    return {
        "corpus": _last_part(text["corpus"]),
        **{key: text.get(key) for key in ("text_sha256", "token_ids_sha256")},
        "n_sequences": text["tokens"] // text["window"],
        "seq_len": text["window"],
    }


def _solver(solution: Solution, cells: Document) -> dict[str, Any]:
    return {
        "name": solution.solver,
        "version": solution.version,
        "objective": " ".join(["sum of", *(cells[key] for key in ("by", "measure") if cells.get(key))]),
        "status": solution.status,
        "value": solution.value,
        "bound": solution.bound,
        "mip_gap": solution.gap,
        "seconds": solution.seconds,
        "ties": [list(group) for group in solution.ties],
        "tie_price": solution.tie_price,
        "locks": solution.locks,
        # Schemes without a value were no choices; the reader should know.
        "left_out": [[row["matrix"], row["bits"]] for row in rows_of(cells) if row.get("value") is None],
    }


def _most_common(solution: Solution) -> dict[str, Any]:
    method, bits, group_size, symmetric = Counter(c.scheme for c in solution.choices.values()).most_common(1)[0][0]
    return {"method": method, "bits": bits, "group_size": group_size, "symmetric": symmetric}


def _tensors(solution: Solution, cells: Document, matrices: Sequence[Document]) -> dict[str, Any]:
    shapes = {matrix["name"]: list(matrix["shape"]) for matrix in matrices}
    strange = next((name for name in solution.choices if name not in shapes), None)
    if strange is not None:
        raise WorkbenchError(f"the sensitivity table is about a matrix that the model does not have: {shown(strange)}")
    rows = {(row["matrix"], row["quantizer"], row["bits"], row["group_size"]): row for row in rows_of(cells)}
    planned: dict[str, Any] = {}
    for name in (name for name in shapes if name in solution.choices):
        choice = solution.choices[name]
        row = rows.get((name, choice.quantizer, choice.bits, choice.group_size))
        planned[name] = {**_tensor(choice, shapes[name], cells), "measured": _measured(cells, row)}
    return planned


def _tensor(choice: Choice, shape: list[int], cells: Document) -> dict[str, Any]:
    return {
        "shape": shape,
        "numel": shape[0] * shape[1],
        "method": choice.quantizer,
        "bits": choice.bits,
        "group_size": choice.group_size,
        "symmetric": choice.symmetric,
        "method_options": options_of(cells, choice.quantizer),
        "storage_bits": choice.size,
    }


def _is_isolated(cells: Document) -> bool:
    return cells.get("by") == "isolated" and cells.get("measure") in _MEASURED


def _measured(cells: Document, row: Document | None) -> dict[str, Any] | None:
    """What the table measured for this matrix alone; a table of another kind apportions, which is no measurement."""
    if row is None or not _is_isolated(cells):
        return None
    tokens = row.get("tokens") or (cells.get("calibration") or {}).get("tokens")
    return {_MEASURED[cells["measure"]]: row["value"], "se": row.get("standard_error"), "n_tokens": tokens}


def _prediction(solution: Solution, cells: Document) -> dict[str, Any] | None:
    if cells.get("measure") != "loss" or cells.get("by") not in ADDITIVE:
        return None
    return {"additive_prediction": {"delta_loss": solution.value, "measured": None, "by": cells["by"]}}
