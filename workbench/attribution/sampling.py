"""What methods that average over several forward passes share: how many at once, and how sure the average is."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float64
from torch import Tensor

from workbench.model.work_room import prompts_that_fit, windows_that_pass

TOKENS_AT_ONCE = 8192
"""Tokens in one forward pass, over all prompts in it: what bounds the memory for long prompts."""


def rows_at_once(model: Any, length: int, batch: int | None = None, *, backward: bool = False) -> int:
    """How many prompts of `length` tokens go through a model together.

    Args:
        model: the model.
        length: tokens.
        batch: at most; None for as many as tokens allow.
        backward: whether a gradient is taken, so that all blocks' activations are kept for it.

    Raises:
        WorkbenchError: a model that is read block by block, under a limit that a single prompt does not fit in.
    """
    most = TOKENS_AT_ONCE // length if batch is None else min(batch, TOKENS_AT_ONCE // length)
    return (prompts_that_fit if backward else windows_that_pass)(model, length, max(1, most))


def standard_error(
    squares: Float64[Tensor, "*shape"], mean: Float64[Tensor, "*shape"], count: int
) -> Float64[Tensor, "*shape"]:
    """The standard error of a mean of `count` numbers, out of the sum of their squares; 0 for a single one."""
    if count == 1:
        return squares * 0
    return ((squares / count - mean**2).clamp_min(0) / (count - 1)).sqrt()


def error_note(error: Float64[Tensor, " tok"], scores: Float64[Tensor, " tok"], count: int, what: str) -> str:
    """The sentence on the standard error of averaged scores; `what` names a thing that was drawn, in the singular."""
    if count == 1:
        return f"one {what} alone was drawn, so nothing is known of the spread of the scores"
    largest, worst = float(scores.abs().max()), float(error.max())
    share = f" ({worst / largest:.1%} of the largest score)" if largest else ""
    return f"over {count} draws of a {what} the standard error of a score is at most {worst:.3g}{share}"
