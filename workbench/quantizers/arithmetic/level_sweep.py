"""The sweep that rounds to prepared levels: GPTQ's, several times faster than its published loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.quantizers.arithmetic.levels import Levels
from workbench.quantizers.arithmetic.sweep import blocks_of, sweep_steps, transposed

L = TypeVar("L", bound=Levels)


def sweep_fixed(
    weight: Float[Tensor, "out in"],
    upper: Float[Tensor, "in in"],
    levels: Sequence[Levels],
    group_of: Sequence[int],
    *,
    block: int,
) -> Float[Tensor, "in out"]:
    """The levels, as multiples of their step, that a sweep rounds to when every group's levels are fixed before it.

    Args:
        weight: full weight; not changed.
        upper: factor of the inverse damped Hessian.
        levels: one a group.
        group_of: group of each column.
        block: columns whose updates are applied to the rest at once.
    """
    held = transposed(weight, torch.float32)
    found = torch.empty_like(held)
    rows = found.unbind(0)

    def step(place: int, column: Float[Tensor, " out"], lost: Float[Tensor, " out"]) -> None:
        levels[group_of[place]].round(column, rows[place], lost)

    sweep_steps(held, upper.float(), step, blocks=blocks_of(len(held), block))
    return found


def sweep_fitted(
    weight: Float[Tensor, "out in"],
    upper: Float[Tensor, "in in"],
    fit: Callable[[Float[Tensor, "columns out"], int], L],
    *,
    group_size: int,
    block: int,
) -> tuple[Float[Tensor, "in out"], list[L]]:
    """The same when each group's levels are fitted to its columns as they are when the sweep reaches them.

    GPTQ's code fits a group that starts inside a block to columns which the errors of that block have not reached; here
    blocks are cut where groups start, or hold whole groups, so that every group is fitted to its true values.

    Args:
        weight: full weight; not changed.
        upper: factor of the inverse damped Hessian.
        fit: takes the columns of a group and the place of the first, returns the group's levels.
        group_size: columns of a group; the last may be shorter.
        block: columns whose updates are applied to the rest at once, made to fit the groups.

    Returns:
        The multiples, and the levels of each group.
    """
    held = transposed(weight, torch.float32)
    found = torch.empty_like(held)
    rows, levels = found.unbind(0), list[L]()

    def begin(start: int) -> None:
        levels.append(fit(held[start : start + group_size], start))

    def step(place: int, column: Float[Tensor, " out"], lost: Float[Tensor, " out"]) -> None:
        levels[-1].round(column, rows[place], lost)

    blocks = blocks_of_groups(len(held), group_size, block)
    sweep_steps(held, upper.float(), step, blocks=blocks, begin=begin, begins=range(0, len(held), group_size))
    return found, levels


def blocks_of_groups(columns: int, group_size: int, block: int) -> list[tuple[int, int]]:
    """Blocks of about `block` columns such that a group starts a block or lies in one."""
    if group_size <= block:
        return blocks_of(columns, block // group_size * group_size)
    groups = blocks_of(columns, group_size)
    return [(first + at, first + to) for first, last in groups for at, to in blocks_of(last - first, block)]
