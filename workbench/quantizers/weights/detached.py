"""A quantized weight with some single weights detached from it: ReQuant's two parts, dense and sparse.

Source: Hu et al. 2025, arXiv 2503.01901. The paper detaches outliers before and significant weights after
quantization; a detached weight costs 48 bits there (16 for its value, 32 for its column), and so it does here, plus the
row starts that the paper does not count. How the outliers' budget is shared out over matrices is said in the paper's
Algorithm 1, whose body we have not seen: `outlier_ratios` is our own rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import lowbit
from workbench.errors import WorkbenchError
from workbench.ordering import topk_mask
from workbench.quantizers.weight import QuantizedWeight

DETACHED_BITS = 48
"""Bits of a detached weight as the paper counts them."""

MOST = 10.0
"""A matrix takes at most so many times the mean ratio of outliers."""


@dataclass(frozen=True, eq=False)
class DenseAndSparse(QuantizedWeight):
    """A quantized matrix and what is added to it at single places, so that there it has the value it was given.

    Attributes:
        dense: the quantized matrix.
        sparse: full value minus quantized value of each detached weight, fp16.
    """

    dense: QuantizedWeight
    sparse: lowbit.SparseWeight

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the dense weight."""
        return self.dense.shape

    @property
    def detached(self) -> int:
        """Number of detached weights."""
        return self.sparse.values.numel()

    @property
    def nominal_bits(self) -> float:
        """The dense part's, and 48 bits a detached weight."""
        return self.dense.nominal_bits + DETACHED_BITS * self.detached / (self.shape[0] * self.shape[1])

    def tensors(self) -> dict[str, Tensor]:
        """The dense part's tensors; values, columns and row starts of the detached weights."""
        own = {"values": self.sparse.values, "columns": self.sparse.columns, "row_start": self.sparse.row_start}
        return self.dense.tensors() | {f"sparse_{name}": tensor for name, tensor in own.items()}

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight with the detached ones back in their places."""
        return lowbit.merge_sparse(self.dense.dequantize(torch.float32), self.sparse).to(dtype)


def detach(dense: QuantizedWeight, weight: Float[Tensor, "out in"], mask: Bool[Tensor, "out in"]) -> QuantizedWeight:
    """The quantized weight with the full values of `weight` where the mask is true; itself when it is true nowhere.

    Raises:
        WorkbenchError: the shapes differ, or a difference is beyond fp16.
    """
    if tuple(weight.shape) != dense.shape or mask.shape != weight.shape:
        raise WorkbenchError(
            f"weights of {list(dense.shape)} cannot be detached by a mask of {list(mask.shape)} over "
            f"{list(weight.shape)}"
        )
    if not bool(mask.any()):
        return dense
    difference = weight.float() - dense.dequantize(torch.float32)
    try:
        return DenseAndSparse(dense, lowbit.SparseWeight.from_mask(difference, mask))
    except lowbit.LowbitError as error:
        raise WorkbenchError(str(error)) from None


def outlier_ratios(salience: Mapping[str, float], sizes: Mapping[str, int], budget: float) -> dict[str, float]:
    """Which part of each matrix's weights is detached as outliers: more where a weight matters more.

    Proportional to the mean salience of a weight of the matrix, at most ten times the budget, and scaled so that over
    all weights the budget is met. Our own definition, after Algorithm 1 of the paper.

    Args:
        salience: matrix -> summed salience (of `pqi`), not negative.
        sizes: matrix -> number of weights.
        budget: part of all weights, 0 to 0.1.

    Raises:
        WorkbenchError: a budget out of range.
    """
    if not 0 <= budget <= 1 / MOST:
        raise WorkbenchError(f"budget of outliers has value {budget!r}; it must lie between 0 and {1 / MOST:g}")
    total = sum(sizes.values())
    means = {name: salience[name] / sizes[name] for name in sizes}
    if not any(means.values()):
        return dict.fromkeys(sizes, budget)
    ceiling, capped = MOST * budget, set[str]()
    while True:
        left = budget * total - sum(ceiling * sizes[name] for name in capped)
        free = sum(salience[name] for name in sizes if name not in capped)
        scale = left / free if free > 0 else 0.0
        over = {name for name in sizes if name not in capped and scale * means[name] > ceiling}
        if not over:
            return {name: ceiling if name in capped else scale * means[name] for name in sizes}
        capped |= over


def largest(weight: Float[Tensor, "out in"], ratio: float) -> Bool[Tensor, "out in"]:
    """A mask of that part of the weights, the largest in size; the count is rounded down."""
    return topk_mask(weight.float().abs(), int(ratio * weight.numel()))
