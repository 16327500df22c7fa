"""The torch backend with its passes over the weights fused by `torch.compile`: an option where a C++ compiler is.

Grids are made by `torch_backend` itself, some rows at a time, and refuse what it refuses; only the steps on each weight
are compiled, in one loop that writes nothing but results. Codes and values are the same bit for bit, sums are added in
another order. Several widths cost little more than one.

Sizes, widths and schemes are arguments of the compiled code, not part of it: it is built once for each number of widths
and layout (some seconds), never again when a slider moves.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from lowbit import torch_backend
from lowbit.contract import ErrorSums, LowbitError
from lowbit.torch_backend import Block, Clip

BUILDS = 64
"""Versions of one function that may be built: numbers of widths times layouts, with room to spare."""
CHUNK = 2**20
"""Elements of a block: a compiled loop writes no temporaries, so a block need not fit the cache but be worth a call."""


class Levels(NamedTuple):
    """The grids of one block at several widths, as the compiled code reads them.

    Attributes:
        scale: of each group.
        inv: its reciprocal.
        zero: the code of the value 0.
        top: the largest code.
    """

    scale: Float32[Tensor, "width out group 1"]
    inv: Float32[Tensor, "width out group 1"]
    zero: Float32[Tensor, "width out group 1"]
    top: Float32[Tensor, " width"]


def errors(
    w: Float[Tensor, "out in"],
    bits: int,
    group_size: int,
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
    clip: Clip = None,
) -> ErrorSums:
    """See `torch_backend.errors`.

    Raises:
        LowbitError: also where nothing can be compiled.
    """
    return _swept(w, bits, group_size, symmetric, h, clip, None)


def error_table(
    w: Float[Tensor, "out in"],
    widths: Sequence[int],
    group_sizes: Sequence[int],
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
) -> Float64[Tensor, "out width size"]:
    """See `torch_backend.error_table`.

    Raises:
        LowbitError: also where nothing can be compiled.
    """
    table = w.new_zeros((w.shape[0], len(widths), len(group_sizes)), dtype=torch.float64)
    for size, group_size in enumerate(group_sizes):
        for block, levels, weights in _blocks(w, widths, group_size, symmetric, h, None):
            sums = torch.empty(levels.scale.shape[:3])
            _call(_table_sums, block.values, levels, weights, sums)
            table[block.rows, :, size] += sums.sum(-1, dtype=torch.float64).t()
    return table


def requantize(
    w: Float[Tensor, "out in"],
    bits: int,
    group_size: int,
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
    out: Float[Tensor, "out in"],
    clip: Clip = None,
) -> ErrorSums:
    """See `torch_requantize.requantize`.

    Raises:
        LowbitError: also where nothing can be compiled.
    """
    return _swept(w, bits, group_size, symmetric, h, clip, out)


def _swept(
    w: Float[Tensor, "out in"],
    bits: int,
    group_size: int,
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
    clip: Clip,
    out: Float[Tensor, "out in"] | None,
) -> ErrorSums:
    """The sums of every group, and the rounded values in `out` where there is one."""
    squared = w.new_empty(torch_backend.grid_shape(w, group_size), dtype=torch.float32)
    weighted = torch.empty_like(squared)
    for block, levels, weights in _blocks(w, (bits,), group_size, symmetric, h, clip):
        sums = squared[block.rows, block.run.groups], weighted[block.rows, block.run.groups]
        if out is None:
            _call(_error_sums, block.values, levels, weights, *sums)
        else:
            values = out[block.rows, block.run.columns].unflatten(1, (block.run.count, block.run.length))
            _call(_values_and_sums, block.values, levels, weights, *sums, values)
    return ErrorSums(squared, None if h is None else weighted)


def obstacle(device: torch.device) -> str | None:
    """Why nothing can be compiled for tensors on `device`, or None."""
    if device.type != "cpu":
        return f"the weight is on {device}, where the triton backend does the same"
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler):
        return None
    return f"there is no C++ compiler {compiler} (the environment variable CXX may name another)"


def _blocks(
    w: Float[Tensor, "out in"],
    widths: Sequence[int],
    group_size: int,
    symmetric: bool,
    h: Float32[Tensor, " in"] | None,
    clip: Clip,
) -> Iterator[tuple[Block, Levels, Float32[Tensor, "group length"]]]:
    """Blocks with their grids and the weights of their columns, which are ones where none are given."""
    reason = obstacle(w.device)
    if reason is not None:
        raise LowbitError(f"torch.compile cannot be used here: {reason}; choose torch")
    h = torch.ones(w.shape[1]) if h is None else h
    top = torch.tensor([2.0**bits - 1 for bits in widths])
    for block in torch_backend.blocks(w, group_size, CHUNK):
        lo, hi = torch_backend.range_of(block)
        if clip is not None:
            share = clip[block.rows, block.run.groups]
            lo, hi = lo * share, hi * share
        grids = torch_backend.grids_between(lo, hi, widths, symmetric, block)
        scale = torch.stack([grid.scale for grid in grids]).float().unsqueeze(-1)
        if symmetric:
            zero = ((top + 1) / 2).view(-1, 1, 1, 1).expand(scale.shape).contiguous()
        else:
            zero = torch.stack([grid.zero for grid in grids if grid.zero is not None]).float().unsqueeze(-1)
        levels = Levels(scale, scale.reciprocal(), zero, top)
        yield block, levels, torch_backend.by_group(h, block.run)


def _call(function: Callable[..., Any], *arguments: Any) -> None:
    from torch._dynamo import config  # takes two seconds, and Triton

    with config.patch(recompile_limit=BUILDS):
        _compiled(function)(*arguments)


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True, fullgraph=True)


def _rounded(
    values: Float32[Tensor, "out group length"], levels: Levels, width: int
) -> Float32[Tensor, "out group length"]:
    """The nearest levels of one of the widths, as `contract` says."""
    zero, top = levels.zero[width], levels.top[width]
    codes = torch.minimum(((values * levels.inv[width]).round() + zero).clamp(min=0), top)
    return (codes - zero) * levels.scale[width]


def _error_sums(values, levels, weights, squared, weighted):  # type: ignore[no-untyped-def]
    square = (_rounded(values, levels, 0) - values).square()
    squared.copy_(square.sum(-1))
    weighted.copy_((square * weights).sum(-1))


def _table_sums(values, levels, weights, sums):  # type: ignore[no-untyped-def]
    for width in range(len(sums)):
        square = (_rounded(values, levels, width) - values).square()
        sums[width].copy_((square * weights).sum(-1))


def _values_and_sums(values, levels, weights, squared, weighted, out):  # type: ignore[no-untyped-def]
    rounded = _rounded(values, levels, 0)
    square = (rounded - values).square()
    out.copy_(rounded)
    squared.copy_(square.sum(-1))
    weighted.copy_((square * weights).sum(-1))
