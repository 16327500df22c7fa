"""The numbers that can be made of logits and explained, as functions of logits alone.

All are written with operations that DeepLIFT has a rule for, so that its scores add up to them too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Kind = Literal[
    "logit",
    "logprob",
    "prob",
    "contrast",
    "group",
    "continuation",
    "continuation_mean",
    "entropy",
    "kl",
    "attentiveness",
]
Side = tuple[int, ...]
"""Token ids: one token, a set of tokens, or the tokens of a continuation in order."""
Measure = Callable[[Tensor, Side], Tensor]

LINEAR: tuple[Kind, ...] = ("logit", "contrast")
"""Kinds that are sums of logits; every other one bends them."""
SEVERAL: tuple[Kind, ...] = ("continuation", "continuation_mean")
"""Kinds that are read at several positions."""


def following(logits: Float[Tensor, "batch *read vocab"]) -> Float[Tensor, "batch vocab"]:
    """The logits of the token that follows the prompt."""
    return logits if logits.ndim == 2 else logits[:, 0]


def logit(logits: Float[Tensor, "batch vocab"], side: Side) -> Float[Tensor, " batch"]:
    """Z[y]."""
    return logits[:, side[0]]


def logprob(logits: Float[Tensor, "batch vocab"], side: Side) -> Float[Tensor, " batch"]:
    """log p(y), nats."""
    return logits[:, side[0]] - logits.logsumexp(-1)


def summed_logprob(logits: Float[Tensor, "batch vocab"], side: Side) -> Float[Tensor, " batch"]:
    """The logarithm of the summed probability of a set, nats."""
    return logits[:, list(side)].logsumexp(-1) - logits.logsumexp(-1)


def summed_prob(logits: Float[Tensor, "batch vocab"], side: Side) -> Float[Tensor, " batch"]:
    """The summed probability of a set."""
    return summed_logprob(logits, side).exp()


def entropy(logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
    """-sum p log p of the next token, nats."""
    logs = logits - logits.logsumexp(-1, keepdim=True)
    return -(logs.exp() * logs).sum(-1)


def divergence(logits: Float[Tensor, "batch vocab"], reference: Float[Tensor, " vocab"]) -> Float[Tensor, " batch"]:
    """KL(reference || p) of the next token, nats; the reference is given as log-probabilities."""
    known = reference.to(logits)
    logs = logits - logits.logsumexp(-1, keepdim=True)
    return (known.exp() * (known - logs)).sum(-1)


def continued(logits: Float[Tensor, "batch read vocab"], side: Side) -> Float[Tensor, " batch"]:
    """The summed log-probability of a continuation whose tokens the positions predict, nats."""
    places = torch.arange(len(side), device=logits.device)
    chosen = logits[:, places, torch.tensor(side, device=logits.device)]
    return (chosen - logits.logsumexp(-1)).sum(-1)


MEASURES: dict[Kind, Measure] = {
    "logit": logit,
    "contrast": logit,
    "logprob": logprob,
    "prob": summed_prob,
    "group": summed_logprob,
    "attentiveness": summed_prob,
}
"""Kinds that are a number of one side, at the position that follows the prompt; of two sides the difference counts."""


def difference(logits: Float[Tensor, "batch vocab"], measure: Measure, sides: tuple[Side, ...]) -> Tensor:
    """A measure of the first side, less that of the second where there is one."""
    first, *others = (measure(logits, side) for side in sides)
    return first - others[0] if others else first


def several(logits: Float[Tensor, "batch read vocab"], sides: tuple[Side, ...], mean: bool) -> Float[Tensor, " batch"]:
    """The (mean) log-probability of the first continuation, less that of the second where there is one."""
    values, start = [], 0
    for side in sides:
        value = continued(logits[:, start : start + len(side)], side)
        values.append(value / len(side) if mean else value)
        start += len(side)
    return values[0] - values[1] if len(values) > 1 else values[0]
