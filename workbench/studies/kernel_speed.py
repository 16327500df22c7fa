"""What runs here: the backend of each low-bit kernel, why, and how fast it is on this model's own matrices."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

import lowbit
from workbench.errors import WorkbenchError
from workbench.measures.throughput import copy_rate, kernel_rates
from workbench.model.load import LoadedModel
from workbench.model.matrices import read_weight
from workbench.progress import Progress, Steps
from workbench.results import Result
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context

LARGEST = 2**24
"""Weights that are worked on at most, so that the study stays short on a large model: 64 MB in float32."""


def kernel_speed(
    loaded: LoadedModel,
    *,
    bits: Sequence[int] = (2, 3, 4, 8),
    group_size: int = 64,
    symmetric: bool = False,
    context: Context | None = None,
) -> Steps[Result]:
    """Time every kernel over the model's matrices, in their order until 16.8 M weights, beside a copy of memory.

    Raises:
        WorkbenchError: a width or group size that no kernel has, or no widths.
    """
    if not bits:
        raise WorkbenchError("no bits were given; choose among: 1, 2, 3, 4, 8")
    weights: list[torch.Tensor] = []
    for matrix in find_matrices(loaded):
        if not weights or sum(w.numel() for w in weights) + matrix.parameters <= LARGEST:
            weights.append(read_weight(loaded.model, matrix).contiguous())
    yield Progress(0.0, 1.0, "copying memory")
    copied = copy_rate(weights[0].device)
    numel, rows, steps = sum(w.numel() for w in weights), [], 3 * len(bits) + 1
    try:
        for rate in kernel_rates(weights, bits=list(bits), group_size=group_size, symmetric=symmetric):
            rows.append(
                {
                    "operation": rate.operation,
                    "bits": rate.bits,
                    "backend": rate.backend,
                    "reason": rate.reason,
                    "seconds": rate.seconds,
                    "weights_per_second": numel / rate.seconds,
                    "bytes_per_second": rate.moved / rate.seconds,
                    "share_of_copy": rate.moved / rate.seconds / copied,
                }
            )
            yield Progress((1 + len(rows)) / (1 + steps), 1.0, f"{rate.operation} timed")
    except lowbit.LowbitError as error:
        raise WorkbenchError(str(error)) from None
    chosen = lowbit.choose_backend(weights[0])
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "device": str(weights[0].device),
        "threads": torch.get_num_threads(),
        "backend": chosen.name,
        "reason": chosen.reason,
        "dtype": str(weights[0].dtype).removeprefix("torch."),
        "matrices": len(weights),
        "weights": numel,
        "group_size": group_size,
        "symmetric": symmetric,
        "copy_bytes_per_second": copied,
        "operations": rows,
    }
    return Result(document, {"kernel_speed": pd.DataFrame(rows)})
