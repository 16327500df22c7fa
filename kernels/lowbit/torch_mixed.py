"""Several widths in one matrix, in plain torch: the values of its parts, written back in the order of the columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lowbit import torch_backend
from lowbit.contract import PackedWeight
from lowbit.parts import BinaryWeight, MixedWeight, Weight

Part = PackedWeight | BinaryWeight
Decoder = Callable[[Part, Tensor], None]
"""Writes the values of a part to a contiguous buffer of its shape."""


def dequantize(weight: MixedWeight, out: Float[Tensor, "out in"], decode: Decoder | None = None) -> None:
    """Write the values to `out`, rounded to its dtype; `decode` writes those of one part (torch's where None)."""
    layout = columns_by_part(weight)
    for rows in torch_backend.row_chunks(*weight.shape, out.device):
        fill_rows(layout, rows, out[rows], decode or decode_part)


def columns_by_part(weight: Weight) -> list[tuple[Part, Tensor | None]]:
    """The parts of any weight with their columns; None stands for all of them, in order."""
    if not isinstance(weight, MixedWeight):
        return [(weight, None)]
    return [(part, weight.columns_of(place)) for place, part in enumerate(weight.parts)]


def fill_rows(
    layout: list[tuple[Part, Tensor | None]], rows: slice, out: Float[Tensor, "part in"], decode: Decoder
) -> None:
    """Write the values of some rows to `out`."""
    for part, columns in layout:
        held = part_rows(part, rows)
        if columns is None:
            decode(held, out)
        else:
            values = torch.empty(held.shape, dtype=out.dtype, device=out.device)
            decode(held, values)
            out.index_copy_(1, columns, values)


def part_rows(part: Part, rows: slice) -> Part:
    """Some rows of a part: views of what it holds."""
    planes = tuple(plane[rows] for plane in part.planes)
    shape = (planes[0].shape[0], part.shape[1])
    if isinstance(part, BinaryWeight):
        return replace(part, planes=planes, magnitude=part.magnitude[rows], shape=shape)
    zero = None if part.zero is None else part.zero[rows]
    return replace(part, planes=planes, scale=part.scale[rows], zero=zero, shape=shape)


def decode_part(part: Part, out: Float[Tensor, "out in"]) -> None:
    """The torch backend's values of a part."""
    if isinstance(part, BinaryWeight):
        from lowbit import torch_binary

        torch_binary.dequantize(part, out)
    else:
        torch_backend.dequantize(part, out)
