"""How many blocks' gradients fit in memory at once: ranges of blocks, and the estimate that a user is shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.model.matrices import Matrix
from workbench.model.memory import available_memory, require_memory

PER_WEIGHT = {"grad": 1, "grad_sq": 1, "path": 3, "hessian_step": 1, "hessian_gradient": 1, "synflow": 1}
"""Tensors of a matrix's size that a range holds for a need; a path holds two sums and the gradient of its node."""

WHOLE_MODEL = {"path": 1, "hessian_step": 3, "hessian_gradient": 4}
"""Tensors of a matrix's size that are held for every matrix of the model, whatever the range: the weights on the path;
the direction, the gradients and their graph."""

SPARE = 0.8
"""Share of the free memory that may be planned with."""


def working_bytes(model: Any, matrices: Sequence[Matrix], batch_tokens: int, needs: Collection[str]) -> int:
    """Estimate of what is held whatever the range: activations of a batch, logits, one matrix's gradient, copies."""
    size = _size(model)
    vocabulary = int(model.config.get_text_config().vocab_size)
    activations = 2 * batch_tokens * (sum(m.rows + m.columns for m in matrices) + 2 * vocabulary)
    second = 2 if {"hessian_step", "hessian_gradient"} & set(needs) else 1  # the graph of the gradients themselves
    everywhere = max((WHOLE_MODEL.get(need, 0) for need in needs), default=0) * sum(m.parameters for m in matrices)
    if "synflow" in needs:
        everywhere = max(everywhere, sum(parameter.numel() for parameter in model.parameters()))
    return size * (second * activations + everywhere + 2 * max(m.parameters for m in matrices))


def range_bytes(model: nn.Module, matrices: Sequence[Matrix], needs: Collection[str]) -> int:
    """Bytes of the sums that are held for a range."""
    return _size(model) * sum(PER_WEIGHT.get(need, 0) for need in needs) * sum(m.parameters for m in matrices)


def block_ranges(
    model: nn.Module, matrices: Sequence[Matrix], needs: Collection[str], working: int, memory: int | None
) -> list[list[Matrix]]:
    """Matrices in ranges of whole blocks, in order, as many blocks in each as memory allows.

    Args:
        model: the model.
        matrices: all of its matrices.
        needs: names from `weightstats.GRADIENTS`.
        working: what `working_bytes` estimates.
        memory: bytes that all of it may take; None for four fifths of those that are free.

    Raises:
        WorkbenchError: not even one block fits.
    """
    blocks = [list(part) for _, part in groupby(matrices, key=lambda matrix: matrix.block)]
    limit = int(SPARE * available_memory()) if memory is None else memory
    largest = max(range_bytes(model, block, needs) for block in blocks)
    require_memory(working + largest, "a gradient sweep over one block", memory)
    ranges: list[list[Matrix]] = [[]]
    for block in blocks:
        if ranges[-1] and working + range_bytes(model, [*ranges[-1], *block], needs) > limit:
            ranges.append([])
        ranges[-1] += block
    return ranges


def _size(model: nn.Module) -> int:
    return max(4, next(model.parameters()).element_size())


PACKED = (torch.uint8, torch.int8, torch.int16, torch.int32)


def check_differentiable(model: nn.Module, matrices: Sequence[Matrix]) -> None:
    """Refuse a model whose weights are packed codes, which have no gradient.

    Raises:
        WorkbenchError: codes are found among its parameters or buffers, or it has no matrices at all.
    """
    held = [*model.named_parameters(), *model.named_buffers()]
    packed = [name for name, tensor in held if tensor.ndim >= 2 and tensor.dtype in PACKED]
    if packed:
        raise WorkbenchError(
            f"gradients need the full weights, but {packed[0][:80]!r} of this model holds packed codes; load the model "
            "in full precision and choose a quantizer beside it"
        )
    if not matrices:
        raise WorkbenchError("gradients need a matrix to be taken for; this model has none that can be quantized")
