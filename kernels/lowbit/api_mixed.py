"""A matrix with a width for each group of columns, made of packed weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lowbit import pack
from lowbit.api import quantize
from lowbit.contract import LowbitError, check_grid_options, check_weight
from lowbit.parts import MixedWeight


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
        options = {"bits": bits, "group_size": group_size, "symmetric": symmetric, "backend": backend}
        parts.append(quantize(columns, **options))
    return MixedWeight(tuple(parts), choice, unit, (w.shape[0], w.shape[1]))
