"""GPTQ: columns rounded one after the other, each error made good by the columns that are still to be rounded."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

import lowbit
from lowbit.contract import check_grid_options
from workbench.errors import WorkbenchError
from workbench.inverse_factor import falling_energy, gram_of, inverse_factor
from workbench.linalg import check_finite, dead_columns
from workbench.model.sites import SiteStatistics
from workbench.quantizers.arithmetic.level_sweep import sweep_fitted, sweep_fixed
from workbench.quantizers.arithmetic.levels import AffineLevels, check_scale
from workbench.quantizers.weight import AffineWeight, QuantizedWeight
from workbench.quantizers.weights.reordered import ReorderedWeight
from workbench.registry import Range, quantizers


@quantizers.register(
    "gptq",
    summary="Round column by column; what a column loses is made good by the columns that are still to be rounded.",
    reference="GPTQ (arXiv:2210.17323) and IST-DASLab/gptq",
    needs=("gram",),
    cost="tok * in^2 + in^3 + out * in^2",
    note="Defaults are the official code's: dynamic groups, whose grid is fitted to the columns as they are when the "
    "sweep reaches them, and no act-order. A group that starts inside a block is fitted there to weights which the "
    "block's own errors have not reached; here it is fitted to the true ones (ours), and zero lies on every grid. "
    "act_order with dynamic groups stores the group of every column; static_groups fixes the grids before columns are "
    "reordered and stores none. inputs says which activations feed the Gram: quantized (earlier blocks are already "
    "quantized, the official code), full (the full model's), sequential (also the earlier matrices of the block). "
    "The damping is raised tenfold, and you are told, where the Hessian cannot be factored. Dead columns, whose input "
    "is always zero, become zero. Only output error is promised to be small: the error of the weights grows.",
    scope="matrix",
    formula=r"e_j = \frac{w_j - Q(w_j)}{U_{jj}}, \quad w_k \leftarrow w_k - e_j U_{jk} \;(k > j), "
    r"\quad (2G + \lambda I)^{-1} = U^\top U",
    ours="Grids of groups inside a block are fitted to current weights. Dead columns get the mean of the live "
    "diagonal, where the official code writes 1, so that the unit of the activations does not decide the damping.",
)
def gptq(
    weight: Float[Tensor, "out in"],
    stats: SiteStatistics | None = None,
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    static_groups: bool = False,
    act_order: bool = False,
    damping: Annotated[float, Range(0.0001, 1)] = 0.01,
    block: Annotated[int, Range(1, 4096)] = 128,
    inputs: Literal["quantized", "full", "sequential"] = "quantized",
) -> QuantizedWeight:
    """One sweep over the columns with U from the inverse of the damped Hessian 2 G.

    Args:
        weight: the matrix.
        stats: of its inputs; the Gram is read.
        bits: 1, 2, 3, 4 or 8.
        group_size: columns that share a grid; -1 is the whole row.
        symmetric: no zero points.
        static_groups: grids are those of round to nearest on the full weight, instead of fitted during the sweep.
        act_order: columns by falling energy of their inputs instead of from left to right.
        damping: of the Hessian, as a share of its mean diagonal.
        block: columns whose updates are applied to the rest at once; it changes no result, but for codes that
            the last bits of float32 tip.
        inputs: for whoever runs the model: where the statistics were collected.

    Raises:
        WorkbenchError: no Gram or one that cannot be factored; a width or group size that no kernel has; NaN, infinity
            or values beyond fp16's reach.
    """
    del inputs
    check_finite(weight, "the weight")
    gram = gram_of(stats, "gptq")
    try:
        check_grid_options(bits, group_size)
        held = weight.float().masked_fill(dead_columns(gram), 0).contiguous()
        order = falling_energy(gram) if act_order else None
        upper = inverse_factor(stats, damping, by_energy=act_order).upper
        sweep = _static if static_groups else _dynamic
        return sweep(held, upper, order, bits, group_size, symmetric, block)
    except lowbit.LowbitError as error:
        raise WorkbenchError(str(error)) from None


def _static(
    weight: Float[Tensor, "out in"],
    upper: Float[Tensor, "in in"],
    order: Int64[Tensor, " in"] | None,
    bits: int,
    group_size: int,
    symmetric: bool,
    block: int,
) -> AffineWeight:
    """Grids of the full weight; columns may be swept in any order."""
    grid = lowbit.group_grid(weight, bits=bits, group_size=group_size, symmetric=symmetric)
    zeros = [None] * grid.scale.shape[1] if grid.zero is None else grid.zero.T.contiguous()
    levels = [AffineLevels.of(scale, zero, bits) for scale, zero in zip(grid.scale.T.contiguous(), zeros, strict=True)]
    group = _places(weight, order) // _width(weight, group_size)
    found = sweep_fixed(_reordered(weight, order), upper, levels, group.tolist(), block=block)
    codes = _codes(found, levels, group, order)
    return AffineWeight(lowbit.PackedWeight.from_codes(codes, grid, bits=bits, group_size=group_size))


def _dynamic(
    weight: Float[Tensor, "out in"],
    upper: Float[Tensor, "in in"],
    order: Int64[Tensor, " in"] | None,
    bits: int,
    group_size: int,
    symmetric: bool,
    block: int,
) -> QuantizedWeight:
    """Grids of the columns as the sweep finds them; groups are of columns that are swept together."""

    def fit(columns: Float[Tensor, "columns out"], _start: int) -> AffineLevels:
        low, high = columns.amin(0).clamp_(max=0), columns.amax(0).clamp_(min=0)
        levels = AffineLevels.between(low, high, bits, symmetric)
        check_scale(levels.scale)
        return levels

    width = _width(weight, group_size)
    found, levels = sweep_fitted(_reordered(weight, order), upper, fit, group_size=width, block=block)
    group = _places(weight, None) // width
    codes = _codes(found, levels, group, order)
    zero = None if symmetric else torch.stack([one.zero for one in levels], dim=1)
    grid = lowbit.Grid(torch.stack([one.scale for one in levels], dim=1), zero)
    if order is None or len(levels) == 1:
        return AffineWeight(lowbit.PackedWeight.from_codes(codes, grid, bits=bits, group_size=group_size))
    of_column = torch.empty_like(group).index_copy_(0, order, group)
    return ReorderedWeight.pack(codes, grid, of_column, bits=bits, group_size=group_size)


def _codes(
    found: Float[Tensor, "in out"],
    levels: list[AffineLevels],
    group: Int64[Tensor, " in"],
    order: Int64[Tensor, " in"] | None,
) -> UInt8[Tensor, "out in"]:
    """Codes of the levels that a sweep in `order` found, back in the order of the matrix."""
    zeros = torch.stack([one.zero for one in levels])
    codes = found.to(torch.int16).add_(zeros[group]).to(torch.uint8)
    if order is not None:
        codes = torch.empty_like(codes).index_copy_(0, order, codes)
    return codes.T.contiguous()


def _places(weight: Float[Tensor, "out in"], order: Int64[Tensor, " in"] | None) -> Int64[Tensor, " in"]:
    """Column of the matrix that the sweep meets at each place."""
    return torch.arange(weight.shape[1], device=weight.device) if order is None else order


def _reordered(weight: Float[Tensor, "out in"], order: Int64[Tensor, " in"] | None) -> Float[Tensor, "out in"]:
    """The columns as the sweep meets them."""
    return weight if order is None else weight[:, order]


def _width(weight: Float[Tensor, "out in"], group_size: int) -> int:
    """Columns of a full group of this weight."""
    return weight.shape[1] if group_size == -1 else min(group_size, weight.shape[1])
