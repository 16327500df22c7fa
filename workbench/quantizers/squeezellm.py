"""SqueezeLLM: a table of levels for each row, put where the loss is sensitive, and a few weights kept aside in full."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import lowbit
from workbench.errors import WorkbenchError
from workbench.linalg import check_finite
from workbench.model.weightstats import WeightStatistics
from workbench.ordering import topk_mask
from workbench.quantizers.arithmetic.clustering import cluster, nearest_codes
from workbench.quantizers.weight import QuantizedWeight
from workbench.quantizers.weights.coded import check_grid, coded, stored
from workbench.quantizers.weights.detached import detach
from workbench.quantizers.weights.tables import TableWeight
from workbench.registry import Range, quantizers

WIDTHS = (2, 3, 4)


@quantizers.register(
    "squeezellm",
    summary="Tables of levels by k-means weighted with the Fisher information; outliers and sensitive weights in full.",
    reference="SqueezeLLM (arXiv:2306.07629); SqueezeAILab/SqueezeLLM, quantization/nuq.py and pack.py",
    needs=("grad_sq",),
    cost="out * 2^bits * in * log(in) exact, iterations * out * 2^bits * log(in) by Lloyd",
    note="The paper takes 0.05 % sensitive weights and 0.4 % outliers (the defaults), the repository's guide 0.05 % "
    "and 0.45 %. The outliers are the given share of every matrix; as released one multiple of the interquartile range "
    "is tuned so that all matrices together come near the share. clustering='lloyd' is k-means as released but for its "
    "start: the levels of the even grid instead of random ones, and only one run. A detached weight takes 48 bits here "
    "(fp16 value, int32 column) as in the paper; the repository stores fp32 values, 64 bits.",
    scope="matrix",
    fixed_group=-1,
    widths=WIDTHS,
    asymmetric_only=True,
    formula=r"\min_{c}\ \sum_i F_i\,\bigl(w_i - c_{k(i)}\bigr)^2,\quad F_i = \operatorname{mean}_n g_{n,i}^2",
    ours="clustering='exact' finds the best table of each row by dynamic programming (rows of more than 16384 columns "
    "are left to Lloyd). A detached weight has the code of the level next to it, not of the level next to zero, so "
    "that less is left to the fp16 difference. The shares are met to the weight, and a share of 0 is allowed.",
)
def squeezellm(
    weight: Float[Tensor, "out in"],
    stats: WeightStatistics | None = None,
    *,
    bits: int,
    group_size: int = -1,
    symmetric: bool = False,
    sensitive: Annotated[float, Range(0, 5)] = 0.05,
    outliers: Annotated[float, Range(0, 5)] = 0.4,
    clustering: Literal["exact", "lloyd"] = "exact",
) -> QuantizedWeight:
    """Each row's weights become levels of its own table; the weights that would suffer most are stored beside it.

    First the weights of the highest Fisher information are taken out, then the largest of the rest. What is left is
    clustered, each weight counting with its Fisher information, and weights that are zero or taken out with nothing.

    Args:
        weight: full weight; not changed.
        stats: must hold `grad_sq`, the mean over windows of the squared gradient.
        bits: 2, 3 or 4; a table holds 2^bits levels.
        group_size: not read, a row has one table.
        symmetric: there is no such table; not read.
        sensitive: percent of the weights that are taken out by Fisher information.
        outliers: percent of the weights that are taken out by size.
        clustering: `exact`, or `lloyd` from the levels of the even grid, which it never does worse than.

    Returns:
        A `TableWeight`, within a `DenseAndSparse` when anything was taken out.

    Raises:
        WorkbenchError: no squared gradients, or ones that do not fit, are negative or not finite; a bad width; NaN or
            infinity in the weight, or levels or differences beyond fp16.
    """
    check_grid(weight, bits, -1, WIDTHS)
    fisher = (stats or WeightStatistics()).get("grad_sq")
    check_fisher(fisher, weight)
    full, fisher = weight.float().contiguous(), fisher.float()
    aside = set_aside(full, fisher, sensitive, outliers)
    kept = full.masked_fill(aside, 0.0)
    start = even_levels(kept, bits)
    table = stored(cluster(kept, fisher.masked_fill(kept == 0, 0.0), start, clustering), "a level")
    dense = TableWeight(**coded(nearest_codes(full, table), bits, -1), table=table)
    return detach(dense, full, aside)


def set_aside(
    weight: Float[Tensor, "out in"], fisher: Float[Tensor, "out in"], sensitive: float, outliers: float
) -> Bool[Tensor, "out in"]:
    """The weights that are stored in full: by Fisher information, then by size among the rest; percent of all each."""
    counts = [int(share / 100 * weight.numel()) for share in (sensitive, outliers)]
    first = topk_mask(fisher, counts[0])
    return first | topk_mask(weight.abs().masked_fill(first, -1.0), counts[1])


def even_levels(weight: Float[Tensor, "out in"], bits: int) -> Float[Tensor, "out level"]:
    """The levels of each row's even grid, ascending.

    Raises:
        WorkbenchError: a row's span is beyond fp16.
    """
    try:
        grid = lowbit.group_grid(weight, bits=bits, group_size=-1)
    except lowbit.LowbitError as error:
        raise WorkbenchError(str(error)) from None
    assert grid.zero is not None  # the grid is asymmetric
    return (torch.arange(2**bits, device=weight.device) - grid.zero) * grid.scale.float()


def check_fisher(fisher: Float[Tensor, "*shape"], weight: Float[Tensor, "out in"]) -> None:
    """Refuse squared gradients that are none of this weight.

    Raises:
        WorkbenchError: another shape, or negative or not finite values.
    """
    if fisher.shape != weight.shape:
        raise WorkbenchError(f"squared gradients of {list(fisher.shape)} do not fit a weight of {list(weight.shape)}")
    check_finite(fisher, "the squared gradients")
    if bool((fisher < 0).any()):
        raise WorkbenchError("the squared gradients hold negative values, so they are no squares")
