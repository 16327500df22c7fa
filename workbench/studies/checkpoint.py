"""A quantized model as a folder that plain transformers opens, proven by a fresh process before it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from workbench.allocation.plan import Plan, dumps
from workbench.allocation.written import Written, with_export
from workbench.errors import WorkbenchError, unknown
from workbench.model.checkpoint.folder import check_free, check_room, new_folder
from workbench.model.checkpoint.fresh import Reloaded, reload
from workbench.model.checkpoint.packed import check_packable, installed_version
from workbench.model.checkpoint.write import other_tensors, write_checkpoint
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.progress import Progress, Steps, within
from workbench.results import Result
from workbench.scheme import UNTOUCHED
from workbench.studies.checkpoint_parts import DENSE, FORMATS, PACKED, Parts
from workbench.studies.choice import (
    Assignment,
    account,
    find_matrices,
    quantize_assignment,
    read_assignment,
    reads_calibration,
)
from workbench.studies.context import Context
from workbench.studies.inspection import inspection
from workbench.studies.texts import calibration_windows

PLAN_FILE = "workbench-plan.json"


def checkpoint(
    loaded: LoadedModel,
    *,
    out: str,
    format: str = DENSE,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Quantize and write a checkpoint: weights, configuration, tokenizer, and the plan with what the file takes.

    `dense` holds the values that any quantizer gives, in float32. `compressed-tensors` holds codes and fp16 steps of
    plain symmetric groups, at every width; nothing is rounded again. Before the folder gets its name, a process without
    our code opens it in transformers' default mode, and its logits must be ours.

    Args:
        loaded: the model.
        out: the folder to make; it must not be there.
        format: `dense` or `compressed-tensors`.
        scheme: one scheme for all matrices.
        plan: or a plan.
        calibration: text, where the quantizer reads one.
        tokens: cap of its tokens.
        window: tokens of one sequence.
        context: what the process shares.

    Raises:
        WorkbenchError: the folder is there, a format that cannot carry this choice, a disk that is full, a checkpoint
            that does not open or computes other logits. Nothing is left of it then.
    """
    context, place = context or Context(), Path(out).expanduser()
    assignment = _asked(loaded, place, format, read_assignment(loaded, scheme, plan))
    seen = calibration_windows(loaded, calibration, tokens, window) if reads_calibration(assignment) else None
    quantized = yield from within(quantize_assignment(loaded, assignment, seen, context), 0.0, 0.7)
    inspected = (yield from within(inspection(loaded), 0.7, 0.7)).document
    parts = Parts(loaded, find_matrices(loaded), assignment, quantized)
    tensors, config = parts.packed() if format == PACKED else (parts.dense(), None)
    others = other_tensors(loaded, dict.fromkeys(quantized.weights))
    with new_folder(place) as folder:
        yield Progress(0.75, 1.0, "writing")
        file = write_checkpoint(folder, loaded, {**others, **tensors}, config)
        back = yield from within(reload(folder, loaded, quantized.dense()), 0.8, 1.0)
        written = _written(format, file, {**others, **tensors}, _of_matrices(tensors, others, parts.matrices), back)
        carried_out = parts.plan(plan, inspected)
        if carried_out is not None:
            carried_out = with_export(carried_out, written)
            (folder / PLAN_FILE).write_text(dumps(carried_out), encoding="utf-8")
    rows = pd.DataFrame(_rows({**others, **tensors}), columns=["name", "dtype", "bytes"])
    return Result(_document(place, written, parts, parts.losses(format, others), carried_out), {"tensors": rows})


def _asked(loaded: LoadedModel, place: Path, format: str, assignment: Assignment | None) -> Assignment:
    """The assignment, once nothing that is known before computing speaks against it."""
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    check_free(place)
    if assignment is None:
        raise WorkbenchError("nothing says how to quantize; give a plan or a quantizer")
    matrices = find_matrices(loaded)
    if format == PACKED:
        _check_grids(matrices, assignment)
    check_room(place, 4 * sum(m.parameters for m in matrices) if format == DENSE else 0)
    return assignment


def _document(place: Path, written: Written, parts: Parts, losses: list[str], plan: Plan | None) -> dict[str, Any]:
    return {
        "out": str(place),
        "format": written.format,
        "bytes": written.file_bytes,
        "tensor_bytes": written.tensor_bytes,
        "matrix_bytes": written.matrix_bytes,
        "max_logit_difference": written.max_logit_difference,
        "stored_bits": account(parts.matrices, parts.quantized.weights).stored_bits,
        "measured_file": None if plan is None else plan.budget.measured_file,
        "plan": None if plan is None else PLAN_FILE,
        "versions": dict(written.versions),
        "losses": losses,
        "notes": parts.quantized.notes,
    }


def _check_grids(matrices: list[Matrix], assignment: Assignment) -> None:
    """Refuse, before anything is computed, what the schemes alone rule out."""
    installed = installed_version()
    for matrix in matrices:
        scheme = assignment[matrix.name]
        if scheme.bits != UNTOUCHED:
            check_packable(matrix, scheme.bits or 1, scheme.group_size, scheme.symmetric, installed)


def _written(format: str, file: Path, tensors: Mapping[str, Tensor], of: list[str], back: Reloaded) -> Written:
    sizes = {name: one.nbytes for name, one in tensors.items()}
    held = sum(sizes[name] for name in of)
    return Written(format, file.stat().st_size, sum(sizes.values()), held, back.difference, back.versions)


def _of_matrices(tensors: Mapping[str, Tensor], others: Mapping[str, Tensor], matrices: list[Matrix]) -> list[str]:
    """Names in the file that stand for matrices: the quantized ones' tensors, and those left as they are."""
    return [*tensors, *(matrix.name for matrix in matrices if matrix.name in others)]


def _rows(tensors: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {"name": name, "dtype": str(one.dtype).removeprefix("torch."), "bytes": one.nbytes}
        for name, one in tensors.items()
    ]
