"""A weight whose groups of columns have widths of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import lowbit
from lowbit import pack
from workbench.quantizers.arithmetic.levels import AffineLevels, SignLevels
from workbench.quantizers.weight import QuantizedWeight


@dataclass(frozen=True, eq=False)
class MixedWidthWeight(QuantizedWeight):
    """Groups of neighbouring columns, each with a width for all rows; groups of one bit are signs and a magnitude.

    Attributes:
        mixed: the groups of each width, and of which width each group is.
        mean_bits: the mean width that was asked for.
    """

    mixed: lowbit.MixedWeight
    mean_bits: int

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the dense weight."""
        return self.mixed.shape

    @property
    def nominal_bits(self) -> float:
        """The mean width of a code; SliM-LLM leaves scales, zero points and the widths out of it."""
        return float(self.mean_bits)

    @property
    def widths(self) -> tuple[int, ...]:
        """Bits of each group, from left to right."""
        of_part = [1 if isinstance(part, lowbit.BinaryWeight) else part.bits for part in self.mixed.parts]
        return tuple(of_part[place] for place in self.mixed.choice.tolist())

    def tensors(self) -> dict[str, Tensor]:
        """Planes, scales or magnitudes, and zero points of the groups of each width; the part that each group is in."""
        stored = {"choice": self.mixed.choice}
        for part in self.mixed.parts:
            bits = 1 if isinstance(part, lowbit.BinaryWeight) else part.bits
            stored |= {f"bits{bits}_plane{place}": plane for place, plane in enumerate(part.planes)}
            if isinstance(part, lowbit.BinaryWeight):
                stored[f"bits{bits}_magnitude"] = part.magnitude
                continue
            stored[f"bits{bits}_scale"] = part.scale
            if part.zero is not None:
                stored[f"bits{bits}_zero"] = part.zero
        return stored

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight."""
        return lowbit.dequantize(self.mixed, dtype=dtype)


def pack_groups(
    found: Float[Tensor, "in out"],
    levels: Sequence[AffineLevels | SignLevels],
    widths: Sequence[int],
    group_size: int,
    symmetric: bool,
) -> lowbit.MixedWeight:
    """Pack what a sweep rounded to.

    Args:
        found: multiples of the step, see `level_sweep.sweep_fitted`.
        levels: of each group.
        widths: bits of each group.
        group_size: columns of a group; the last may be shorter.
        symmetric: no zero points.
    """
    kinds = sorted(set(widths))
    codes = [one.codes(part) for one, part in zip(levels, found.split(group_size), strict=True)]
    parts: list[lowbit.PackedWeight | lowbit.BinaryWeight] = []
    for bits in kinds:
        members = [place for place, width in enumerate(widths) if width == bits]
        held = torch.cat([codes[place] for place in members]).T.contiguous()
        parts.append(_pack(held, [levels[place] for place in members], bits, group_size, symmetric))
    choice = torch.tensor([kinds.index(bits) for bits in widths], dtype=torch.uint8, device=found.device)
    return lowbit.MixedWeight(tuple(parts), choice, group_size, (found.shape[1], found.shape[0]))


def _pack(
    codes: Tensor, levels: Sequence[AffineLevels | SignLevels], bits: int, group_size: int, symmetric: bool
) -> lowbit.PackedWeight | lowbit.BinaryWeight:
    """The groups of one width."""
    signs = [one.magnitude for one in levels if isinstance(one, SignLevels)]
    if signs:
        magnitude = torch.stack(signs, dim=1).unsqueeze(2)
        shape = (codes.shape[0], codes.shape[1])
        return lowbit.BinaryWeight(pack.pack(codes, 1, group_size), magnitude, shape, group_size)
    grids = [one for one in levels if isinstance(one, AffineLevels)]
    zero = None if symmetric else torch.stack([one.zero for one in grids], dim=1)
    grid = lowbit.Grid(torch.stack([one.scale for one in grids], dim=1), zero)
    return lowbit.PackedWeight.from_codes(codes, grid, bits=bits, group_size=group_size)
