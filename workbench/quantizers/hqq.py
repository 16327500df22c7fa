"""HQQ: an even grid whose float zero point is moved, step by step, to where the weights' error is small; no data."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Float16
from torch import Tensor

from lowbit import WIDTHS, pack
from workbench.model.sites import SiteStatistics
from workbench.quantizers.weights.coded import check_grid, coded, stored
from workbench.quantizers.weights.tables import FloatZeroWeight
from workbench.registry import Range, quantizers

STEEPEST = 2e4
"""Largest inverse scale, as released."""

FLAT = 1e-4
"""A group of no more span than this gets the scale 1, as released: its zero point then holds its value."""

FARTHEST = 32768.0
"""No zero point lies farther from zero than about this, so that fp16 can hold it."""


@quantizers.register(
    "hqq",
    summary="Even grid with a float zero point, moved by half-quadratic steps until the weights' error stops falling.",
    reference="Half-Quadratic Quantization (Badri and Shaji, mobiusml.github.io/hqq_blog, 2023); mobiusml/hqq",
    cost="iterations * out * in",
    note="Groups are neighbouring columns of a row (axis 1, what the repository recommends for kernels); its function "
    "defaults to axis 0, which is groups='out' here, with neighbouring instead of interleaved rows. keep='last' and "
    "kappa=1 are as released: the loop ends at the first step that does not lower the mean error and keeps the zero "
    "point of that step, and later releases never apply kappa (earlier ones did, 1.01). keep='best' is ours. The "
    "shrinking is zero for errors below beta^(1/(norm-2)), 0.17 by default: for weights of a usual size every step is "
    "the least-squares zero point of the codes at hand, and norm and beta change nothing. Left out: rounding the first "
    "zero point (the release's configuration does it at 4 bits), 8-bit zero points and scales.",
    scope="matrix",
    asymmetric_only=True,
    formula=r"z \leftarrow \operatorname{mean}_g\left(q - \frac{w - e}{s}\right),\quad "
    r"e = \operatorname{sign}(r)\,\max\left(|r| - \tfrac{1}{\beta}|r|^{p-1},\,0\right),\quad r = w - s\,(q - z)",
    ours="keep='best' returns, for each group, the zero point with the smallest mean error of all that were tried. The "
    "scale is rounded to fp16 before the first codes, the zero point before the last. An inverse scale is limited so "
    "that its zero point fits fp16. A short last group is fitted by itself.",
)
def hqq(
    weight: Float[Tensor, "out in"],
    stats: SiteStatistics | None = None,
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    iterations: Annotated[int, Range(0, 200)] = 20,
    norm: Annotated[float, Range(0.1, 1)] = 0.7,
    beta: Annotated[float, Range(0.1, 1e6)] = 10.0,
    kappa: Annotated[float, Range(1, 2)] = 1.0,
    keep: Literal["last", "best"] = "last",
    groups: Literal["in", "out"] = "in",
) -> FloatZeroWeight:
    """Weights w become (q - z) s with q = clamp(round(w / s + z), 0, 2^bits - 1) and a float z for each group.

    The scale is the group's span over 2^bits - 1 and stays. The grid starts at the smallest weight, so zero is no
    level, and a group of one sign is not stretched to zero. The statistics are not looked at.

    Args:
        weight: full weight; not changed.
        stats: not read.
        bits: width of a code.
        group_size: columns (rows with `groups='out'`) that share a scale and a zero point; -1 is all of them.
        symmetric: there is no such grid; not read.
        iterations: steps at most; 0 leaves the grid where it starts.
        norm: p of the error norm that the steps lower.
        beta: how closely e follows the error; larger is closer.
        kappa: what beta is multiplied by after every step.
        keep: which zero point is kept once the error does not fall any more.
        groups: along which axis a group lies.

    Raises:
        WorkbenchError: a width or group size that there is not, NaN or infinity, or a scale beyond fp16.
    """
    check_grid(weight, bits, group_size, WIDTHS)
    lines = (weight.T if groups == "out" else weight).float()
    codes, parts = torch.empty(lines.shape, dtype=torch.uint8, device=lines.device), []
    for run in pack.runs(lines.shape[1], group_size):
        held = lines[:, run.columns].unflatten(1, (run.count, run.length))
        scale, zero = start(held, bits)
        zero = _move(held, scale, zero, bits, (iterations, norm, beta, kappa), best=keep == "best")
        codes[:, run.columns] = _round(held, scale.float(), zero.float(), bits).to(torch.uint8).flatten(1)
        parts.append((scale.squeeze(2), zero.squeeze(2)))
    scale, zero = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return FloatZeroWeight(**coded(codes, bits, group_size), scale=scale, zero=zero, across=groups == "out")


def start(
    held: Float[Tensor, "line group length"], bits: int
) -> tuple[Float16[Tensor, "line group 1"], Float16[Tensor, "line group 1"]]:
    """Scale and zero point of the grid from the smallest to the largest weight of each group."""
    low, high = held.aminmax(dim=2, keepdim=True)
    span = high - low
    inverse = torch.where(span <= FLAT, 1.0, (2**bits - 1) / span).clamp_max(STEEPEST)
    largest = torch.maximum(low.abs(), high.abs())
    scale = stored(1 / torch.minimum(inverse, FARTHEST / largest), "a scale")
    return scale, stored(-low / scale.float(), "a zero point")


def _move(
    held: Float[Tensor, "line group length"],
    scale16: Float16[Tensor, "line group 1"],
    first: Float16[Tensor, "line group 1"],
    bits: int,
    options: tuple[int, float, float, float],
    *,
    best: bool,
) -> Float16[Tensor, "line group 1"]:
    """The zero points after the half-quadratic steps."""
    iterations, norm, beta, kappa = options
    scale, zero = scale16.float(), first.float()
    lowest, kept, least = float("inf"), first, _mean_error(held, scale, first.float(), bits)
    for _ in range(iterations):
        codes = _round(held, scale, zero, bits)
        left = held - (codes - zero) * scale
        zero = (codes - (held - _shrink(left, norm, beta)) / scale).mean(2, keepdim=True)
        beta, error = beta * kappa, float(left.abs().mean())
        if best:
            held_zero = stored(zero, "a zero point")
            errors = _mean_error(held, scale, held_zero.float(), bits)
            kept, least = torch.where(errors < least, held_zero, kept), torch.minimum(errors, least)
        if not error < lowest:
            break
        lowest = error
    return kept if best else stored(zero, "a zero point")


def _mean_error(
    held: Float[Tensor, "line group length"], scale: Tensor, zero: Tensor, bits: int
) -> Float[Tensor, "line group 1"]:
    return (held - (_round(held, scale, zero, bits) - zero) * scale).abs().mean(2, keepdim=True)


def _round(
    held: Float[Tensor, "line group length"], scale: Tensor, zero: Tensor, bits: int
) -> Float[Tensor, "line group length"]:
    return (held / scale + zero).round_().clamp_(0, 2**bits - 1)


def _shrink(left: Float[Tensor, "line group length"], norm: float, beta: float) -> Float[Tensor, "line group length"]:
    """The part of each error that is taken for an outlier and does not move the zero point."""
    size = left.abs()
    return (size - size.pow(norm - 1) / beta).clamp_min_(0).copysign_(left)
