"""Which weights carry a token's evidence: the flow through every quantization group, beside what its rounding does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from workbench.attribution.group_flow import GroupFlow, group_flow
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.progress import Progress, Steps, within
from workbench.results import Result
from workbench.scheme import Scheme
from workbench.studies.attribute import explained, quantized_weights
from workbench.studies.choice import find_matrices, read_assignment
from workbench.studies.context import Context
from workbench.studies.prompt_document import of_prompt

TOP = 20
NUMBERS = ("flow", "group_output", "group_error", "group_relative_error", "flow_lost")
NOTE = (
    "Exact for the network made linear at this prompt: queries, keys and gates carry nothing in it, they decide what"
    " passes. A group is a run of input columns that share a step of the grid, in all rows of the matrix together. What"
    " a group loses is of first order: it is no measured change."
)


def token_flow(
    loaded: LoadedModel,
    *,
    prompt: str,
    position: int | None = None,
    target: str | None = None,
    contrast: str | None = None,
    top: int = TOP,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """How much of a target every group of weights carries through one token, in the full model.

    Args:
        loaded: the model.
        prompt: the text.
        position: the token, counted from 0; the last one when not given.
        target: next token, the likeliest when not given.
        contrast: explain the target rather than this.
        top: groups that the document lists, those that carry most first; the table has all.
        scheme: whose rounding is set beside the flow, and whose groups are looked at; groups of 64 without one.
        plan: the same by a plan.
        calibration: text for quantizers that read one.
        context: what the process shares.

    Raises:
        WorkbenchError: no such token, or a model that cannot be made linear.
    """
    if top < 1:
        raise WorkbenchError(f"top has value {top}; it must be at least 1")
    adapter, read, aim = explained(loaded, prompt, target, contrast)
    place = _place(position, len(read.tokens))
    matrices = find_matrices(loaded)
    weights = yield from within(quantized_weights(loaded, scheme, plan, calibration, context or Context()), 0.0, 0.6)
    yield Progress(0.6, 1.0, f"flow through {len(matrices)} matrices at token {place + 1}")
    rounded = weights or {}
    moved: dict[str, Tensor] = {
        one.name: read_weight(loaded.model, one) - rounded[one.name] for one in matrices if one.name in rounded
    }
    assignment = read_assignment(loaded, scheme, plan) or {}
    sizes = {one.name: assignment.get(one.name, Scheme()).group_size for one in matrices}
    modules = {one.name: loaded.model.get_submodule(one.module) for one in matrices}
    transposed = {one.name for one in matrices if one.transposed}
    found = group_flow(adapter, read.ids, aim, modules, place, sizes, moved, transposed)
    rows = [row for one in matrices for row in _rows(one, found[one.name], sizes[one.name])]
    leading = sorted(rows, key=lambda row: -abs(row["flow"]))[:top]
    document = {
        **of_prompt(loaded, prompt, read),
        "position": place,
        "target": aim.to_json(),
        "groups": len(rows),
        "top": leading,
        "top_share": _size(leading) / _size(rows) if _size(rows) else None,
        "matrices": [_matrix(one, found[one.name]) for one in matrices],
        "notes": [*aim.notes, NOTE],
    }
    return Result(document, {"flow": pd.DataFrame(rows).astype(dict.fromkeys(NUMBERS, "float64"))})


def _place(position: int | None, count: int) -> int:
    """The token that is looked at.

    Raises:
        WorkbenchError: the prompt has no such token.
    """
    if position is None:
        return count - 1
    if not 0 <= position < count:
        raise WorkbenchError(f"position has value {position}; this prompt has the tokens 0 to {count - 1}")
    return position


def _size(rows: Sequence[Mapping[str, Any]]) -> float:
    """The sizes of the flows, added up."""
    return sum(abs(row["flow"]) for row in rows)


def _matrix(matrix: Matrix, found: GroupFlow) -> dict[str, Any]:
    """What a matrix carries, and what its groups leave unexplained of it."""
    return {
        "name": matrix.name,
        "block": matrix.block,
        "role": matrix.role,
        "flow": found.total,
        "gap": found.total - float(found.flow.sum()),
        "lost": None if found.lost is None else float(found.lost.sum()),
    }


def _rows(matrix: Matrix, found: GroupFlow, group_size: int) -> list[dict[str, Any]]:
    """A row a group."""
    rows = []
    for group, (flow, size) in enumerate(zip(found.flow.tolist(), found.size.tolist(), strict=True)):
        error = None if found.error is None else float(found.error[group])
        rows.append(
            {
                "matrix": matrix.name,
                "block": matrix.block,
                "role": matrix.role,
                "group": group,
                "input": group * group_size if group else 0,
                "flow": flow,
                "group_output": size,
                "group_error": error,
                "group_relative_error": error / size if error is not None and size else None,
                "flow_lost": None if found.lost is None else float(found.lost[group]),
            }
        )
    return rows
