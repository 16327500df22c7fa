"""Whether a model is held in memory or read block by block, decided from shapes before a weight is read.

Sizes are those of the model and of the work on it; what Python and torch take by themselves (0.4 to 0.6 GiB) is left
out of limits as well as of estimates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.errors import WorkbenchError, shown
from workbench.model.memory import available_memory
from workbench.model.streamed_build import Layout

WINDOW = 256
"""Tokens that the estimate reckons with at once."""

LOGIT_COPIES = 4
"""Tensors of the logits' size that a loss or a divergence holds at once."""

MATRIX_COPIES = 10
"""Tensors of the largest matrix's size that looking at one matrix holds at once: its scores, their ranks and counts."""

HEAD_LOGITS = 16_000_000
"""Logits that are made at once behind a model that is read block by block."""

SLACK = 1.1
"""How much more than the sizes of tensors work takes: the objects around them, pages that are not full."""

FREE_SHARE = 0.8
"""Share of the free memory that a model may be given when no limit was."""


@dataclass(frozen=True)
class Fit:
    """What a model needs.

    Attributes:
        resident: bytes with all weights in memory.
        smallest: bytes with one block of them.
        outside: bytes of what lies in no block.
        block: bytes of the largest block.
        a_token: bytes that a token takes while it passes a block.
        vocabulary: logits of a token.
    """

    resident: int
    smallest: int
    outside: int
    block: int
    a_token: int
    vocabulary: int

    def room(self, limit: int) -> int:
        """Bytes that blocks may take under a limit: a quarter of what is to spare, the rest is left to the work."""
        return max(self.block, self.block + (limit - self.smallest) // 4)


def fit_of(layout: Layout, config: Any) -> Fit:
    """What a model needs in memory, by its shapes.

    Args:
        layout: by `streamed_build.layout_of`.
        config: its configuration.
    """
    text = config.get_text_config()
    vocabulary = int(text.vocab_size)
    # about ten tensors of the hidden states, four of the widest layer
    a_token = 4 * (10 * int(text.hidden_size) + 4 * min(layout.widest, 2**20))
    passing, head = WINDOW * a_token, 4 * LOGIT_COPIES * min(WINDOW * vocabulary, HEAD_LOGITS)
    # the head runs, and single matrices are looked at, when no block lies in memory
    beside = max(layout.block_bytes + passing, head + passing, 4 * MATRIX_COPIES * layout.largest)
    return Fit(
        int(SLACK * (layout.total_bytes + passing + head)),
        int(SLACK * (layout.outside_bytes + beside)),
        layout.outside_bytes,
        layout.block_bytes,
        a_token,
        vocabulary,
    )


def room_for_blocks(fit: Fit, stored: int, called: str, limit: int | None, *, by_blocks: bool = False) -> int | None:
    """Bytes for the blocks of a model that is to be read block by block; None for one that is held in memory.

    Args:
        fit: what it needs.
        stored: bytes of all that its files hold, in float32.
        called: name of the model.
        limit: bytes that it may take; None for what is free.
        by_blocks: whether it is to be read so, also where it fits in memory.

    Raises:
        WorkbenchError: not even one block fits.
    """
    available = available_memory()
    if limit is None and stored <= available and not by_blocks:
        return None
    if limit is not None and limit < fit.smallest:
        raise WorkbenchError(
            f"memory limit {size_words(limit)} is too small for model {shown(called)}: what stands in no block, one "
            f"block and the work on {WINDOW} tokens take {size_words(fit.smallest, up=True)}, the smallest possible "
            "limit"
        )
    if limit is not None and fit.resident <= limit and stored <= available and not by_blocks:
        return None
    allowed = min(int(FREE_SHARE * available), available if limit is None else limit)
    if allowed < fit.smallest:
        raise WorkbenchError(
            f"model {shown(called)} needs {fit.resident / 2**30:.2f} GiB of memory, or {fit.smallest / 2**30:.2f} GiB"
            f" when it is read block by block; {available / 2**30:.2f} GiB are free"
        )
    return fit.room(allowed)


def size_words(count: int, *, up: bool = False) -> str:
    """A size in MiB with two digits, rounded up where less would not do."""
    hundredths = -(-count * 100 // 2**20) if up else round(count * 100 / 2**20)
    return f"{hundredths / 100:.2f} MiB"
