"""Searches in plain torch: how far to clip each group's range, and how far to scale each column, before rounding.

Both try a list of candidates and compare the errors of the weight itself, weighted with h where it is given. With the
diagonal of the Gram matrix of the inputs as h, that is the diagonal estimate of the output error; AWQ (arXiv
2306.00978), whose searches these are, compares the real outputs of a layer instead.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from lowbit import torch_backend
from lowbit.torch_backend import Block


class ClipSearch(NamedTuple):
    """The best share of each group's range.

    Attributes:
        best: place of it among the ratios that were tried.
        error: squared error with it, weighted where h was given.
    """

    best: Int64[Tensor, "out group"]
    error: Float32[Tensor, "out group"]


def clip_search(
    w: Float[Tensor, "out in"],
    bits: int,
    group_size: int,
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
    ratios: Float32[Tensor, " ratio"],
) -> ClipSearch:
    """For each group the ratio of the range with the smallest error, the first of equals."""
    shape = torch_backend.grid_shape(w, group_size)
    error = torch.full(shape, torch.inf, dtype=torch.float32, device=w.device)
    best = torch.zeros(shape, dtype=torch.int64, device=w.device)
    for block in torch_backend.blocks(w, group_size):
        lo, hi = torch_backend.range_of(block)
        for place, ratio in enumerate(ratios):
            grid = torch_backend.grid_between(lo * ratio, hi * ratio, bits, symmetric, block)
            sums = _weighed(torch_backend.squares(block, grid, bits), h, block).sum(-1)
            least = error[block.rows, block.run.groups]
            better = sums < least
            best[block.rows, block.run.groups].masked_fill_(better, place)
            torch.where(better, sums, least, out=least)
    return ClipSearch(best, error)


def alpha_search(
    w: Float[Tensor, "out in"],
    bits: int,
    group_size: int,
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
    column_scales: Float32[Tensor, "candidate in"],
) -> Float64[Tensor, " candidate"]:
    """Error of the whole matrix when columns are multiplied by a candidate's scales, rounded, and divided by them."""
    total = torch.zeros(len(column_scales), dtype=torch.float64, device=w.device)
    for block in torch_backend.blocks(w, group_size):
        scaled = block._replace(values=torch.empty_like(block.spare))
        for place, column_scale in enumerate(column_scales):
            by_column = torch_backend.by_group(column_scale, block.run)
            torch.mul(block.values, by_column, out=scaled.values)
            grid = torch_backend.grid_of(scaled, bits, symmetric)
            difference = torch_backend.rounded(scaled, grid, bits).div_(by_column).sub_(block.values)
            total[place] += _weighed(difference.square_(), h, block).sum(-1).sum(dtype=torch.float64)
    return total


def _weighed(
    square: Float32[Tensor, "out group length"], h: Float32[Tensor, " in"] | None, block: Block
) -> Float32[Tensor, "out group length"]:
    """Squares times their columns' weights, in place."""
    return square if h is None else square.mul_(torch_backend.by_group(h, block.run))
