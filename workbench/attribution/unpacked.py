"""A model of packed low-bit weights as one that gradients go through: its products have no backward pass."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import lowbit

NOTE = (
    "{count} matrices of this model are packed in few bits, whose products have no gradient: a copy with the values"
    " that the codes stand for is explained, its products are rounded differently in the last digits"
)


def dense_copy(model: PreTrainedModel) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """The model itself, or where it holds packed weights a copy with dense ones, and the sentence that says so.

    What is not packed is shared with the model, not copied. Memory grows by the dense weights.
    """
    packed = [module for module in model.modules() if isinstance(module, lowbit.LowbitLinear)]
    if not packed:
        return model, ()
    memo: dict[int, object] = {id(module): _dense(module) for module in packed}
    memo.update({id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})
    return copy.deepcopy(model, memo), (NOTE.format(count=len(packed)),)


@torch.no_grad()
def _dense(layer: lowbit.LowbitLinear) -> nn.Linear:
    """The layer as a linear module of what its codes, outliers and scales stand for."""
    values = lowbit.dequantize(layer.weight)
    if layer.outliers is not None:
        values = lowbit.merge_sparse(values, layer.outliers)
    if isinstance(layer.column_scale, Tensor):
        values = values / layer.column_scale
    linear = nn.Linear(*values.shape[::-1], bias=layer.bias is not None, device="meta")
    linear.weight = nn.Parameter(values, requires_grad=False)
    if layer.bias is not None:
        linear.bias = nn.Parameter(layer.bias.to(values.dtype), requires_grad=False)
    return linear.eval()
