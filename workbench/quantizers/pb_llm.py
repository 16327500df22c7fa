"""PB-LLM: most weights as signs, the salient ones in eight bits, whichever they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Float16, Int16, UInt8
from torch import Tensor

import lowbit
from workbench.errors import WorkbenchError
from workbench.inverse_factor import gram_of, inverse_factor
from workbench.linalg import check_finite
from workbench.model.sites import SiteStatistics
from workbench.ordering import topk_mask
from workbench.quantizers.arithmetic.binarization import binarize, ceiling, to_fp16
from workbench.quantizers.arithmetic.sweep import sweep_columns
from workbench.quantizers.weights.binary import pack_bits
from workbench.quantizers.weights.partly_binary import Index, PartlyBinaryWeight, where_salient
from workbench.registry import Range, quantizers

Alpha = Literal["code", "masked", "output"]
HIGH = 8


@quantizers.register(
    "pb_llm",
    summary="Most weights keep only a sign about their row's mean; the salient ones have 8 bits.",
    reference="PB-LLM (arXiv:2310.00034) and github.com/hahnyuan/PB-LLM, post-training part",
    needs=("gram",),
    cost="in^3 + out * in^2",
    note="As released: mean and magnitude of a row are sums over the binarized weights divided by all columns (alpha "
    "'code'), which shrinks them. As printed: divided by the binarized weights (alpha 'masked'). 'output' is ours. "
    "Criterion 'hessian' is w^2 / U_jj^2 as computed by the code. The salient share is taken over the whole matrix and "
    "met exactly, ties by place. Compensation off is the code's RTN mode. Not here: fine-tuning (QAT), other widths "
    "than 1 and 8, groups of columns. Mended: shares of 0 and 1 work, and columns in sparse form have 16 bits, not 8.",
    scope="matrix",
    fixed_width=True,
    fixed_group=-1,
    asymmetric_only=True,
    formula=r"\hat w = \begin{cases} s\,(q_8(w) - z) & w \text{ salient} \\ \mu + \alpha\,\mathrm{sign}(w - \mu) & "
    r"\text{else} \end{cases}, \qquad \alpha = \tfrac{1}{n} \textstyle\sum |w - \mu|",
    ours="Alpha 'output': the magnitude with the least output error of the row before any compensation, and the choice "
    "between bitmap and sparse columns by size.",
)
def pb_llm(
    weight: Float[Tensor, "out in"],
    stats: SiteStatistics | None = None,
    *,
    group_size: int = -1,
    symmetric: bool = False,
    salient: Annotated[float, Range(0, 1)] = 0.1,
    criterion: Literal["magnitude", "hessian"] = "hessian",
    alpha: Alpha = "code",
    compensate: bool = True,
    index: Index = "smallest",
    block: Annotated[int, Range(1, 4096)] = 128,
    damping: Annotated[float, Range(0, 1)] = 0.01,
    inputs: Literal["quantized", "full", "sequential"] = "quantized",
) -> PartlyBinaryWeight:
    """Mask, means, magnitudes and the 8-bit grid come from the full weight; then one GPTQ sweep rounds to them.

    Args:
        weight: the matrix.
        stats: of its inputs; the Gram is read.
        group_size: -1, the whole row.
        symmetric: not looked at; the 8-bit grid is asymmetric.
        salient: share of the weights that have 8 bits; the count is rounded up.
        criterion: what makes a weight salient, |w| or w^2 / U_jj^2 with the factor U of the inverse Hessian. Columns
            whose input is always zero score 0 by the latter.
        alpha: the magnitude of the signs, see the note; `output` minimises the row's output error at given signs.
        compensate: a GPTQ sweep with the mixed rounding; without it every weight is rounded where it stands.
        index: how it is stored which weights are salient.
        block: columns that the sweep updates at once; it changes no result.
        damping: of the Hessian, as a share of its mean diagonal.
        inputs: for whoever runs the model: where the statistics were collected.

    Raises:
        WorkbenchError: a group size other than the whole row, no Gram, a Hessian that cannot be factored, a weight with
            NaN or infinity or beyond fp16.
    """
    check_finite(weight, "the weight")
    if -1 != group_size < weight.shape[1]:
        raise WorkbenchError(f"group size of pb_llm has value {group_size}; choose -1 (the whole row)")
    held = weight.float().contiguous()
    factor = inverse_factor(stats, damping, method="pb_llm")
    scores = held.abs()
    if criterion == "hessian":
        scores = (held / factor.upper.diagonal()).square().masked_fill(factor.dead, 0.0)
    mask = topk_mask(scores, ceiling(salient, held.numel()))
    rounding = _Rounding.fit(held, mask, alpha, gram_of(stats, "pb_llm"))
    if compensate:
        sweep_columns(held, factor.upper, rounding.column, block=block)
    else:
        rounding.round(held, slice(None))
    return PartlyBinaryWeight(
        signs=rounding.signs(),
        codes=rounding.codes[mask],
        scale=rounding.grid.scale,
        zero=rounding.zero,
        magnitude=rounding.magnitude,
        mean=rounding.mean,
        size=(weight.shape[0], weight.shape[1]),
        **where_salient(mask, index),
    )


@dataclass(frozen=True, eq=False)
class _Rounding:
    """The per-element mixed rounding, and the codes of what was rounded so far.

    Attributes:
        mask: which weights have 8 bits.
        grid: of the 8-bit weights, one a row.
        mean: of the signs, one a row.
        magnitude: of the signs, one a row.
        codes: 8-bit code of a salient weight; of the others 1 for plus and 0 for minus.
    """

    mask: Bool[Tensor, "out in"]
    grid: lowbit.Grid
    mean: Float16[Tensor, " out"]
    magnitude: Float16[Tensor, " out"]
    codes: UInt8[Tensor, "out in"]

    @classmethod
    def fit(
        cls, weight: Float[Tensor, "out in"], mask: Bool[Tensor, "out in"], alpha: Alpha, gram: Float[Tensor, "in in"]
    ) -> _Rounding:
        """Everything that the full weight decides."""
        try:
            grid = lowbit.group_grid(weight, bits=HIGH, group_size=-1)
        except lowbit.LowbitError as error:
            raise WorkbenchError(str(error)) from None
        binary = binarize(weight, ~mask, centred=True, counted=alpha == "code")
        fitted = cls(mask, grid, binary.mean, binary.magnitude, torch.empty_like(mask, dtype=torch.uint8))
        if alpha != "output":
            return fitted
        unsigned = replace(fitted, magnitude=torch.zeros_like(binary.magnitude))
        lost = weight - unsigned.round(weight, slice(None))
        signs = (2.0 * binary.positive - 1).masked_fill(mask, 0.0).double()
        moved = signs @ gram.double()
        energy = (moved * signs).sum(1)
        best = (moved * lost).sum(1).clamp(min=0) / torch.where(energy > 0, energy, 1.0)
        return replace(fitted, magnitude=torch.where(energy > 0, to_fp16(best, "magnitude"), binary.magnitude))

    @property
    def zero(self) -> Int16[Tensor, "out 1"]:
        """Zero point of each row."""
        assert self.grid.zero is not None  # the grid is asymmetric
        return self.grid.zero

    def column(self, values: Float[Tensor, " out"], place: int) -> Float[Tensor, " out"]:
        """Round one column, for the sweep."""
        return self.round(values.unsqueeze(1), slice(place, place + 1)).squeeze(1)

    def round(self, values: Float[Tensor, "out columns"], columns: slice) -> Float[Tensor, "out columns"]:
        """Round some columns by what their places ask for, and note the codes."""
        held, mask = values.float(), self.mask[:, columns]
        scale, zero = self.grid.scale.float(), self.zero.float()
        codes = torch.clamp(torch.round(held * (1 / scale)) + zero, 0, 2**HIGH - 1)
        mean, size = self.mean.float().unsqueeze(1), self.magnitude.float().unsqueeze(1)
        positive = held >= mean
        self.codes[:, columns] = torch.where(mask, codes, positive.float()).to(torch.uint8)
        signed = torch.where(positive, size, -size) + mean
        return torch.where(mask, (codes - zero) * scale, signed).to(values.dtype)

    def signs(self) -> UInt8[Tensor, " bytes"]:
        """The signs of all weights that are not salient."""
        return pack_bits(self.codes[~self.mask].bool())
