"""Tensors of a model's matrices on disk, while all of them are made and before they are handed over in order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.model.hidden_file import HiddenFile
from workbench.model.matrices import Matrix


class Spool:
    """One tensor a field and matrix, float32, laid out as the model stores the matrix; zeros at first.

    Args:
        matrices: the matrices.
        fields: names of what is kept of each.

    Raises:
        WorkbenchError: there is not so much room on the disk.
    """

    def __init__(self, matrices: Sequence[Matrix], fields: Sequence[str]) -> None:
        shapes = [torch.Size(one.shape[::-1] if one.transposed else one.shape) for one in matrices]
        pairs = [(field, matrix.name) for field in fields for matrix in matrices]
        self._places = {pair: place for place, pair in enumerate(pairs)}
        self._file = HiddenFile(shapes * len(fields), torch.float32, "the gradients of all matrices", "metrics at once")

    def put(self, field: str, matrix: Matrix, tensor: Tensor) -> None:
        """Keep a tensor in place of what is there."""
        self._file[self._places[field, matrix.name]] = tensor.detach()

    def add(self, field: str, matrix: Matrix, tensor: Tensor) -> None:
        """Add to what is there."""
        self._file[self._places[field, matrix.name]] = self.get(field, matrix).add_(tensor)

    def get(self, field: str, matrix: Matrix) -> Tensor:
        """A copy of what is there."""
        return self._file[self._places[field, matrix.name]]
