"""The Hessian of the loss times a direction over all matrices, exact: the gradient is differentiated once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from workbench.model.backward import make_leaves, mean_loss
from workbench.model.matrices import Matrix
from workbench.progress import Progress, Steps


def hessian_product(
    model: Any,
    matrices: Sequence[Matrix],
    wanted: Sequence[Matrix],
    direction: Mapping[str, Tensor],
    batches: Sequence[Tensor],
    note: str,
) -> Steps[dict[str, Tensor]]:
    """H v at the model's own weights, H the Hessian of the mean token loss over all matrices that `direction` names.

    Args:
        model: the model.
        matrices: its matrices.
        wanted: those whose part of the product is wanted.
        direction: parameter name -> v, laid out as the model stores it.
        batches: windows.
        note: what to say of it.

    Returns:
        Parameter name -> its part of H v, laid out as the model stores it.
    """
    moved = [matrix for matrix in matrices if matrix.name in direction]
    total = sum(len(batch) for batch in batches)
    sums: dict[str, Tensor] = {}
    for done, batch in enumerate(batches):
        yield Progress(done, len(batches), f"{note}: batch {done + 1} of {len(batches)}")
        for name, part in _of_batch(model, moved, wanted, direction, batch).items():
            wide = part.to(torch.promote_types(part.dtype, torch.float32)) * (len(batch) / total)
            sums[name] = sums[name] + wide if name in sums else wide
    return sums


def _of_batch(
    model: Any, moved: Sequence[Matrix], wanted: Sequence[Matrix], direction: Mapping[str, Tensor], batch: Tensor
) -> dict[str, Tensor]:
    """grad(grad(loss) . v); the fused attention kernels have no second derivative, the plain one has."""
    values: dict[str, Tensor] = {}
    leaves = make_leaves(model, list({m.name: m for m in (*moved, *wanted)}.values()), values)
    sources, targets = [leaves[m.name] for m in moved], [leaves[m.name] for m in wanted]
    if not sources:
        return {matrix.name: torch.zeros_like(leaves[matrix.name]) for matrix in wanted}
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        loss = mean_loss(model, values, batch.to(model.device))
        first = torch.autograd.grad(loss, sources, create_graph=True, materialize_grads=True)
        pairs = zip(first, (direction[matrix.name] for matrix in moved), strict=True)
        slope = torch.stack([(gradient * v.to(gradient)).sum() for gradient, v in pairs]).sum()
        second = torch.autograd.grad(slope, targets, materialize_grads=True)
    return {matrix.name: part for matrix, part in zip(wanted, second, strict=True)}
