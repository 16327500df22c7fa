"""Codebook: levels found by k-means, one table a row or one for the whole matrix."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import check_finite
from workbench.model.sites import SiteStatistics
from workbench.quantizers.arithmetic.clustering import cluster, nearest_codes
from workbench.quantizers.weights.coded import check_grid, coded, stored
from workbench.quantizers.weights.tables import TableWeight
from workbench.registry import quantizers

WIDTHS = (1, 2, 3, 4)


@quantizers.register(
    "codebook",
    summary="A table of levels by k-means over the weights, for each row or for the whole matrix.",
    reference="Deep Compression (arXiv:1510.00149), section 3",
    needs=("sum_sq",),
    cost="out * 2^bits * in * log(in) exact, iterations * out * 2^bits * log(in) by Lloyd",
    note="Weight sharing alone: the paper also prunes, trains the levels on, and codes by Huffman, and its tables are "
    "of 32-bit numbers; here they are fp16 and counted. table='matrix' and clustering='lloyd' from evenly spaced "
    "levels ('linear', the best of its three starts) are the paper's; weighting='inputs' reads the calibration, "
    "otherwise nothing is read.",
    scope="matrix",
    fixed_group=-1,
    widths=WIDTHS,
    asymmetric_only=True,
    formula=r"\min_{c}\ \sum_i h_i\,\bigl(w_i - c_{k(i)}\bigr)^2,\quad h_i = 1 \text{ or } \sum_t x_{t,i}^2",
    ours="A table for each row, the optimum by dynamic programming (up to 16384 values a table; above it Lloyd), and "
    "weights by the energy of each input channel.",
)
def codebook(
    weight: Float[Tensor, "out in"],
    stats: SiteStatistics | None = None,
    *,
    bits: int,
    group_size: int = -1,
    symmetric: bool = False,
    table: Literal["row", "matrix"] = "row",
    weighting: Literal["none", "inputs"] = "none",
    clustering: Literal["lloyd", "exact"] = "lloyd",
) -> TableWeight:
    """Each weight becomes the nearest level of a table of 2^bits levels that k-means found.

    Args:
        weight: full weight; not changed.
        stats: read for `weighting='inputs'` alone: the summed squares of each input.
        bits: 1, 2, 3 or 4.
        group_size: not read, a row or the matrix has one table.
        symmetric: there is no such table; not read.
        table: what shares a table.
        weighting: whether a weight counts with the energy of its input.
        clustering: k-means from evenly spaced levels, or its optimum.

    Raises:
        WorkbenchError: a bad width, NaN or infinity in the weight, levels beyond fp16, or statistics that are missing
            or do not fit.
    """
    check_grid(weight, bits, -1, WIDTHS)
    share = input_energy(weight, stats) if weighting == "inputs" else torch.ones_like(weight, dtype=torch.float32)
    lines, shares = weight.float().contiguous(), share
    if table == "matrix":
        lines, shares = lines.reshape(1, -1), shares.reshape(1, -1)
    low, high = lines.aminmax(dim=1, keepdim=True)
    start = low + (high - low) * torch.linspace(0, 1, 2**bits, device=lines.device)
    levels = stored(cluster(lines, shares, start, clustering), "a level")
    codes = nearest_codes(lines, levels).view(weight.shape)
    return TableWeight(**coded(codes, bits, -1), table=levels)


def input_energy(weight: Float[Tensor, "out in"], stats: SiteStatistics | None) -> Float[Tensor, "out in"]:
    """The summed squares of each input channel, for every row.

    Raises:
        WorkbenchError: no statistics, of another number of inputs, or not finite.
    """
    if stats is None:
        raise WorkbenchError("weighting 'inputs' needs statistics of the inputs; collect 'sum_sq', or choose 'none'")
    if stats.sum_sq.shape[0] != weight.shape[1]:
        raise WorkbenchError(f"statistics of {stats.sum_sq.shape[0]} inputs do not fit {weight.shape[1]} columns")
    check_finite(stats.sum_sq, "the statistic 'sum_sq'")
    return stats.sum_sq.float().expand(weight.shape)
