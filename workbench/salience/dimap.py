"""DIMAP: a weight's share of the energy of all weights that are at least as large."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.linalg import check_finite
from workbench.model.sites import SiteStatistics
from workbench.registry import salience


@salience.register(
    "dimap",
    summary="Squared weight over the squared sum of all weights of the matrix that are at least as large.",
    reference="He & Zhou 2024, Data-independent Module-aware Pruning for Hierarchical Vision Transformers, "
    "arXiv:2404.13648; the LAMP score of Lee et al. 2020, arXiv:2010.07611",
    cost="out * in * log(out * in)",
    note="Ranks a matrix like `magnitude` and makes matrices comparable. The paper compares inside one module "
    "(queries, keys and values; projection; MLP); how scores are compared is chosen where they are used.",
    granularity="element",
)
def dimap(weight: Float[Tensor, "out in"], stats: SiteStatistics | None) -> Float[Tensor, "out in"]:
    """w_(j)^2 / sum_{i <= j} w_(i)^2 over the squared weights in descending order, sums in float64.

    The largest weight of a matrix scores 1; a factor on the matrix does not show. Among equal weights the first in
    memory order is taken to be the larger. An all-zero matrix scores 0.

    Raises:
        WorkbenchError: the weight holds NaN or infinity.
    """
    check_finite(weight, "the weight")
    square = weight.double().square().flatten()
    ordered, order = square.sort(descending=True, stable=True)
    sums = ordered.cumsum(0)
    scores = torch.empty_like(square)
    scores[order] = ordered / sums.masked_fill(sums == 0, 1.0)
    return scores.reshape(weight.shape).float()
