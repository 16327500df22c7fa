"""A quantized model is the full model with other weights laid over it for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import transformers
from torch import Tensor, nn

from workbench.errors import WorkbenchError, shown
from workbench.model.matrices import Matrix, quantizable_matrices

_depth: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


@contextmanager
def overlay(model: transformers.PreTrainedModel, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Compute with other weights inside a `with` block; overlays may be nested.

    The parameters point to the new values for the time being and to their own memory again afterwards, so the original
    bytes are neither copied nor written to, also when the block raises.

    Args:
        model: the model.
        weights: matrix name -> dense weight `[out, in]`, cast to the type of the parameter.

    Raises:
        WorkbenchError: a name or a shape that the model does not have; nothing has been changed then.
    """
    matrices = {matrix.name: matrix for matrix in quantizable_matrices(model)}
    for name, weight in weights.items():
        _check(matrices.get(name), name, weight)
    originals: dict[str, Tensor] = {}
    _depth[model] = _depth.get(model, 0) + 1
    try:
        for name, weight in weights.items():
            parameter = model.get_parameter(name)
            originals[name] = parameter.data
            stored = weight.T if matrices[name].transposed else weight
            parameter.data = stored.detach().to(parameter).contiguous()
        yield
    finally:
        for name, original in originals.items():
            model.get_parameter(name).data = original
        _depth[model] -= 1


def is_overlaid(model: transformers.PreTrainedModel) -> bool:
    """Whether the model computes with other weights than its own now."""
    return _depth.get(model, 0) > 0


def _check(matrix: Matrix | None, name: str, weight: Tensor) -> None:
    if matrix is None:
        raise WorkbenchError(f"the model has no quantizable matrix {shown(name)}")
    if tuple(weight.shape) != matrix.shape:
        raise WorkbenchError(
            f"weight for {shown(name)} has shape {list(weight.shape)}; the model's is {list(matrix.shape)}"
        )
