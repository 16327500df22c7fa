"""LIFT: the weights that stand out once a matrix is reduced to its leading directions."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.sites import SiteStatistics
from workbench.registry import Range, salience

EXACT = 1024
"""Smaller side up to which the decomposition is exact; above it is randomized, with a fixed seed."""

EXTRA = 16
ITERATIONS = 2


@salience.register(
    "lift",
    summary="Absolute value of the weight in the best approximation of its matrix of a small rank: principal weights.",
    reference="Liu et al. 2025, LIFT the Veil for the Truth: Principal Weights Emerge after Rank Reduction, "
    "arXiv:2506.00772; code zihanghliu/LIFT",
    cost="out * in * min(out, in)",
    note="The paper's ranks are 32 to 128 for models of 2048 to 4096 channels. A matrix whose smaller side is no "
    "larger than the rank scores its absolute weights. Left out: the fine-tuning that uses the mask.",
    granularity="element",
)
def lift(
    weight: Float[Tensor, "out in"], stats: SiteStatistics | None, *, rank: Annotated[int, Range(1, 4096)] = 16
) -> Float[Tensor, "out in"]:
    """|W_r|, W_r = U_r S_r V_r^T: the leading `rank` singular values and vectors.

    Raises:
        WorkbenchError: the weight holds NaN or infinity.
    """
    check_finite(weight, "the weight")
    wide = weight.float()
    if rank >= min(wide.shape):
        return wide.abs()
    if min(wide.shape) <= EXACT:
        left, sizes, right = torch.linalg.svd(wide, full_matrices=False)
        return ((left[:, :rank] * sizes[:rank]) @ right[:rank]).abs()
    return randomized(wide, rank).abs()


def randomized(weight: Float[Tensor, "out in"], rank: int) -> Float[Tensor, "out in"]:
    """An approximation of that rank by a random projection and two power iterations; the same on every call."""
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(weight.shape[1], min(rank + EXTRA, *weight.shape), generator=generator)
    basis = torch.linalg.qr(weight @ probes.to(weight)).Q
    for _ in range(ITERATIONS):
        basis = torch.linalg.qr(weight @ torch.linalg.qr(weight.T @ basis).Q).Q
    left, sizes, right = torch.linalg.svd(basis.T @ weight, full_matrices=False)
    return ((basis @ left[:, :rank]) * sizes[:rank]) @ right[:rank]
