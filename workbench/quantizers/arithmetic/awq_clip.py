"""AWQ's search for a limit on each group's weights, judged by that group's part of the output.

Source: mit-han-lab/llm-awq. The mean over tokens of (x_g . (q_g - w_g))^2 is d_g G_g d_g with d_g the change of the
group and G_g its own block of the Gram matrix, so no tokens are needed beside it: fewer or more than the 512 that the
code takes, and any number of rows, make no difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import lowbit
from lowbit import pack
from workbench.progress import Progress, Steps
from workbench.quantizers.arithmetic.awq_scales import Levels

SHARES = tuple(1 - step / 20 for step in range(10))
"""Limits that are tried, as shares of a group's largest |w|: 1 down to 0.55."""


@dataclass(frozen=True, eq=False)
class GroupGrams:
    """The blocks of a Gram matrix that belong to groups of columns.

    Attributes:
        group_size: columns of a group; -1 is the whole row.
        blocks: one tensor `[group, length, length]` for the full groups, one for a short last group if there is one.
    """

    group_size: int
    blocks: tuple[Tensor, ...]

    @classmethod
    def of(cls, gram: Float[Tensor, "in in"], group_size: int) -> GroupGrams:
        """Cut out of a whole Gram matrix."""
        found = []
        for run in pack.runs(len(gram), group_size):
            starts = [run.columns.start + place * run.length for place in range(run.count)]
            found.append(torch.stack([gram[at : at + run.length, at : at + run.length] for at in starts]))
        return cls(group_size, tuple(found))

    def divided(self, scale: Float[Tensor, " in"]) -> GroupGrams:
        """The blocks for inputs whose columns are divided by their scales."""
        runs = pack.runs(len(scale), self.group_size)
        parts = [scale[run.columns].view(run.count, run.length) for run in runs]
        blocks = [one / (s[:, :, None] * s[:, None, :]) for one, s in zip(self.blocks, parts, strict=True)]
        return GroupGrams(self.group_size, tuple(blocks))

    def errors(self, change: Float[Tensor, "out in"]) -> Float[Tensor, "out group"]:
        """Mean over tokens of each group's squared part of the output."""
        found = []
        for run, block in zip(pack.runs(change.shape[1], self.group_size), self.blocks, strict=True):
            part = change[:, run.columns].unflatten(1, (run.count, run.length)).transpose(0, 1)
            found.append((part @ block).mul_(part).sum(-1).T)
        return torch.cat(found, 1)


def search_clip(weight: Float[Tensor, "out in"], grams: GroupGrams, levels: Levels) -> Steps[Float[Tensor, "out in"]]:
    """The weight with each group of each row limited to [-m, m], m the best of ten shares of its largest |w|.

    Args:
        weight: the weight that will be quantized, its columns scaled already.
        grams: of the inputs that it will be given, divided by those scales.
        levels: its grid.

    Raises:
        lowbit.LowbitError: NaN or infinity, or a group that no fp16 scale reaches.
    """
    largest = _largest(weight, levels.group_size)
    best, least = largest.clone(), torch.full_like(largest, torch.inf)
    for done, share in enumerate(SHARES):
        yield Progress(done, len(SHARES))
        limit = largest * share
        values, _ = lowbit.requantize(_limited(weight, limit, levels.group_size), **levels._asdict())
        errors = grams.errors(values.sub_(weight))
        better = errors < least
        best, least = torch.where(better, limit, best), torch.where(better, errors, least)
    return _limited(weight, best, levels.group_size)


def _largest(weight: Float[Tensor, "out in"], group_size: int) -> Float[Tensor, "out group"]:
    runs = pack.runs(weight.shape[1], group_size)
    return torch.cat([weight[:, r.columns].unflatten(1, (r.count, r.length)).abs().amax(-1) for r in runs], 1)


def _limited(
    weight: Float[Tensor, "out in"], limit: Float[Tensor, "out group"], group_size: int
) -> Float[Tensor, "out in"]:
    held = torch.empty_like(weight)
    for run in pack.runs(weight.shape[1], group_size):
        bound = limit[:, run.groups, None]
        part = weight[:, run.columns].unflatten(1, (run.count, run.length))
        held[:, run.columns] = torch.clamp(part, -bound, bound).flatten(1)
    return held
