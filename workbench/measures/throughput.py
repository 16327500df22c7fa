"""How fast the low-bit kernels run here, beside how fast this machine copies memory.

Quantizing reads a weight once and writes little, so the rate at which memory is copied is the ceiling of every kernel.
A rate counts the bytes that have to be moved (weights read or written at their own width, codes, scales and zero
points), over the best time of several runs; on a GPU each run waits for the device. Inputs of a small model fit the
cache, where a kernel may beat the copy rate of main memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

import lowbit

COPY_BYTES = 2**27
"""Size of the buffer that is copied: larger than the caches of common processors."""
SECONDS = 0.3
"""Time spent on each measurement, at least two runs."""


@dataclass(frozen=True)
class Rate:
    """One operation over all the given weights.

    Attributes:
        operation: name in the `lowbit` package.
        bits: width of the codes; None where it reads all widths at once.
        backend: "torch" or "triton".
        reason: why that one.
        seconds: best time of one run.
        moved: bytes that have to be read and written.
    """

    operation: str
    bits: int | None
    backend: str
    reason: str
    seconds: float
    moved: int


def copy_rate(device: torch.device) -> float:
    """Bytes a second of copying memory on the device, bytes read and bytes written both counted."""
    source = torch.ones(COPY_BYTES // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source), device)


def kernel_rates(weights: Sequence[Tensor], *, bits: Sequence[int], group_size: int, symmetric: bool) -> Iterator[Rate]:
    """Time quantize, dequantize and errors at every width, and the error table of all widths.

    Args:
        weights: contiguous matrices `[out, in]`, all on one device.
        bits: widths of the codes.
        group_size: columns that share a scale.
        symmetric: no zero points.
    """
    dense = sum(w.nbytes for w in weights)
    buffers = [torch.empty_like(w) for w in weights]
    for width in bits:
        grid = {"bits": width, "group_size": group_size, "symmetric": symmetric}
        packed = [lowbit.quantize(w, **grid) for w in weights]
        stored, cells = sum(one.nbytes for one in packed), sum(4 * one.scale.numel() for one in packed)

        def fill(held: Sequence[lowbit.PackedWeight] = packed) -> None:
            for one, out in zip(held, buffers, strict=True):
                lowbit.dequantize(one, dtype=out.dtype, out=out)

        yield _rate("quantize", width, weights, partial(_each, lowbit.quantize, weights, grid), dense + stored)
        yield _rate("dequantize", width, weights, fill, dense + stored)
        yield _rate("errors", width, weights, partial(_each, lowbit.errors, weights, grid), dense + cells)
    table = {"widths": tuple(bits), "group_sizes": (group_size,), "symmetric": symmetric}
    rows = sum(8 * len(bits) * w.shape[0] for w in weights)
    yield _rate("error_table", None, weights, partial(_each, lowbit.error_table, weights, table), dense + rows)


def _each(call: Callable[..., object], weights: Sequence[Tensor], arguments: Mapping[str, Any]) -> None:
    for w in weights:
        call(w, **arguments)


def _rate(operation: str, bits: int | None, weights: Sequence[Tensor], run: Callable[[], object], moved: int) -> Rate:
    chosen = lowbit.choose_backend(weights[0])
    return Rate(operation, bits, chosen.name, chosen.reason, _best(run, weights[0].device), moved)


def _best(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest run, the first one (which warms caches and compiles kernels) left out."""
    run()
    best, until, runs = float("inf"), time.perf_counter() + SECONDS, 0
    while runs < 2 or time.perf_counter() < until:
        _wait(device)
        begun = time.perf_counter()
        run()
        _wait(device)
        best, runs = min(best, time.perf_counter() - begun), runs + 1
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
