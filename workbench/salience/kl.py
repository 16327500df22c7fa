"""KL: how far quantization moves the distribution of a matrix's weights."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.distributions import spread_histogram
from workbench.errors import WorkbenchError
from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.registry import Range, salience

FLOOR = 1e-12
PER_BIN = 64
"""Weights that a bin should hold at least on average: below that counting noise outweighs what is measured."""


@salience.register(
    "kl",
    summary="Divergence of the quantized weights' distribution from that of the full weights, in nats a matrix.",
    reference="Our definition, after Ghaffari et al. 2025, Rethinking Post-Training Quantization: Introducing a "
    "Statistical Pre-Calibration Approach, arXiv:2501.09107",
    needs=("quantized",),
    cost="out * in",
    note="Our definition: histograms, each level spread evenly over the cell that rounds to it. It looks at the "
    "distribution alone: two matrices whose weights stand in another order have the same. It is no error of a layer.",
    granularity="matrix",
    compares_quantized=True,
)
def kl(
    weight: Float[Tensor, "out in"],
    stats: WeightStatistics,
    *,
    bins: Annotated[int, Range(8, 4096)] = 2048,
    columns: Annotated[int, Range(2, 4096)] = 64,
) -> Float[Tensor, ""]:
    """sum P log(P / Q) over equal bins between the largest weights of either sign.

    P counts the weights; Q counts the quantized ones, each spread over the half of the way to its neighbouring levels.
    Levels are looked for among `columns` neighbouring inputs of one row, which share a grid in all group-wise
    quantizers. A bin holds 64 weights on average or more, so a small matrix has fewer bins. Equal weights score 0.

    Raises:
        WorkbenchError: the weight or its quantized form holds NaN or infinity, or there is none.
    """
    check_finite(weight, "the weight")
    quantized = stats.get("quantized")
    check_finite(quantized, "the quantized weight")
    if quantized.shape != weight.shape:
        raise WorkbenchError(f"the quantized weight is {list(quantized.shape)}; the weight is {list(weight.shape)}")
    if torch.equal(weight.float(), quantized.float()):
        return torch.zeros((), device=weight.device)
    limit = float(torch.maximum(weight.abs().max(), quantized.abs().max()))
    count = max(8, min(bins, weight.numel() // PER_BIN))
    edges = torch.linspace(-limit, limit, count + 1, dtype=torch.float64, device=weight.device)
    full = torch.histc(weight.double(), bins=count, min=-limit, max=limit) / weight.numel()
    spread = spread_histogram(*_cells(quantized.double(), columns, 2 * limit / count), edges)
    seen = full > 0
    return (full[seen] * (full[seen] / (spread[seen] + FLOOR)).log()).sum().clamp(min=0).float()


def _cells(values: Tensor, columns: int, width: float) -> tuple[Tensor, Tensor]:
    """Lower and upper end of each value's cell: half-way to the next other level among its neighbours.

    The outermost levels reach as far outwards as inwards; a lone level fills the width of a bin.
    """
    lows, highs = [], []
    for part in values.split(columns, dim=1):
        ordered = part.sort(dim=1).values
        padded = ordered.contiguous()
        below = torch.searchsorted(padded, part.contiguous()) - 1
        above = torch.searchsorted(padded, part.contiguous(), right=True)
        last = part.shape[1] - 1
        down = torch.where(below >= 0, part - ordered.gather(1, below.clamp(min=0)), torch.inf)
        up = torch.where(above <= last, ordered.gather(1, above.clamp(max=last)) - part, torch.inf)
        alone = torch.isinf(down) & torch.isinf(up)
        down, up = torch.where(torch.isinf(down), up, down), torch.where(torch.isinf(up), down, up)
        lows.append((part - torch.where(alone, width, down) / 2).flatten())
        highs.append((part + torch.where(alone, width, up) / 2).flatten())
    return torch.cat(lows), torch.cat(highs)
