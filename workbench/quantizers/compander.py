"""Compander: weights are bent by a curve, rounded on an even grid, and bent back, so that levels crowd around zero."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from lowbit import pack
from workbench.model.sites import SiteStatistics
from workbench.quantizers.weights.coded import check_grid, coded, spread, stored
from workbench.quantizers.weights.tables import CompandedWeight, Curve, bent_levels, compress
from workbench.registry import Range, quantizers

WIDTHS = (2, 3, 4, 8)

SMALLEST_EXPONENT = 0.25
LARGEST_MU = 255.0
"""The North American and Japanese telephone's, the strongest bend that is tried."""


@quantizers.register(
    "compander",
    summary="Even grid in a space bent by a power or the mu-law, the bend searched for each matrix.",
    reference="PowerQuant (arXiv:2301.09858) for map='power'; the mu-law of ITU-T G.711 for map='mu_law'",
    cost="candidates * out * in",
    note="As in PowerQuant one exponent a matrix is chosen by the reconstruction error, and rounding is to the nearest "
    "in the bent space. Different: groups instead of whole channels, evenly spaced candidates from 1 down to 0.25 "
    "instead of Nelder-Mead, weights alone (the paper bends activations too, so that products stay integer). "
    "2^bits - 1 of the codes are used, as in the paper.",
    scope="matrix",
    widths=WIDTHS,
    symmetric_only=True,
    formula=r"\hat w = s\,\operatorname{sign}(k)\left|\tfrac{k}{m}\right|^{1/p},\quad "
    r"k = \left\lfloor m\,\operatorname{sign}(w)\left|\tfrac{w}{s}\right|^{p}\right\rceil,\ m = 2^{b-1}-1",
    ours="The mu-law for weights with mu searched between 0 and 255, and the grid of candidates. A straight grid is "
    "always among them, so no bend does worse than none.",
)
def compander(
    weight: Float[Tensor, "out in"],
    stats: SiteStatistics | None = None,
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    map: Literal["power", "mu_law"] = "power",
    candidates: Annotated[int, Range(1, 64)] = 16,
) -> CompandedWeight:
    """Weights w of a group with the largest size s become s f^-1(round(m f(w / s)) / m) with m = 2^(bits - 1) - 1.

    f is sign(x) |x|^p, or sign(x) ln(1 + mu |x|) / ln(1 + mu); zero is a level. The statistics are not looked at.

    Args:
        weight: full weight; not changed.
        stats: not read.
        bits: 2, 3, 4 or 8; one bit leaves nothing but zero.
        group_size: columns that share a scale; -1 is the whole row.
        symmetric: the grid is symmetric whatever is asked for.
        map: the curve.
        candidates: bends that are tried; 1 tries the straight grid alone.

    Raises:
        WorkbenchError: a bad width or group size, NaN or infinity in the weight, or a scale beyond fp16.
    """
    check_grid(weight, bits, group_size, WIDTHS)
    full = weight.float()
    scale = stored(largest_of_groups(full, group_size), "a scale")
    wide = spread(scale.float(), full.shape[1], group_size)
    inside = torch.where(wide > 0, full / wide, 0.0).clamp(-1, 1)
    parameter = best_bend(full, inside, wide, bends(map, candidates, full.device), map, bits)
    codes = bent_codes(inside, float(parameter), map, bits)
    return CompandedWeight(**coded(codes, bits, group_size), scale=scale, parameter=parameter, curve=map)


def best_bend(
    weight: Float[Tensor, "out in"],
    inside: Float[Tensor, "out in"],
    scale: Float[Tensor, "out columns"],
    candidates: Float16[Tensor, " candidate"],
    curve: Curve,
    bits: int,
) -> Float16[Tensor, " one"]:
    """The candidate with the smallest squared error of the whole matrix, the first of equals."""
    errors = []
    for parameter in candidates.tolist():
        levels = bent_levels(bits, parameter, curve).to(weight.device)
        values = levels[bent_codes(inside, parameter, curve, bits).int()] * scale
        errors.append((values - weight).double().square().sum())
    return candidates[torch.stack(errors).argmin()].reshape(1).clone()


def largest_of_groups(weight: Float[Tensor, "out in"], group_size: int) -> Float[Tensor, "out group"]:
    """The largest size in each group of a row."""
    runs = pack.runs(weight.shape[1], group_size)
    sizes = weight.abs()
    return torch.cat([sizes[:, run.columns].unflatten(1, (run.count, run.length)).amax(2) for run in runs], dim=1)


def bends(curve: Curve, count: int, device: torch.device) -> Float16[Tensor, " candidate"]:
    """Exponents from 1 down, or mu from 0 up in even ratios of 1 + mu; rounded to fp16, the straight grid first."""
    steps = torch.linspace(0, 1, count, device=device)
    if curve == "power":
        return (1 - (1 - SMALLEST_EXPONENT) * steps).to(torch.float16)
    return (steps * torch.tensor(LARGEST_MU).log1p()).expm1().to(torch.float16)


def bent_codes(inside: Float[Tensor, "out in"], parameter: float, curve: Curve, bits: int) -> UInt8[Tensor, "out in"]:
    """Codes of values in -1..1: the nearest point of the even grid in the bent space, counted from -2^(bits - 1)."""
    most = 2 ** (bits - 1) - 1
    return (compress(inside, parameter, curve).mul(most).round() + (most + 1)).to(torch.uint8)
