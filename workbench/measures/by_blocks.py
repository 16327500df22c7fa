"""Losses and divergences of a model that reads its blocks when they run: all windows pass a block before the next one.

Each block is read once for all windows, and the logits behind the last one are made for a few tokens at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from workbench.measures.agreement import same_top1
from workbench.measures.divergence import kl
from workbench.model.blocks import find_blocks
from workbench.model.fit import HEAD_LOGITS
from workbench.model.passage import Passage
from workbench.model.streaming import is_streamed, let_go
from workbench.model.work_room import logits_at_once, windows_that_pass
from workbench.progress import Progress, Steps, within


@dataclass(frozen=True, eq=False)
class Passed:
    """What is told of every predicted token, `[window, tok - 1]`, on the CPU.

    Attributes:
        losses: negative log-likelihood, nats.
        kl: divergence from a reference, nats; None without one.
        same: whether the most likely token is that of the reference.
    """

    losses: Float[Tensor, "window predicted"]
    kl: Tensor | None = None
    same: Tensor | None = None


def pass_blocks(
    model: nn.Module, ids: Int64[Tensor, "window tok"], batch: int, weights: Mapping[str, Tensor], note: str
) -> Steps[Passage | None]:
    """Let all windows pass all blocks.

    Args:
        model: the model.
        ids: the windows.
        batch: windows that run at once.
        weights: matrix name -> dense weight `[out, in]` in place of the model's own; asked for once.
        note: what to say of it.

    Returns:
        The hidden states behind the last block; None for a model in memory, and where it cannot be done: blocks that do
        not follow one another directly, weights in no block.

    Raises:
        WorkbenchError: the hidden states do not fit on the disk.
    """
    if not is_streamed(model):
        return None
    blocks = find_blocks(model)  # type: ignore[arg-type]
    inside = {matrix.name for block in blocks for matrix in block.matrices}
    if not blocks or not inside.issuperset(weights):
        return None
    passage = Passage(model, ids, windows_that_pass(model, ids.shape[1], batch))
    yield from within(passage.open(), 0.0, 0.0)
    if not passage.direct:
        return None
    for place, block in enumerate(passage.blocks):
        yield Progress(place, len(passage.blocks), f"{note}: {block.path}")
        dense = {matrix.name: weights[matrix.name] for matrix in block.matrices if matrix.name in weights}
        yield from within(passage.carry(dense), place, place + 1, len(passage.blocks))
    return passage


def measure_passed(passage: Passage, note: str, reference: Passage | None = None) -> Steps[Passed]:
    """Losses of all windows behind the last block, and how far the predictions are from another passage's.

    Args:
        passage: by `pass_blocks`.
        note: what to say of it.
        reference: of the same windows in the same batches.
    """
    let_go(passage.model)  # the head runs alone
    parts: list[list[Passed]] = []
    for batch, ids in enumerate(passage.batches):
        states = passage.states[batch]
        truth = None if reference is None else reference.states[batch]
        parts.append([])
        for kept in _places(passage, ids):
            yield Progress(batch, len(passage.batches), f"{note}: batch {batch + 1} of {len(passage.batches)}")
            parts[-1].append(_measure(passage, batch, kept, states, truth))
    rows = [_join(row, 1) for row in parts]
    return _join(rows, 0)


@torch.no_grad()
def _measure(passage: Passage, batch: int, kept: Tensor, states: Tensor, truth: Tensor | None) -> Passed:
    targets = passage.batches[batch][:, 1:][:, kept]
    logits = _logits(passage, batch, states, kept)
    losses = [
        functional.cross_entropy(a, b.to(a.device), reduction="none") for a, b in zip(logits, targets, strict=True)
    ]
    if truth is None:
        return Passed(torch.stack(losses).cpu())
    right = _logits(passage, batch, truth, kept)
    return Passed(torch.stack(losses).cpu(), kl(right, logits).cpu(), same_top1(right, logits).cpu())


def _logits(passage: Passage, batch: int, states: Tensor, kept: Tensor) -> Tensor:
    """Logits at places; all of a window together run through the head as they would in the whole model."""
    predicted = passage.batches[batch].shape[1] - 1
    if len(kept) == predicted:
        return passage.logits(batch, states)[:, :-1]
    return passage.logits(batch, states, kept)


def _places(passage: Passage, ids: Tensor) -> Iterator[Int64[Tensor, " some"]]:
    """The predicted places of a batch, as many at once as logits may be held."""
    vocabulary = int(passage.model.config.get_text_config().vocab_size)
    windows, length = ids.shape
    most = min(HEAD_LOGITS, logits_at_once(passage.model))
    at_once = length if ids.numel() * vocabulary <= most else max(1, most // (windows * vocabulary))
    yield from torch.arange(length - 1).split(at_once)


def _join(parts: list[Passed], axis: int) -> Passed:
    def joined(tensors: list[Tensor | None]) -> Tensor | None:
        held = [one for one in tensors if one is not None]
        return torch.cat(held, axis) if len(held) == len(tensors) else None

    losses = torch.cat([one.losses for one in parts], axis)
    return Passed(losses, joined([one.kl for one in parts]), joined([one.same for one in parts]))
