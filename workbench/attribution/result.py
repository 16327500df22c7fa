"""What an attribution method returns."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

SMALLEST_CHANGE = 0.1
"""A change of the target below this (in its own units) counts as this much when a gap is made relative to it."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """The scores of the input tokens and what is needed to judge them.

    Attributes:
        scores: one number a token, on the CPU, never normalised.
        value: the target F at the prompt.
        baseline_value: F at the baseline, for methods that have one.
        completeness_gap: what the scores leave unexplained, in the units of F: F(x) - F(baseline) - sum(scores), or
            F(x) - sum(scores) for a method without a baseline, less sum(biases) where there are such; None for methods
            that promise no sum.
        relative_gap: the size of that gap as a share of the change it should explain.
        nodes: points on the path that were evaluated for these scores.
        baseline: name of the baseline.
        held_fixed: which tokens keep their embedding in the baseline, so that their score is 0 by construction.
        notes: sentences that a reader of the scores has to know.
        biases: what the constants that the network adds at each position (biases, position embeddings) bring to F, for
            methods that separate it from the tokens; on the CPU.
        held_score: what the method gave to tokens that are no part of the question (a chat template, a continuation),
            in all, where it gave them anything; `scores` holds 0 for them. A sum of scores is complete with it.
        signed: whether the sign of these scores means something, where an option decides it; None: as the method says.
    """

    scores: Float64[Tensor, " tok"]
    value: float
    baseline_value: float | None = None
    completeness_gap: float | None = None
    relative_gap: float | None = None
    nodes: int | None = None
    baseline: str | None = None
    held_fixed: tuple[bool, ...] = ()
    notes: tuple[str, ...] = ()
    biases: Float64[Tensor, " tok"] | None = None
    signed: bool | None = None
    held_score: float | None = None


def relative_gap(gap: float, change: float) -> float:
    """The size of `gap` as a share of `change`, the change taken as at least `SMALLEST_CHANGE`."""
    return abs(gap) / max(abs(change), SMALLEST_CHANGE)
