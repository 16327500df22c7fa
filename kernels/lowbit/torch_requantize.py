"""Quantize a weight and write its values in one pass: what a what-if needs when nothing has to be stored."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from lowbit import torch_backend
from lowbit.contract import ErrorSums
from lowbit.torch_backend import Clip


def requantize(
    w: Float[Tensor, "out in"],
    bits: int,
    group_size: int,
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
    out: Float[Tensor, "out in"],
    clip: Clip = None,
) -> ErrorSums:
    """The values of `dequantize(quantize(w))` in `out`, rounded to its dtype, and the sums of `errors`.

    Args:
        w: see `torch_backend.errors`, like all that is not named here.
        bits: see there.
        group_size: see there.
        symmetric: see there.
        h: see there.
        out: contiguous, where the values go; shares no memory with `w`.
        clip: see there.

    Raises:
        LowbitError: NaN, infinity or a scale beyond fp16. Rows before the bad one are then written.
    """
    squared = torch.empty(torch_backend.grid_shape(w, group_size), dtype=torch.float32, device=w.device)
    weighted = None if h is None else torch.empty_like(squared)
    for block in torch_backend.blocks(w, group_size):
        place = out[block.rows, block.run.columns].unflatten(1, (block.run.count, block.run.length))
        grid = torch_backend.grid_of(block, bits, symmetric, clip)
        values = torch_backend.rounded(block, grid, bits, place if out.dtype == torch.float32 else None)
        if values is not place:
            place.copy_(values)
        square = torch.sub(values, block.values, out=block.spare).square_()
        squared[block.rows, block.run.groups] = square.sum(-1)
        if h is not None and weighted is not None:
            weighted[block.rows, block.run.groups] = square.mul_(torch_backend.by_group(h, block.run)).sum(-1)
    return ErrorSums(squared, weighted)
