"""Losses and divergences behind the last block, for many models on one batch, a run of tokens at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import cross_entropy

from workbench.measures.divergence import DivergenceFrom
from workbench.model.chain import Chain
from workbench.model.hidden_file import HiddenFile
from workbench.model.streaming import let_go
from workbench.model.work_room import logits_at_once
from workbench.progress import Progress, Steps

IN_FLOAT64 = 4
"""So many times fewer logits are made at once where divergences are taken, which are computed in float64."""

Readings = tuple[Float64[Tensor, " window"], Float64[Tensor, " window"] | None]
"""Mean loss and mean KL over the tokens of every window, nats."""


@dataclass(frozen=True, eq=False)
class View:
    """A model that has passed all blocks.

    Attributes:
        states: file that holds its hidden states.
        at: where in it.
        values: its own values of parameters outside of blocks, as the model stores them.
    """

    states: HiddenFile
    at: int
    values: Mapping[str, Tensor]


def read_views(chain: Chain, ids: Tensor, views: Sequence[View], full: View | None) -> Steps[list[Readings]]:
    """What each model makes of a batch.

    Args:
        chain: the model.
        ids: the batch.
        views: the models.
        full: what divergences are from; None for no divergences.
    """
    let_go(chain.model)  # the head runs alone
    predicted = ids.shape[1] - 1
    losses = torch.zeros(len(views), len(ids), dtype=torch.float64)
    divergences = torch.zeros(len(views), len(ids), dtype=torch.float64)
    most = logits_at_once(chain.model) // (1 if full is None else IN_FLOAT64)
    for kept in chain.chunks(ids, max(1, most)):
        truth = None if full is None else DivergenceFrom(_logits(chain, ids, full, kept))
        for place, view in enumerate(views):
            yield Progress(int(kept[0]) + len(kept) * place / len(views), predicted, "losses")
            logits = _logits(chain, ids, view, kept)
            losses[place] += _losses(logits, ids[:, kept + 1]).double().sum(1).cpu()
            if truth is not None:
                divergences[place] += truth.to(logits).sum(1).cpu()
    means = divergences / predicted
    return [(loss / predicted, None if full is None else kl) for loss, kl in zip(losses, means, strict=True)]


@torch.no_grad()
def _logits(chain: Chain, ids: Tensor, view: View, kept: Tensor) -> Tensor:
    return chain.logits(ids, view.states[view.at], view.values, kept)


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    """One window at a time, because log-softmax makes another copy of its logits."""
    pairs = zip(logits, targets.to(logits.device), strict=True)
    return torch.stack([cross_entropy(one, target, reduction="none") for one, target in pairs])
