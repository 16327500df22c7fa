"""Several widths in one matrix, in plain torch: made from columns gathered by width, written back in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lowbit import dispatch, pack
from lowbit.contract import LowbitError, PackedWeight, check_grid_options, check_weight
from lowbit.parts import BinaryWeight, MixedWeight, Weight
from lowbit.torch_backend import _row_chunks

Part = PackedWeight | BinaryWeight
Decoder = Callable[[Part, Tensor], None]
"""Writes the values of a part to a contiguous buffer of its shape."""


def quantize_mixed(
    w: Float[Tensor, "out in"],
    *,
    widths: Sequence[int],
    group_size: int,
    symmetric: bool = False,
    backend: str | None = None,
) -> MixedWeight:
    """Quantize each group of columns at a width of its own (SliM-LLM, arXiv 2405.14917).

    Groups of one width are gathered into one packed weight. The codes are those of `lowbit.quantize` on each group
    alone; a short last group stays the last of its part.

    Args:
        w: as for `lowbit.quantize`.
        widths: bits of each group of `group_size` columns, in the order of the columns.
        group_size: as for `lowbit.quantize`.
        symmetric: as for `lowbit.quantize`.
        backend: as for `lowbit.quantize`.

    Raises:
        LowbitError: as `lowbit.quantize`; widths that are not one a group.
    """
    w = check_weight(w)
    for bits in set(widths):
        check_grid_options(bits, group_size)
    unit = w.shape[1] if group_size == -1 else group_size
    units = pack.group_count(w.shape[1], unit)
    if len(widths) != units:
        raise LowbitError(f"{len(widths)} widths were given, but {w.shape[1]} columns are {units} groups of {unit}")
    kinds = sorted(set(widths))
    choice = torch.tensor([kinds.index(bits) for bits in widths], dtype=torch.uint8, device=w.device)
    of_column = choice.repeat_interleave(unit)[: w.shape[1]]
    parts = []
    for place, bits in enumerate(kinds):
        columns = w[:, of_column == place].contiguous()
        parts.append(_quantize(columns, bits, group_size, symmetric, backend))
    return MixedWeight(tuple(parts), choice, unit, (w.shape[0], w.shape[1]))


def dequantize(weight: MixedWeight, out: Float[Tensor, "out in"], decode: Decoder | None = None) -> None:
    """Write the values to `out`, rounded to its dtype; `decode` writes those of one part (torch's where None)."""
    layout = columns_by_part(weight)
    for rows in _row_chunks(*weight.shape, out.device):
        fill_rows(layout, rows, out[rows], decode or decode_part)


def columns_by_part(weight: Weight) -> list[tuple[Part, Tensor | None]]:
    """The parts of any weight with their columns; None stands for all of them, in order."""
    if not isinstance(weight, MixedWeight):
        return [(weight, None)]
    if len(weight.parts) == 1:
        return [(_simple(weight.parts[0]), None)]
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
        from lowbit import torch_backend

        torch_backend.dequantize(part, out)
