"""Some tokens kept as another run of the model had them: their hidden states are put back in front of every block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from workbench.attribution.adapter import Adapter
from workbench.attribution.heads import AttentionLayer, watch_attention
from workbench.attribution.sampling import rows_at_once

States = list[tuple[nn.Module, Float[Tensor, "1 tok hid"]]]
"""Each block with the hidden states that it is given."""


def block_states(adapter: Adapter, ids: Int[Tensor, "1 tok"]) -> States:
    """What every block of the model, as it is now, is given for a prompt: layers x tokens x hidden numbers.

    Raises:
        WorkbenchError: the model does not show its attention.
    """
    states: States = []

    def keep(seen: AttentionLayer) -> None:
        states.append((seen.block, seen.hidden.detach().clone()))

    watch_attention(adapter, ids, keep)
    return states


def logits_with_held(
    adapter: Adapter, ids: Int[Tensor, "1 tok"], states: States, rows: Bool[Tensor, "row tok"]
) -> Float[Tensor, "row vocab"]:
    """The logits of the next token, with the tokens marked in each row held at their states; on the CPU.

    Args:
        adapter: the model as it is now, such as a quantized one.
        ids: the prompt.
        states: of another run of the same prompt.
        rows: which tokens are held, a run of the model a row.
    """
    found = []
    with adapter.steady(), torch.no_grad():
        embeds = adapter.embed(ids)
        for part in rows.split(rows_at_once(adapter.model, ids.shape[1])):
            with held(states, part.to(embeds.device)):
                found.append(adapter.next_logits(embeds.expand(len(part), -1, -1)).cpu())
    return torch.cat(found)


@contextmanager
def held(states: States, rows: Bool[Tensor, "row tok"]) -> Iterator[None]:
    """Hold the tokens marked in each row of the batch; the hooks are gone after."""
    handles = []
    try:
        for block, hidden in states:
            put = partial(_put, hidden, rows[..., None])
            handles.append(block.register_forward_pre_hook(put, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _put(hidden: Tensor, marked: Tensor, block: nn.Module, arguments: Any, keywords: Any) -> tuple[Any, Any]:
    """The block's call with its first tensor, which is its hidden states, changed."""
    if arguments and isinstance(arguments[0], Tensor):
        return (torch.where(marked, hidden, arguments[0]), *arguments[1:]), keywords
    name = next(name for name, value in keywords.items() if isinstance(value, Tensor))
    return arguments, {**keywords, name: torch.where(marked, hidden, keywords[name])}
