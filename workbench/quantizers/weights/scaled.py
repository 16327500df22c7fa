"""A quantized weight whose columns and rows were scaled before its codes were made."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float16
from torch import Tensor

from workbench.quantizers.weight import QuantizedWeight


@dataclass(frozen=True, eq=False)
class ScaledWeight(QuantizedWeight):
    """diag(rows) dense diag(1 / columns): what a scaled and quantized matrix stands for in the model as it was.

    Scales that are absorbed live in other parameters: those of the columns are divided out of the norm or the matrix in
    front, those of the rows are multiplied into the columns of the matrix behind. They take no memory of their own and
    are kept here to say what the matrix amounts to.

    Attributes:
        dense: the quantized matrix with columns multiplied and rows divided by their scales.
        columns: scale of each input column; None for ones.
        rows: scale of each row, always absorbed; None for ones.
        columns_absorbed: whether the column scales are kept by another parameter, so that they are not counted.
    """

    dense: QuantizedWeight
    columns: Float16[Tensor, " in"] | None
    rows: Float16[Tensor, " out"] | None
    columns_absorbed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the dense weight."""
        return self.dense.shape

    @property
    def nominal_bits(self) -> float:
        """The quantized matrix's; papers on scaled columns leave their scales out of it."""
        return self.dense.nominal_bits

    def tensors(self) -> dict[str, Tensor]:
        """The quantized matrix's tensors, and column scales that nothing absorbed."""
        stored = self.dense.tensors()
        if self.columns is not None and not self.columns_absorbed:
            stored["column_scale"] = self.columns
        return stored

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The dense weight."""
        values = self.dense.dequantize(torch.float32)
        if self.columns is not None:
            values = values / self.columns.float()
        if self.rows is not None:
            values = values * self.rows.float()[:, None]
        return values.to(dtype)
