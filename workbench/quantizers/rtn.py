"""Round to nearest: every weight to the closest level of its group's grid, nothing else."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

import lowbit
from workbench.errors import WorkbenchError
from workbench.model.sites import SiteStatistics
from workbench.quantizers.weight import AffineWeight
from workbench.registry import quantizers


@quantizers.register(
    "rtn",
    summary="Round to nearest on an even grid from the smallest to the largest weight of each group.",
    reference="The baseline of GPTQ (arXiv:2210.17323) and AWQ (arXiv:2306.00978)",
    cost="out * in",
    note="Zero always lies on the grid, unlike in the AWQ code; scales are rounded to fp16 before the codes are made. "
    "A symmetric grid of 1 bit holds only zero and one negative level.",
    scope="matrix",
    formula=r"\hat w = s\,(q - z),\quad q = \operatorname{clamp}\!\left(\left\lfloor \tfrac{w}{s} \right\rceil + z,\ "
    r"0,\ 2^b - 1\right),\quad s = \frac{\max(w, 0) - \min(w, 0)}{2^b - 1}",
    ours="",
)
def rtn(
    weight: Float[Tensor, "out in"],
    stats: SiteStatistics | None = None,
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
) -> AffineWeight:
    """Weights w become clamp(round(w / s) + z, 0, 2^bits - 1), each group of columns with its own step s and zero z.

    Asymmetric: s = (max(w, 0) - min(w, 0)) / (2^bits - 1). Symmetric: s = 2 max|w| / (2^bits - 1) and z = 2^(bits-1).
    A group size of -1 makes a row one group. No error exceeds s / 2, except at the clamped ends of a group, where the
    rounding of s to fp16 adds up to (2^bits - 1) * max(s / 2^11, 2^-25). The statistics are not looked at.

    Raises:
        WorkbenchError: a width or group size that no kernel has, or a weight with NaN, infinity or values beyond fp16's
            reach.
    """
    try:
        packed = lowbit.quantize(weight.contiguous(), bits=bits, group_size=group_size, symmetric=symmetric)
    except lowbit.LowbitError as error:
        raise WorkbenchError(str(error)) from None
    return AffineWeight(packed)
