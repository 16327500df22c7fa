"""Stochastic rounding: up or down to a neighbouring level by chance, so that the mean over draws is the weight itself.

As noise it has the size that a width of codes makes, and no direction; it is no way to store a model. Levels are the
multiples of the step that round to nearest takes for the same group. One of them, beyond the end of a group's codes, is
used as well: the ends of a grid lie up to half a step inside of the weights, and rounding that stops there is biased.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

import lowbit
from workbench.errors import WorkbenchError
from workbench.scheme import UNTOUCHED, WIDTHS

FINER = (2**UNTOUCHED - 1) / (2**8 - 1)
"""Steps of 16 bits in one of 8 bits: exactly 257."""


def stochastic_rounding(
    weight: Float[Tensor, "out in"],
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    generator: torch.Generator,
) -> Float[Tensor, "out in"]:
    """Multiples k of the step s with E[k s] = w: k = floor(w / s + u), u even between 0 and 1.

    The variance is s^2 f (1 - f), f being how far the weight lies above the level below it, in steps.

    Args:
        weight: finite.
        bits: 1, 2, 3, 4 or 8; 16 cuts each step of 8 bits into 257, which no kernel stores.
        group_size: columns that share a step; -1 is the whole row.
        symmetric: the step of the symmetric grid.
        generator: chance, on the CPU, so that a seed gives the same weights on every device.

    Raises:
        WorkbenchError: another width, or a weight that no grid reaches.
    """
    step = grid_steps(weight, bits, group_size, symmetric)
    chance = torch.rand(weight.shape, generator=generator, dtype=torch.float64).to(weight.device)
    return ((weight.double() / step + chance).floor() * step).to(weight.dtype)


def grid_steps(
    weight: Float[Tensor, "out in"], bits: int, group_size: int, symmetric: bool = False
) -> Float64[Tensor, "out in"]:
    """The step of each weight's grid, from the scale that is stored for its group.

    Raises:
        WorkbenchError: as `stochastic_rounding`.
    """
    if bits not in (*WIDTHS, UNTOUCHED):
        raise WorkbenchError(f"bits has value {bits!r}; choose one of: {', '.join(map(str, (*WIDTHS, UNTOUCHED)))}")
    held = min(bits, 8)
    try:
        grid = lowbit.group_grid(weight.contiguous(), bits=held, group_size=group_size, symmetric=symmetric)
    except lowbit.LowbitError as error:
        raise WorkbenchError(str(error)) from None
    columns = weight.shape[1]
    steps = grid.scale.double().repeat_interleave(columns if group_size == -1 else group_size, 1)[:, :columns]
    return steps / FINER if bits == UNTOUCHED else steps
