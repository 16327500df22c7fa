"""What working through a model part by part takes in memory, and the smallest limit that would do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import psutil

from workbench.errors import WorkbenchError
from workbench.model.chain import Chain
from workbench.model.fit import HEAD_LOGITS, fit_of
from workbench.model.matrices import Matrix
from workbench.model.memory import available_memory, require_memory
from workbench.model.streamed_build import layout_of
from workbench.model.streaming import stream_of

COPIES = {"grad": 1, "grad_sq": 1, "path": 2, "hessian_step": 5, "hessian_gradient": 5, "synflow": 3}
"""Tensors of a block's size that a pass for a need holds beside the block's own weights: sums, values on the path,
directions and the gradients that are differentiated."""

SECOND = {"hessian_step", "hessian_gradient"}


def block_bytes(chain: Chain, matrices: Sequence[Matrix], needs: Collection[str]) -> int:
    """Estimate of what a pass holds at once beside the weights of the model that are in memory.

    One block's sums and copies, its activations on one batch with their graph, a run of logits, copies of one matrix.
    """
    text = chain.model.config.get_text_config()
    tokens = max(ids.numel() for ids in chain.batches)
    widths = [sum(m.rows + m.columns for m in block.matrices) for block in chain.blocks]
    graph = 2 * tokens * (max(widths) + 6 * int(text.hidden_size)) * (3 if SECOND & set(needs) else 1)
    longest = max(len(kept) * len(ids) for ids in chain.batches for kept in chain.chunks(ids)[:1])
    logits = (6 if SECOND & set(needs) else 4) * min(longest * int(text.vocab_size), max(HEAD_LOGITS, longest))
    firsts = sum(COPIES[need] for need in ("grad", "grad_sq") if need in needs)
    copies = max(firsts, *(COPIES.get(need, 0) for need in needs)) if needs else 0
    held = max(sum(m.parameters for m in block.matrices) for block in chain.blocks)
    outside = sum(m.parameters for m in chain.outside)
    if "synflow" in needs:  # what stands in no block is turned into absolute values at once
        outside += sum(one.numel() for one in chain.model.parameters() if not one.is_meta)
    return 4 * (max(graph, logits) + copies * (held + outside) + 4 * max(m.parameters for m in matrices))


@contextmanager
def room_for_pass(
    chain: Chain, matrices: Sequence[Matrix], needs: Collection[str], memory: int | None
) -> Iterator[None]:
    """See to it that a pass fits, if need be by holding one block only for its time: no pass wants one twice.

    Args:
        chain: the model and its batches.
        matrices: all of its matrices.
        needs: names from `weightstats.NEEDS`.
        memory: bytes that it may take; None for those that are free under the model's limit.

    Raises:
        WorkbenchError: one block does not fit; the smallest limit that would do is said.
    """
    needed, stream = block_bytes(chain, matrices, needs), stream_of(chain.model)
    room = 0 if stream is None else stream.room
    fit = fit_of(layout_of(chain.model), chain.model.config)
    if memory is not None or stream is None or needed > psutil.virtual_memory().available:
        require_memory(needed, "a gradient sweep over one block", memory)
    elif needed > available_memory() + max(0, room - fit.block):
        least = max(fit.smallest, needed + fit.outside + fit.block)
        raise WorkbenchError(
            f"gradients of one block need {needed / 2**20:.1f} MiB of memory beside the model's own, and its limit "
            f"leaves less; the smallest memory limit that would do is {least / 2**20 + 0.05:.1f} MiB"
        )
    elif needed > available_memory():
        stream.room = min(room, fit.block)
        stream.forget()
    try:
        yield
    finally:
        if stream is not None:
            stream.room = room
