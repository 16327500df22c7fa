"""How far a model's predictions have moved: Kullback-Leibler divergence from the reference model, per token."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError

ELEMENTS_AT_ONCE = 2**22
"""Logits turned to float64 at one time, so that a vocabulary of 150,000 does not need gigabytes."""


class DivergenceSummary(NamedTuple):
    """Mean and 99th percentile over tokens, in nats."""

    mean: float
    p99: float


def kl(
    reference_logits: Float[Tensor, "*batch vocab"], logits: Float[Tensor, "*batch vocab"]
) -> Float[Tensor, "*batch"]:
    """KL(reference || other) in nats for every position, float64.

    Needs no target token: it is the expected loss of the other model on text that the reference writes, beyond the
    reference's own. A token that the reference rules out (logit minus infinity) adds nothing.
    """
    vocab = logits.shape[-1]
    rows = max(1, ELEMENTS_AT_ONCE // vocab)
    pairs = zip(reference_logits.reshape(-1, vocab).split(rows), logits.reshape(-1, vocab).split(rows), strict=True)
    return torch.cat([_kl_rows(a.double(), b.double()) for a, b in pairs]).reshape(logits.shape[:-1])


def _kl_rows(reference: Float[Tensor, "tok vocab"], other: Float[Tensor, "tok vocab"]) -> Float[Tensor, " tok"]:
    log_p = reference.log_softmax(-1)
    p = log_p.exp()
    terms = torch.where(p > 0, p * (log_p - other.log_softmax(-1)), 0.0)
    return terms.sum(-1).clamp(min=0)  # rounding can leave -1e-17 where the two agree


def summarize_divergence(divergences: Float[Tensor, "*batch"]) -> DivergenceSummary:
    """Mean and 99th percentile (linear between neighbours) over all positions.

    Raises:
        WorkbenchError: there is no position.
    """
    if divergences.numel() == 0:
        raise WorkbenchError("a divergence needs at least one token")
    ordered = divergences.flatten().double().sort().values
    place = 0.99 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    p99 = torch.lerp(ordered[low], ordered[high], place - low)
    return DivergenceSummary(float(ordered.mean()), float(p99))
