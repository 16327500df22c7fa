"""A quantized model is the full model with other weights laid over it for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from weakref import WeakKeyDictionary

import torch
import transformers
from torch import Tensor, nn

from workbench.errors import WorkbenchError, shown
from workbench.model.lazy_weights import shapes_of
from workbench.model.matrices import Matrix, quantizable_matrices
from workbench.model.streaming import stream_of

STREAMED = torch.empty(0, dtype=torch.float32)
"""Of the type that weights are read from files in."""

_depth: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


@contextmanager
def overlay(model: transformers.PreTrainedModel, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Compute with other weights inside a `with` block; overlays may be nested.

    The parameters point to the new values for the time being and to their own memory again afterwards, so the original
    bytes are neither copied nor written to, also when the block raises. A model that reads its blocks when they run
    asks for a weight only when its block runs, so that weights which a mapping makes when it is asked are never held
    all at once.

    Args:
        model: the model.
        weights: matrix name -> dense weight `[out, in]`, cast to the type of the parameter. A mapping that makes them
            when it is asked tells their shapes by `shapes` (`LazyWeights`).

    Raises:
        WorkbenchError: a name or a shape that the model does not have; nothing has been changed then.
    """
    matrices = {matrix.name: matrix for matrix in quantizable_matrices(model)}
    for name, shape in shapes_of(weights).items():
        _check(matrices.get(name), name, shape)
    stream = stream_of(model)
    read = frozenset() if stream is None else frozenset(name for name in weights if name in stream)
    originals: dict[str, Tensor] = {}
    laid = () if stream is None else stream.laid
    _depth[model] = _depth.get(model, 0) + 1
    try:
        if stream is not None:
            stream.laid = (*laid, {name: partial(_stored, weights, matrices[name], STREAMED) for name in read})
        for name in (one for one in weights if one not in read):
            parameter = model.get_parameter(name)
            originals[name] = parameter.data
            parameter.data = _stored(weights, matrices[name], parameter)
        yield
    finally:
        for name, original in originals.items():
            model.get_parameter(name).data = original
        if stream is not None:
            stream.laid = laid
        _depth[model] -= 1


def _stored(weights: Mapping[str, Tensor], matrix: Matrix, like: Tensor) -> Tensor:
    """A weight as the model stores it, contiguous, of the type and on the device of another tensor."""
    weight = weights[matrix.name].detach()
    return (weight.T if matrix.transposed else weight).to(like).contiguous()


def is_overlaid(model: transformers.PreTrainedModel) -> bool:
    """Whether the model computes with other weights than its own now."""
    return _depth.get(model, 0) > 0


def _check(matrix: Matrix | None, name: str, shape: tuple[int, ...]) -> None:
    if matrix is None:
        raise WorkbenchError(f"the model has no quantizable matrix {shown(name)}")
    if shape != matrix.shape:
        raise WorkbenchError(f"weight for {shown(name)} has shape {list(shape)}; the model's is {list(matrix.shape)}")
