"""Whether a model is held in memory or read block by block, decided from shapes before a weight is read.

Sizes are those of the model and of the work on it; what Python and torch take by themselves (a few hundred MB) is left
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

HEAD_LOGITS = 16_000_000
"""Logits that are made at once behind a model that is read block by block."""

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
    """

    resident: int
    smallest: int
    outside: int
    block: int

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
    logits = min(WINDOW * int(text.vocab_size), HEAD_LOGITS)
    # about ten tensors of a window's hidden states, four of its widest layer, four copies of the logits
    working = 4 * (WINDOW * (10 * int(text.hidden_size) + 4 * min(layout.widest, 2**20)) + 4 * logits)
    return Fit(
        layout.total_bytes + working,
        layout.outside_bytes + layout.block_bytes + working,
        layout.outside_bytes,
        layout.block_bytes,
    )


def room_for_blocks(fit: Fit, stored: int, called: str, limit: int | None) -> int | None:
    """Bytes for the blocks of a model that is to be read block by block; None for one that is held in memory.

    Args:
        fit: what it needs.
        stored: bytes of all that its files hold, in float32.
        called: name of the model.
        limit: bytes that it may take; None for what is free.

    Raises:
        WorkbenchError: not even one block fits.
    """
    available = available_memory()
    if limit is None and stored <= available:
        return None
    if limit is not None and limit < fit.smallest:
        raise WorkbenchError(
            f"memory limit {_size(limit)} is too small for model {shown(called)}: what stands in no block, one block "
            f"and the work on {WINDOW} tokens take {_size(fit.smallest, up=True)}, the smallest possible limit"
        )
    if limit is not None and fit.resident <= limit and stored <= available:
        return None
    allowed = min(int(FREE_SHARE * available), available if limit is None else limit)
    if allowed < fit.smallest:
        raise WorkbenchError(
            f"model {shown(called)} needs {fit.resident / 2**30:.2f} GiB of memory, or {fit.smallest / 2**30:.2f} GiB"
            f" when it is read block by block; {available / 2**30:.2f} GiB are free"
        )
    return fit.room(allowed)


def _size(count: int, *, up: bool = False) -> str:
    """A size in MiB with two digits, rounded up where less would not do."""
    hundredths = -(-count * 100 // 2**20) if up else round(count * 100 / 2**20)
    return f"{hundredths / 100:.2f} MiB"
