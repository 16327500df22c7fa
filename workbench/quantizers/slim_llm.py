"""SliM-LLM: a width for each group of columns by salience, ranges by a weighted search, and a GPTQ sweep over both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor

import lowbit
from lowbit.contract import check_grid_options
from workbench.errors import WorkbenchError
from workbench.inverse_factor import gram_of, inverse_factor
from workbench.linalg import InverseFactor, check_finite
from workbench.model.sites import SiteStatistics
from workbench.quantizers.arithmetic.level_sweep import sweep_fitted
from workbench.quantizers.arithmetic.levels import AffineLevels, SignLevels
from workbench.quantizers.arithmetic.salient_clip import ClipSearch, Shares, shares_of
from workbench.quantizers.arithmetic.width_search import Objective, group_sums, search_widths
from workbench.quantizers.weights.mixed_widths import MixedWidthWeight, pack_groups
from workbench.registry import Range, quantizers

WIDTHS = (2, 3)
"""Mean widths for which the kernels have one bit less and one bit more."""


@quantizers.register(
    "slim_llm",
    summary="One bit more for the groups of columns that matter most and one less for those that matter least, then "
    "GPTQ.",
    reference="SliM-LLM (arXiv:2405.14917) and Aaronhuang-778/SliM-LLM",
    needs=("gram", "sample_rows"),
    cost="tok * in^2 + in^3 + out * in^2 + 101 * out * in",
    note="Defaults are as released: salience chol2 (the paper prints hinv2), objective kl = KL(quantized || original) "
    "(kl_reversed = KL(original || quantized) as printed; both are of a softmax over the matrix's output features, mse "
    "is the plain distance), threshold 2 (3 as printed), salience_weight 1. At that weight salience plays no part in "
    "the ranges: the search is the unweighted one, as the paper's formula also has it; raise it to make salient errors "
    "count more. clip released tries 0.9 to 1.1 of the range, whose lower end most rows take; wide (ours) goes down to "
    "0.5. The released search averages over calibration sequences, ours over a sample of at most 512 tokens; uniform "
    "widths are among its candidates (ours), it works for any number of groups, and at most half of them lose a bit. "
    "A group of one bit is a sign and the mean size of its weights, as released, but about zero and not about its "
    "mean, and stores 16 bits less. 4 bits would need groups of 5, which no kernel has. Salience in a group is of its "
    "weights as the sweep finds them. The damping is relative, in the search too, where the released code adds 0.01 "
    "and keeps it; its symmetric flag, which stays as the first group left it, is mended. inputs is as in gptq. "
    "SliM-LLM+ (OmniQuant) is left out.",
    scope="matrix",
    widths=WIDTHS,
    formula=r"\min_i D\big(X W_q(i)^\top, X W^\top\big), \quad "
    r"b_g \in \{N-1, N, N+1\}, \quad \min_\tau \sum_j v_j \left|Q_{\tau}(w_j) - w_j\right|^{2.4}",
    ours="Uniform widths are a candidate of the bit search. The wide search range, the squared distance as objective "
    "and the mended damping and symmetric flag are ours, and so is leaving the mean out of groups of one bit.",
)
def slim_llm(
    weight: Float[Tensor, "out in"],
    stats: SiteStatistics | None = None,
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    salience: Literal["chol2", "hinv2"] = "chol2",
    objective: Objective = "kl",
    threshold: Annotated[float, Range(0, 10)] = 2.0,
    salience_weight: Annotated[float, Range(0, 1000)] = 1.0,
    clip: Shares = "released",
    damping: Annotated[float, Range(0.0001, 1)] = 0.01,
    block: Annotated[int, Range(1, 4096)] = 128,
    inputs: Literal["quantized", "full", "sequential"] = "quantized",
) -> MixedWidthWeight:
    """Widths from a search on rounded weights, then one sweep that fits each group's range when it gets there.

    Args:
        weight: the matrix.
        stats: of its inputs; the Gram and the sample are read.
        bits: mean width N, 2 or 3; groups have N - 1, N or N + 1.
        group_size: columns that share a width and a grid; -1 is the whole row, which leaves nothing to choose.
        symmetric: no zero points.
        salience: w^2 / U_jj^2 or w^2 / [Hd^-1]_jj^2.
        objective: what the bit search makes least.
        threshold: standard deviations above the group's mean salience from which a weight is salient.
        salience_weight: how much a salient weight's error counts in the search of ranges.
        clip: shares of a group's range that are tried.
        damping: of the Hessian, as a share of its mean diagonal.
        block: columns whose updates are applied to the rest at once; beyond rounding it changes no result.
        inputs: for whoever runs the model: where the statistics were collected.

    Raises:
        WorkbenchError: no Gram or sample, or a Gram that cannot be factored; another width, a group size that no kernel
            has; NaN, infinity or values beyond fp16's reach.
    """
    del inputs
    check_finite(weight, "the weight")
    gram_of(stats, "slim_llm")  # refuses where there is none
    rows = _sample_of(stats)
    if bits not in WIDTHS:
        raise WorkbenchError(f"bits of slim_llm has value {bits!r}; choose one of: {', '.join(map(str, WIDTHS))}")
    try:
        check_grid_options(bits, group_size)
        unit = weight.shape[1] if group_size == -1 else min(group_size, weight.shape[1])
        factor = inverse_factor(stats, damping)
        held = weight.float().masked_fill(factor.dead, 0).contiguous()
        importance = _importance(factor, salience)
        scores = group_sums(held.square() * importance, unit)
        grids = {"bits": bits, "group_size": unit, "symmetric": symmetric}
        widths = search_widths(held, scores, rows, **grids, objective=objective)
        fit = _Fit(widths, unit, importance, ClipSearch(shares_of(clip), threshold, salience_weight, symmetric))
        found, levels = sweep_fitted(held, factor.upper, fit, group_size=unit, block=block)
        return MixedWidthWeight(pack_groups(found, levels, widths, unit, symmetric), bits)
    except lowbit.LowbitError as error:
        raise WorkbenchError(str(error)) from None


@dataclass(frozen=True, eq=False)
class _Fit:
    """Fits the levels of a group to its columns as the sweep finds them."""

    widths: tuple[int, ...]
    unit: int
    importance: Float[Tensor, " in"]
    search: ClipSearch

    def __call__(self, columns: Float[Tensor, "columns out"], start: int) -> AffineLevels | SignLevels:
        width = self.widths[start // self.unit]
        if width == 1:
            return SignLevels.fit(columns)
        salience = columns.square() * self.importance[start : start + len(columns), None]
        return self.search.fit(columns, salience, width)


def _importance(factor: InverseFactor, salience: Literal["chol2", "hinv2"]) -> Float[Tensor, " in"]:
    """What a squared weight of each column is multiplied by to be its salience, float32."""
    diagonal = factor.upper.diagonal() if salience == "chol2" else factor.diagonal()
    return diagonal.square().reciprocal().masked_fill(factor.dead, 0).float()


def _sample_of(stats: SiteStatistics | None) -> Float[Tensor, "rows in"]:
    """The sample of a site's inputs, float32.

    Raises:
        WorkbenchError: it was not collected.
    """
    if stats is None or stats.sample_rows is None:
        raise WorkbenchError("slim_llm needs a sample of the layer's inputs; collect the statistic 'sample_rows'")
    return stats.sample_rows.to(torch.float32)
