"""How often two models would say the same next token."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def same_top1(
    reference_logits: Float[Tensor, "*batch vocab"], logits: Float[Tensor, "*batch vocab"]
) -> Bool[Tensor, "*batch"]:
    """Whether the most likely token is the same, for every position; among equal logits the first counts."""
    return reference_logits.argmax(-1) == logits.argmax(-1)


def top1_agreement(reference_logits: Float[Tensor, "*batch vocab"], logits: Float[Tensor, "*batch vocab"]) -> float:
    """Share of positions whose most likely token is the same; NaN when there are none."""
    return float(same_top1(reference_logits, logits).double().mean())
