"""Sinks in a quantized model: what they draw, how large they are, and how much of the damage goes by way of them.

That tokens hold much attention says nothing of what their rounding costs, so that the costs are measured: by the part
of the damage map that lies on them, and by a run of the quantized model in which their hidden states are kept as the
full model has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.heads import AttentionLayer, watch_attention
from workbench.attribution.held_states import States, held
from workbench.attribution.sinks import Sinks, phi, sink_mass
from workbench.measures.divergence import kl
from workbench.measures.perplexity import losses_of_logits

SMALLEST = 1e-6
"""Damage below this is none: no share is made of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model makes of a prompt.

    Attributes:
        logits: of the next token.
        losses: of the prompt's own tokens but the first, each given those before it, nats.
    """

    logits: Float[Tensor, " vocab"]
    losses: Float[Tensor, " predicted"]


@dataclass(frozen=True, slots=True)
class SinkLook:
    """The watched tokens in one model.

    Attributes:
        shares: attention on them, mean over heads and the positions behind the first of them, a number a layer.
        phi: the largest among them, a number a layer.
        answer: what the model makes of the prompt.
    """

    shares: list[float]
    phi: list[float]
    answer: Answer


def watched(sinks: Sinks) -> list[int]:
    """The tokens that a look at sinks is about: the sinks, or the first token, where they are looked for first."""
    return sinks.positions or [0]


def marks(sinks: Sinks) -> Bool[Tensor, " tok"]:
    """The same as flags."""
    found = torch.zeros(sinks.phi.shape[1], dtype=torch.bool)
    found[watched(sinks)] = True
    return found


def look(adapter: Adapter, ids: Int[Tensor, "1 tok"], sinks: Sinks) -> SinkLook:
    """Look at the watched tokens in the model as it is now; two forward passes."""
    marked, shares, sizes = marks(sinks), [], []

    def visit(seen: AttentionLayer) -> None:
        flags = marked.to(seen.maps.device)
        shares.append(float(sink_mass(seen.probabilities.double(), flags).nanmean()))
        sizes.append(float(phi(seen.hidden[0], sinks.dimensions)[flags].max()))

    watch_attention(adapter, ids, visit)
    return SinkLook(shares, sizes, answer(adapter, ids))


def answer(
    adapter: Adapter, ids: Int[Tensor, "1 tok"], states: States | None = None, kept: Tensor | None = None
) -> Answer:
    """What the model as it is now makes of a prompt, with the tokens `kept` held at their states if there are some."""
    with adapter.steady(), torch.no_grad():
        embeds = adapter.embed(ids)
        with nullcontext() if states is None or kept is None else held(states, kept[None].to(embeds.device)):
            logits = adapter.forward_embeds(embeds).float()
        return Answer(logits[0, -1].cpu(), losses_of_logits(logits, ids)[0].cpu())


def panel(full: SinkLook, quantized: SinkLook, kept: Answer, sinks: Sinks, target: str) -> dict[str, Any]:
    """What the damage is, what is left of it with the watched tokens kept exact, and what that makes theirs.

    The target is the log-probability of the full model's likeliest next token. The loss is that of the prompt's own
    tokens, without the predictions made at watched tokens, which keeping those mends in any case.
    """
    free = ~marks(sinks)[:-1]
    best = int(full.answer.logits.argmax())
    value = [float(one.logits.log_softmax(-1)[best]) for one in (full.answer, quantized.answer, kept)]
    loss = [_mean(one.losses[free]) for one in (full.answer, quantized.answer, kept)]
    moved = [float(kl(full.answer.logits[None], one.logits[None])[0]) for one in (quantized.answer, kept)]
    return {
        "watched": watched(sinks),
        "are_sinks": bool(sinks.positions),
        "target": target,
        "value": _attributed(value[0] - value[1], value[0] - value[2]),
        "loss": _attributed(loss[1] - loss[0], loss[2] - loss[0]),
        "kl": _attributed(*moved),
        "predictions": int(free.sum()),
    }


def layer_table(full: SinkLook, quantized: SinkLook) -> pd.DataFrame:
    """A row a layer: attention on the watched tokens and their phi, in both models."""
    columns = {
        "full_share": full.shares,
        "quantized_share": quantized.shares,
        "full_phi": full.phi,
        "quantized_phi": quantized.phi,
    }
    return pd.DataFrame({"block": range(len(full.phi)), **columns}).astype(dict.fromkeys(columns, "float64"))


def damage_on_sinks(parts: Float64[Tensor, "matrix tok"], sinks: Sinks) -> dict[str, Any]:
    """How much of a damage map lies on the watched tokens, beside the share that they would have by their number."""
    marked = marks(sinks)
    sizes = parts.abs()
    return {
        "watched": watched(sinks),
        "are_sinks": bool(sinks.positions),
        "damage": float(parts[:, marked].sum()),
        "share": share(float(sizes[:, marked].sum()), float(sizes.sum())),
        "even_share": float(marked.double().mean()),
        "by_matrix": [
            share(*pair) for pair in zip(sizes[:, marked].sum(1).tolist(), sizes.sum(1).tolist(), strict=True)
        ],
    }


def share(part: float, whole: float) -> float:
    """A part of a whole; 0 of nothing."""
    return part / whole if whole else 0.0


def _attributed(damage: float, left: float) -> dict[str, float | None]:
    """The damage, what is left of it, and the difference, also as a share."""
    gone = damage - left
    return {"damage": damage, "left": left, "sinks": gone, "share": gone / damage if damage > SMALLEST else None}


def _mean(losses: Sequence[float] | Tensor) -> float:
    return float(torch.as_tensor(losses).double().mean()) if len(losses) else 0.0
