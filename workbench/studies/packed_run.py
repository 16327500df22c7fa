"""A quantized model as it would be run: from packed codes where the kernels have a product for them, and its sizes."""

from __future__ import annotations

from collections.abc import Mapping

import transformers

from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices
from workbench.model.packed import Packed, packed_copy
from workbench.quantizers.weight import AffineWeight, QuantizedWeight
from workbench.quantizers.weights.mixed_widths import MixedWidthWeight


def packed_model(loaded: LoadedModel, weights: Mapping[str, QuantizedWeight]) -> transformers.PreTrainedModel | None:
    """A copy that multiplies by codes as they are stored; None where a weight has no such product.

    Left out are code books, sparse parts and weights with column scales: their values run as dense matrices.
    """
    found: dict[str, Packed] = {}
    for name, weight in weights.items():
        packed = _codes(weight)
        if packed is None:
            return None
        found[name] = packed
    return packed_copy(loaded.model, found)


def _codes(weight: QuantizedWeight) -> Packed | None:
    if isinstance(weight, AffineWeight):
        return weight.packed
    return weight.mixed if isinstance(weight, MixedWidthWeight) else None


def stored_bytes(loaded: LoadedModel, weights: Mapping[str, QuantizedWeight]) -> int:
    """Bytes on disk: quantized weights with all that they hold, everything else at 16 bits."""
    sizes = {matrix.name: matrix.parameters for matrix in quantizable_matrices(loaded.model)}
    rest = loaded.identity.parameters - sum(sizes[name] for name in weights)
    return 2 * rest + sum(weight.nbytes for weight in weights.values())


def held_bytes(model: transformers.PreTrainedModel) -> int:
    """Bytes that the weights of a model take in memory as it is loaded, tied ones once."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
