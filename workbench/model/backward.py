"""The loss of a model at weights that may differ from its own, and its gradient, summed over windows.

The weights are handed to a call of the model (`torch.func.functional_call`) and never written into it: no flag,
gradient or hook of the model changes, so nothing has to be put back, whatever happens on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from workbench.model.matrices import Matrix
from workbench.model.streaming import parameter_of
from workbench.progress import Progress, Steps

BATCH_OPERATIONS = 8e9
BATCH_TOKENS = 2048
BATCH_LOGITS = 8_000_000


def oriented(tensor: Float[Tensor, "rows columns"], matrix: Matrix) -> Float[Tensor, "columns2 rows2"]:
    """Between `[out, in]` and the way the model stores the matrix; the same step both ways."""
    return tensor.T if matrix.transposed else tensor


def values_at(
    model: nn.Module, matrices: Sequence[Matrix], weights: Mapping[str, Tensor | None], share: float
) -> dict[str, Tensor]:
    """Parameter name -> w + share (q - w), interpolated in float32 or wider; matrices without a q are left out.

    Args:
        model: the model.
        matrices: its matrices.
        weights: matrix name -> q `[out, in]`, or None where it stays as it is.
        share: place on the straight path, 0 at the model's own weights.
    """
    values = {}
    for matrix in matrices:
        other = weights.get(matrix.name)
        if other is not None:
            own = parameter_of(model, matrix.name)
            wide = torch.promote_types(own.dtype, torch.float32)
            start, stop = own.to(wide), oriented(other, matrix).to(own.device, wide)
            values[matrix.name] = torch.lerp(start, stop, share).to(own.dtype)
    return values


def make_leaves(model: nn.Module, matrices: Sequence[Matrix], values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make the named matrices leaves that want a gradient, inside `values`; unchanged ones share the model's memory."""
    for matrix in matrices:
        held = values[matrix.name] if matrix.name in values else parameter_of(model, matrix.name)
        values[matrix.name] = held.detach().requires_grad_()
    return {matrix.name: values[matrix.name] for matrix in matrices}


def next_token_logits(
    model: nn.Module, values: Mapping[str, Tensor], ids: Int64[Tensor, "window tok"]
) -> tuple[Float[Tensor, "predicted vocab"], Int64[Tensor, " predicted"]]:
    """Logits of all predicted tokens and those tokens, with those parameters in place of the model's own."""
    inputs = {"input_ids": ids, "use_cache": False}
    output: Any = functional_call(model, dict(values), (), inputs)
    logits = output.logits[:, :-1].flatten(0, 1)
    return logits.to(torch.promote_types(logits.dtype, torch.float32)), ids[:, 1:].flatten()


def mean_loss(model: nn.Module, values: Mapping[str, Tensor], ids: Int64[Tensor, "window tok"]) -> Float[Tensor, ""]:
    """Mean negative log-likelihood of the next tokens, nats, with those parameters in place of the model's own."""
    return cross_entropy(*next_token_logits(model, values, ids))


def batches_of(model: Any, ids: Int64[Tensor, "window tok"], *, one_by_one: bool = False) -> list[Tensor]:
    """The windows in batches of a fraction of a second each, from sizes alone; or each window alone."""
    if one_by_one:
        return list(ids.split(1))
    a_token = 6 * sum(parameter.numel() for parameter in model.parameters())
    vocabulary = int(model.config.get_text_config().vocab_size)
    tokens = min(BATCH_TOKENS, BATCH_OPERATIONS / a_token, BATCH_LOGITS / vocabulary)
    return list(ids.split(max(1, int(tokens // ids.shape[1]))))


@dataclass(eq=False)
class GradientSums:
    """What one pass over all windows leaves.

    Attributes:
        loss: mean loss over the windows, nats.
        grad: parameter name -> gradient of that loss, laid out as the model stores it.
        grad_sq: parameter name -> mean over batches of the squared gradient of each batch's loss; empty unless wanted.
    """

    loss: float = 0.0
    grad: dict[str, Tensor] = field(default_factory=dict)
    grad_sq: dict[str, Tensor] = field(default_factory=dict)


def sum_gradients(
    model: nn.Module,
    values: Mapping[str, Tensor],
    leaves: Mapping[str, Tensor],
    batches: Sequence[Tensor],
    note: str,
    *,
    mean: bool = True,
    squares: bool = False,
) -> Steps[GradientSums]:
    """Forward and backward over all batches; the gradient of a batch is held for one matrix at a time.

    Args:
        model: the model.
        values: parameters to compute with, the leaves among them.
        leaves: those whose gradient is wanted; hooks are put on them, not on the model.
        batches: windows; they must be single ones when squares are wanted.
        note: what to say of it.
        mean: whether to sum the gradients.
        squares: whether to sum their squares.
    """
    total = sum(len(batch) for batch in batches)
    sums = GradientSums()
    share = [0.0]
    sums.grad = {name: zeros_for(leaf) for name, leaf in leaves.items()} if mean else {}
    sums.grad_sq = {name: zeros_for(leaf) for name, leaf in leaves.items()} if squares else {}
    for name, leaf in leaves.items():
        leaf.register_post_accumulate_grad_hook(taker(sums.grad.get(name), sums.grad_sq.get(name), share))
    for done, batch in enumerate(batches):
        yield Progress(done, len(batches), f"{note}: batch {done + 1} of {len(batches)}")
        share[0] = len(batch) / total
        sums.loss += share[0] * _backward(model, values, leaves, batch)
    return sums


def zeros_for(leaf: Tensor) -> Tensor:
    """Where gradients of a leaf are summed: float32 or wider."""
    return torch.zeros_like(leaf, dtype=torch.promote_types(leaf.dtype, torch.float32), requires_grad=False)


def taker(total: Tensor | None, squares: Tensor | None, share: list[float]) -> Any:
    """A hook that adds a leaf's gradient up and drops it, before that of the next matrix is made."""

    def take(leaf: Tensor) -> None:
        if leaf.grad is None:
            return
        if total is not None:
            total.add_(leaf.grad, alpha=share[0])
        if squares is not None:
            squares.addcmul_(leaf.grad, leaf.grad, value=share[0])
        leaf.grad = None

    return take


def _backward(model: Any, values: Mapping[str, Tensor], leaves: Mapping[str, Tensor], batch: Tensor) -> float:
    with torch.enable_grad():  # the caller of a study may have switched gradients off
        loss = mean_loss(model, values, batch.to(model.device))
        if loss.requires_grad:
            loss.backward(inputs=list(leaves.values()))
    return float(loss.detach())
