"""How much memory work may take beside a model that is read block by block, and how work is cut to fit in it.

A limit counts the weights that lie in memory and the work. Beside what stands in no block, one block must lie there
while it runs; blocks that are held longer give way to work that needs the room.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from workbench.errors import WorkbenchError
from workbench.model.fit import HEAD_LOGITS, LOGIT_COPIES, SLACK, Fit, fit_of, size_words
from workbench.model.memory import available_memory, bound_memory, bound_of, require_memory
from workbench.model.streamed_build import layout_of
from workbench.model.streaming import stream_of

GRAPH_COPIES = 2
"""How many times what a token takes on its way through a block stays of every block, where a gradient is wanted."""
GRAPH_MAPS = 3
"""Attention maps of a block that stay for a gradient."""
MADE_OF = 4
"""Part of a block that its quantized weights take, packed, while others are made of them."""
READ_MAPS = 8
"""Float32 copies of a block's attention maps while they are read: as they are made, and in double precision."""


def fit_of_model(model: Any) -> Fit:
    """What a model that is there needs in memory."""
    return fit_of(layout_of(model), model.config)


def spare(model: Any, fit: Fit) -> int:
    """Bytes of tensors that work may take when no more than one block stays in memory."""
    stream = stream_of(model)
    return int((available_memory() + (0 if stream is None else max(0, stream.room - fit.block))) / SLACK)


def windows_that_pass(model: Any, window: int, most: int, beside: int = 0) -> int:
    """Windows of a batch that passes one block after the other: so many at most, fewer where memory is short.

    Args:
        model: the model.
        window: tokens of a window.
        most: windows.
        beside: bytes that other work holds meanwhile.
    """
    stream = stream_of(model)
    if stream is None:
        return most
    fit = fit_of_model(model)
    beside += fit.block // MADE_OF if stream.laid else 0
    return max(1, min(most, (int(available_memory() / SLACK) - beside) // (window * fit.a_token)))


def logits_at_once(model: Any) -> int:
    """Logits that are made at once behind the last block, when no block lies in memory any more."""
    fit, stream = fit_of_model(model), stream_of(model)
    free = available_memory() + (0 if stream is None else stream.room)
    return max(fit.vocabulary, min(HEAD_LOGITS, int(free / SLACK) // (4 * LOGIT_COPIES)))


def prompts_that_fit(model: Any, length: int, most: int) -> int:
    """Prompts of so many tokens whose activations in all blocks fit in memory together, for a gradient.

    Args:
        model: the model.
        length: tokens of a prompt.
        most: prompts.

    Raises:
        WorkbenchError: a single one does not fit under the limit of a model that is read block by block.
    """
    if stream_of(model) is None:
        return most
    fit, text = fit_of_model(model), model.config.get_text_config()
    attention = GRAPH_MAPS * _heads(model) * length
    a_token = GRAPH_COPIES * int(getattr(text, "num_hidden_layers", 1)) * (fit.a_token + 4 * attention)
    one = length * (a_token + 4 * LOGIT_COPIES * fit.vocabulary)
    _check(model, fit, one, f"the gradient at a prompt of {length} tokens")
    if one > available_memory() / SLACK:
        _give_way(model, fit.block)
    return max(1, min(most, int(available_memory() / SLACK) // one))


def check_maps(model: Any, length: int) -> None:
    """Refuse to look at the attention maps of a prompt, a block at a time, where a memory limit leaves no room.

    Args:
        model: the model.
        length: tokens of the prompt.

    Raises:
        WorkbenchError: they do not fit beside one block of a model that is read block by block.
    """
    if stream_of(model) is None:
        return
    fit = fit_of_model(model)
    needed = length * (fit.a_token + 4 * READ_MAPS * _heads(model) * length)
    _check(model, fit, needed, f"a look at the attention maps of {length} tokens")
    if needed > available_memory() / SLACK:
        _give_way(model, fit.block)


def _heads(model: Any) -> int:
    return int(getattr(model.config.get_text_config(), "num_attention_heads", 1))


def _give_way(model: Any, room: int) -> None:
    """Hold blocks in less room from now on, and let work have the rest."""
    stream, limit = stream_of(model), bound_of()
    if stream is None:
        return
    given = max(0, stream.room - room)
    stream.shrink(stream.room - given)
    bound_memory(None if limit is None else limit + given)


def _check(model: Any, fit: Fit, needed: int, purpose: str) -> None:
    """Refuse what does not fit beside one block, with the smallest limit that would do."""
    if needed > spare(model, fit):
        raise WorkbenchError(
            f"{purpose} needs {size_words(needed, up=True)} of memory beside one block of the model, and the memory "
            f"limit leaves {size_words(spare(model, fit))}; the smallest memory limit that would do is "
            f"{size_words(max(fit.smallest, int(SLACK * needed) + fit.outside + fit.block + 1), up=True)}"
        )


@contextmanager
def room_for(model: Any, needed: int, purpose: str, memory: int | None = None) -> Iterator[None]:
    """See to it that work fits beside a model, if need be by holding one block only for its time.

    Args:
        model: the model.
        needed: bytes that the work holds at once.
        purpose: what needs them, as the subject of a sentence.
        memory: bytes that it may take; None for those that are free under the model's limit.

    Raises:
        WorkbenchError: it does not fit; the smallest limit that would do is said where a limit is the reason.
    """
    stream, limit = stream_of(model), bound_of()
    if stream is None or limit is None or memory is not None or needed > psutil.virtual_memory().available:
        require_memory(needed, purpose, memory)
        yield
        return
    fit, room = fit_of_model(model), stream.room
    _check(model, fit, needed, purpose)
    _give_way(model, max(fit.block, room - max(0, int(SLACK * needed) - available_memory())))
    try:
        yield
    finally:
        stream.room = room
        bound_memory(limit)
