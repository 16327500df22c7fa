"""StatsQ: a grid without a level at zero, its span twice the mean size of a row's weights."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lowbit import WIDTHS
from workbench.model.sites import SiteStatistics
from workbench.quantizers.weights.coded import check_grid, coded, stored
from workbench.quantizers.weights.tables import MidriseWeight
from workbench.registry import quantizers

INSIDE = 1 - 1e-6
"""Where values are clamped, short of the ends of the grid."""


@quantizers.register(
    "statsq",
    summary="Even levels on both sides of zero, none on it, out to twice the mean size of the row's weights.",
    reference="Oscillation-free Quantization for Low-bit Vision Transformers (arXiv:2302.02210); nbasyl/OFQ",
    cost="out * in",
    note="The weight grid of OFQ alone, as it rounds a trained weight: quantization-aware training, confidence-guided "
    "annealing and query-key reparameterization are left out. It clips everything beyond twice the mean size, which "
    "training heals and rounding alone does not: expect large errors on heavy-tailed weights.",
    scope="matrix",
    fixed_group=-1,
    symmetric_only=True,
    formula=r"\hat w = \frac{s}{n}\left(\left\lfloor \operatorname{clip}\left(\tfrac{w}{s}\right) n"
    r" - \tfrac{1}{2}\right\rceil + \tfrac{1}{2}\right),\quad s = 2\,\operatorname{mean}|w|,\ n = 2^{b-1}",
    ours="The lower clamp is -1 + 1e-6 like the upper one; at -1 the code's rounding makes a third level at 1 bit. The "
    "scale is rounded to fp16 before the codes.",
)
def statsq(
    weight: Float[Tensor, "out in"],
    stats: SiteStatistics | None = None,
    *,
    bits: int,
    group_size: int = -1,
    symmetric: bool = False,
) -> MidriseWeight:
    """Weights w become s (k + 1/2) / n for the integer k in -n..n-1 next to w n / s - 1/2, n = 2^(bits - 1).

    At 1 bit this is mean|w| sign(w). A row of zeros stays zero. The statistics are not looked at.

    Args:
        weight: full weight; not changed.
        stats: not read.
        bits: width of a code.
        group_size: not read, a row has one scale.
        symmetric: the grid is symmetric whatever is asked for.

    Raises:
        WorkbenchError: a width that there is not, NaN or infinity in the weight, or a scale beyond fp16.
    """
    check_grid(weight, bits, -1, WIDTHS)
    full, half = weight.float(), 2 ** (bits - 1)
    scale = stored(2 * full.abs().mean(1, keepdim=True), "a scale")
    inside = torch.where(scale > 0, full / scale.float(), 0.0).clamp(-INSIDE, INSIDE)
    codes = ((inside * half - 0.5).round() + half).to(torch.uint8)
    return MidriseWeight(**coded(codes, bits, -1), scale=scale)
