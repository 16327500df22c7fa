"""Matrices that say how much of each token goes into each position, followed through the layers."""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.errors import WorkbenchError

ALL_LAYERS = -1
CAUTION = (
    "this says where the model looks and what it carries, not what its answer rests on; it is the same for every target"
)


class Mixing:
    """The last position's row of one layer's matrix, or of the product of all of them.

    Args:
        method: name for messages.
        adapter: the model.
        ids: the prompt.
        layer: a layer counted from 0, or `ALL_LAYERS` for the product.
        residual: of each factor of the product, the part that stays where it is.

    Raises:
        WorkbenchError: no such layer.
    """

    def __init__(
        self, method: str, adapter: Adapter, ids: Int[Tensor, "1 tok"], layer: int, residual: float = 0.0
    ) -> None:
        last = adapter.model.config.get_text_config().num_hidden_layers - 1
        if layer > last:
            raise WorkbenchError(
                f"option 'layer' of {method!r} has value {layer}; the layers are 0 to {last}, or -1 for all"
            )
        self.layer, self._rows = layer, list(adapter.layout.rows)
        self.residual = residual if layer == ALL_LAYERS else 0.0
        self.mixed = torch.eye(ids.shape[1], dtype=torch.float64, device=adapter.table.weight.device)

    def add(self, index: int, matrix: Float64[Tensor, "tok tok"]) -> None:
        """The next layer's matrix: no negative entries, none above the diagonal; a row of zeros looks at itself."""
        if self.layer not in (ALL_LAYERS, index):
            return
        total, own = matrix.sum(-1, keepdim=True), torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        rows = torch.where(total > 0, matrix / total.clamp_min(torch.finfo(total.dtype).tiny), own)
        self.mixed = (self.residual * own + (1 - self.residual) * rows) @ self.mixed

    @property
    def scores(self) -> Float64[Tensor, " tok"]:
        """The last position's row, or the mean of those that are read, which adds up to 1; on the CPU."""
        return self.mixed[self._rows].mean(0).cpu()
