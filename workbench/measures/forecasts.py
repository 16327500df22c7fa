"""Whether sums of scores foretell what removing sets of units does: infidelity and sensitivity-n."""

from __future__ import annotations

import math
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Float64, Real
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.measures.faithfulness import Value, random_orders


def subsets(units: int, removed: int, most: int = 64, seed: int = 0) -> Bool[Tensor, "mask unit"]:
    """Keep-masks with `removed` units gone: all of them, or `most` random ones where there are more.

    Raises:
        WorkbenchError: there are not that many units.
    """
    if not 0 < removed <= units:
        raise WorkbenchError(f"cannot remove {removed} of {units} units")
    if math.comb(units, removed) <= most:
        gone = torch.tensor(list(combinations(range(units), removed)))
    else:
        gone = random_orders(units, most, seed)[:, :removed]
    return torch.ones(len(gone), units, dtype=torch.bool).scatter(1, gone, False)


def halves(units: int, masks: int = 64, seed: int = 0) -> Bool[Tensor, "mask unit"]:
    """Keep-masks where each unit is gone with probability one half, and one at least."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(masks, units, generator=generator) < 0.5
    spared = keep.all(1).nonzero().flatten()
    keep[spared, torch.randint(units, (len(spared),), generator=generator)] = False
    return keep


def effects(value: Value, keep: Bool[Tensor, "mask unit"]) -> Float64[Tensor, " mask"]:
    """F(x) - F(x with units removed) of each mask; computed once for all maps of a prompt."""
    found = value(torch.cat([torch.ones_like(keep[:1]), keep])).double()
    return found[0] - found[1:]


def infidelity(
    scores: Real[Tensor, " unit"], keep: Bool[Tensor, "mask unit"], effect: Float64[Tensor, " mask"]
) -> float:
    """Mean squared error of the removed scores' sum as a forecast of the effect, over the mean squared effect.

    After Yeh et al. 2019, arXiv:1901.09392, with removal as the perturbation and without their optimal scaling: 0 is
    perfect, 1 is what scores of zero reach. It has a meaning only for signed scores in the unit of F. NaN when removing
    changes nothing.
    """
    forecast = (~keep).double() @ scores.double()
    scale = effect.square().mean()
    return float((forecast - effect).square().mean() / scale) if scale > 0 else math.nan


def sensitivity_n(
    scores: Real[Tensor, " unit"], keep: Bool[Tensor, "mask unit"], effect: Float64[Tensor, " mask"]
) -> float:
    """Pearson's correlation of the removed scores' sum and the effect, over sets of n units; high is good.

    Ancona et al. 2018, arXiv:1711.06104. NaN where either side is constant.
    """
    return pearson((~keep).double() @ scores.double(), effect)


def pearson(first: Float[Tensor, " n"], second: Float[Tensor, " n"]) -> float:
    """Pearson's correlation; NaN where either side is constant."""
    sides = [side.double() - side.double().mean() for side in (first, second)]
    norms = sides[0].norm() * sides[1].norm()
    return float(sides[0] @ sides[1] / norms) if norms > 1e-12 else math.nan
