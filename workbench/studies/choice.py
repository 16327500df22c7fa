"""A choice of quantization, one scheme for all matrices or a plan with one for each, and the weights it gives."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import lowbit
from workbench.allocation.plan import check_against, read_plan, schemes
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, quantizable_matrices, read_weight
from workbench.model.statistics import SiteStatistics, Statistics
from workbench.progress import Progress, Steps
from workbench.quantizers.weight import QuantizedWeight
from workbench.registry import quantizers
from workbench.scheme import UNTOUCHED, Scheme

Assignment = dict[str, Scheme]


@dataclass(frozen=True)
class Accounting:
    """Bits per weight, the mean over matrices weighted by their size; embeddings and head stand apart."""

    stored_bits: float
    nominal_bits: float


def complete_scheme(document: Mapping[str, Any] | Scheme) -> Scheme:
    """A scheme with its quantizer looked up and its options checked and completed.

    Raises:
        WorkbenchError: unknown quantizer or option, or a width given to a quantizer of fixed width.
    """
    scheme = document if isinstance(document, Scheme) else Scheme.from_json(document)
    method = quantizers.get(scheme.quantizer)
    if method.traits.get("fixed_width"):
        if scheme.bits is not None:
            raise WorkbenchError(
                f"quantizer {scheme.quantizer!r} has a fixed width and takes no bits; {scheme.bits} given"
            )
    elif scheme.bits is None:
        raise WorkbenchError(f"quantizer {scheme.quantizer!r} needs bits; choose one of: 1, 2, 3, 4, 8")
    options = method.parse_options(scheme.options)
    return Scheme(scheme.quantizer, scheme.bits, scheme.group_size, scheme.symmetric, options)


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
        return {name: complete_scheme(one) for name, one in schemes(chosen).items()}
    return None


def needed_statistics(assignment: Assignment | None) -> set[str]:
    """The statistics that the quantizers of an assignment read."""
    chosen = {scheme.quantizer for scheme in (assignment or {}).values() if scheme.bits != UNTOUCHED}
    return {need for name in chosen for need in quantizers.get(name).needs}


def quantize_matrix(weight: Tensor, stats: SiteStatistics | None, scheme: Scheme) -> QuantizedWeight:
    """One matrix `[out, in]` under one scheme that is not 16 bits."""
    widths = {} if scheme.bits is None else {"bits": scheme.bits}
    return quantizers.get(scheme.quantizer)(
        weight, stats, **widths, group_size=scheme.group_size, symmetric=scheme.symmetric, **scheme.options
    )


def backend_of(loaded: LoadedModel) -> dict[str, str]:
    """Which kernels quantize this model, and why: `name` and `reason`."""
    first = quantizable_matrices(loaded.model)[0]
    chosen = lowbit.choose_backend(read_weight(loaded.model, first))
    return {"name": chosen.name, "reason": chosen.reason}


def quantize_model(
    loaded: LoadedModel, assignment: Assignment, statistics: Statistics | None
) -> Steps[dict[str, QuantizedWeight]]:
    """Every matrix of the assignment that is not left at 16 bits, one step a matrix."""
    matrices = [m for m in quantizable_matrices(loaded.model) if assignment[m.name].bits != UNTOUCHED]
    quantized: dict[str, QuantizedWeight] = {}
    for done, matrix in enumerate(matrices):
        yield Progress(done, len(matrices), f"quantizing {matrix.name}")
        stats = statistics.of(matrix) if statistics is not None else None
        quantized[matrix.name] = quantize_matrix(read_weight(loaded.model, matrix), stats, assignment[matrix.name])
    return quantized


def dense(quantized: Mapping[str, QuantizedWeight]) -> dict[str, Tensor]:
    """The dequantized weights, float32 `[out, in]`, ready for the overlay."""
    return {name: weight.dequantize(torch.float32) for name, weight in quantized.items()}


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
