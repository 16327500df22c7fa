"""What working through a model part by part takes in memory, and the smallest limit that would do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from workbench.model.backward import batches_of
from workbench.model.chain import Chain
from workbench.model.fit import HEAD_LOGITS
from workbench.model.matrices import Matrix
from workbench.model.work_room import room_for

COPIES = {"grad": 1, "grad_sq": 1, "path": 2, "hessian_step": 5, "hessian_gradient": 5, "synflow": 3}
"""Tensors of a block's size that a pass for a need holds beside the block's own weights: sums, values on the path,
directions and the gradients that are differentiated."""

FIRST = {"grad", "hessian_gradient"}
SECOND = {"hessian_step", "hessian_gradient"}


def chains_of(model: Any, ids: Int64[Tensor, "window tok"], needs: Collection[str]) -> dict[bool, Chain]:
    """The model with the batches that passes take, as `RangeSweep` cuts them: several windows, or one (True) at once.

    Squares are of the gradients of single windows, and a graph of gradients is several times as large as one of losses.

    Args:
        model: the model.
        ids: the windows.
        needs: names from `weightstats.NEEDS`.
    """
    several = bool({"path", "synflow"} & set(needs)) or (bool(FIRST & set(needs)) and "grad_sq" not in needs)
    kinds = [False] * several + [True] * bool((SECOND | {"grad_sq"}) & set(needs))
    return {alone: Chain(model, batches_of(model, ids, one_by_one=alone)) for alone in kinds}


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


def room_for_pass(
    chains: Sequence[Chain], matrices: Sequence[Matrix], needs: Collection[str], memory: int | None
) -> AbstractContextManager[None]:
    """See to it that a pass fits, if need be by holding one block only for its time.

    Args:
        chains: the model and its batches, in all the sizes that they have.
        matrices: all of its matrices.
        needs: names from `weightstats.NEEDS`.
        memory: bytes that it may take; None for those that are free under the model's limit.

    Raises:
        WorkbenchError: on entering, when one block does not fit; the smallest limit that would do is said.
    """
    needed = max(block_bytes(chain, matrices, needs) for chain in chains)
    return room_for(chains[0].model, needed, "a gradient sweep over one block", memory)
