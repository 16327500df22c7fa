"""A model that runs from packed weights: less memory in earnest, where the overlay is for measuring.

The overlay puts dense values of a quantized weight in place, so it is exact, quick and as large as the model. A packed
copy holds codes and multiplies by them as they are stored (`lowbit.LowbitLinear`): its generation can be watched at the
size that the plan promises. It has no gradients, and its products are rounded differently in the last digits.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

import transformers

import lowbit
from workbench.errors import WorkbenchError, shown
from workbench.model.matrices import quantizable_matrices
from workbench.model.overlay import is_overlaid

Model = TypeVar("Model", bound=transformers.PreTrainedModel)
Packed = lowbit.PackedWeight | lowbit.BinaryWeight | lowbit.MixedWeight


def packed_copy(
    model: Model, weights: Mapping[str, Packed], outliers: Mapping[str, lowbit.SparseWeight] | None = None
) -> Model:
    """A copy of the model in which these matrices are held in few bits; the model itself stays as it is.

    Args:
        model: the model.
        weights: matrix name -> low-bit weight `[out, in]`.
        outliers: matrix name -> entries that are added to it.

    Raises:
        WorkbenchError: a name or a shape that the model does not have, or other weights are laid over the model now.
    """
    if is_overlaid(model):
        raise WorkbenchError("other weights are laid over the model now; pack it afterwards")
    matrices = {matrix.name: matrix for matrix in quantizable_matrices(model)}
    layers: dict[int, lowbit.LowbitLinear] = {}
    for name, weight in weights.items():
        matrix = matrices.get(name)
        if matrix is None:
            raise WorkbenchError(f"the model has no quantizable matrix {shown(name)}")
        if weight.shape != matrix.shape:
            raise WorkbenchError(
                f"{shown(name)} has shape {list(matrix.shape)}, the packed weight {list(weight.shape)}"
            )
        module = model.get_submodule(matrix.module)
        try:
            layer = lowbit.LowbitLinear(weight, outliers=(outliers or {}).get(name), bias=getattr(module, "bias", None))
        except lowbit.LowbitError as error:
            raise WorkbenchError(str(error)) from None
        layers[id(module)] = layer
    return copy.deepcopy(model, dict(layers))  # what is in the memo stands in for the module that it names
