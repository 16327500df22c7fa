"""A choice of quantization, one scheme for all matrices or a plan with one for each, and the weights it gives."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import lowbit
from workbench.allocation.plan import check_against, read_plan, schemes
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, quantizable_matrices, read_weight
from workbench.model.texts import Windows
from workbench.progress import Steps
from workbench.quantizers.driver import Quantized, quantize_model
from workbench.quantizers.driving.schemes import complete_scheme, reads_text
from workbench.quantizers.weight import QuantizedWeight
from workbench.registry import quantizers
from workbench.scheme import UNTOUCHED, Scheme
from workbench.studies.context import Context

Assignment = dict[str, Scheme]


@dataclass(frozen=True)
class Accounting:
    """Bits per weight, the mean over matrices weighted by their size; embeddings and head stand apart."""

    stored_bits: float
    nominal_bits: float


def read_assignment(
    loaded: LoadedModel, scheme: Mapping[str, Any] | Scheme | None, plan: Mapping[str, Any] | None
) -> Assignment | None:
    """Matrix name -> scheme for a choice of quantization; None for the full model.

    Raises:
        WorkbenchError: both a scheme and a plan, a bad scheme, or a plan that is not of this model.
    """
    if scheme is not None and plan is not None:
        raise WorkbenchError("both a plan and a quantizer were given; choose one of them")
    matrices = quantizable_matrices(loaded.model)
    if scheme is not None:
        one = complete_scheme(scheme)
        return {matrix.name: one for matrix in matrices}
    if plan is not None:
        chosen = read_plan(plan)
        check_against(
            chosen, [{"name": m.name, "shape": [m.rows, m.columns]} for m in matrices], loaded.identity.to_json()
        )
        return {name: complete_scheme(_without_fixed_width(one)) for name, one in schemes(chosen).items()}
    return None


def _without_fixed_width(scheme: Scheme) -> Scheme:
    """A plan gives every matrix a width; a method that has its own is not told it."""
    fixed = quantizers.get(scheme.quantizer).traits.get("fixed_width") and scheme.bits != UNTOUCHED
    return replace(scheme, bits=None) if fixed else scheme


def reads_calibration(assignment: Assignment | None) -> bool:
    """Whether the weights of an assignment depend on the calibration text."""
    return any(reads_text(scheme) for scheme in (assignment or {}).values())


def backend_of(loaded: LoadedModel) -> dict[str, str]:
    """Which kernels quantize this model, and why: `name` and `reason`."""
    first = quantizable_matrices(loaded.model)[0]
    chosen = lowbit.choose_backend(read_weight(loaded.model, first))
    return {"name": chosen.name, "reason": chosen.reason}


def quantize_assignment(
    loaded: LoadedModel,
    assignment: Assignment,
    windows: Windows | None,
    context: Context,
    *,
    isolated: bool = False,
) -> Steps[Quantized]:
    """Every matrix of the assignment that is not left at 16 bits, by the driver; finished parts lie in the cache."""
    return quantize_model(loaded, assignment, windows, folder=context.quantized, isolated=isolated)


def account(matrices: Iterable[Matrix], quantized: Mapping[str, QuantizedWeight]) -> Accounting:
    """Stored and nominal bits per weight; a matrix without quantized weight counts 16."""
    total = stored = nominal = 0.0
    for matrix in matrices:
        weight = quantized.get(matrix.name)
        total += matrix.parameters
        stored += matrix.parameters * (UNTOUCHED if weight is None else weight.stored_bits)
        nominal += matrix.parameters * (UNTOUCHED if weight is None else weight.nominal_bits)
    return Accounting(stored / total, nominal / total)


def find_matrices(loaded: LoadedModel, names: Collection[str] | None = None) -> list[Matrix]:
    """The model's quantizable matrices, or those of the given names.

    Raises:
        WorkbenchError: the model has none, or none of that name.
    """
    matrices = quantizable_matrices(loaded.model)
    if not matrices:
        raise WorkbenchError(f"model {loaded.identity.id!r} has no matrix that can be quantized")
    if names is None:
        return matrices
    known = {matrix.name: matrix for matrix in matrices}
    for name in names:
        if name not in known:
            shown = ", ".join(list(known)[:4])
            raise WorkbenchError(
                f"model {loaded.identity.id!r} has no matrix {name[:80]!r}; the first ones are: {shown}"
            )
    return [known[name] for name in names]
