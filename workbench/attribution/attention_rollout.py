"""Attention rollout: attention followed through the layers, R_l = (r I + (1 - r) mean_h A_l) R_{l-1}.

Abnar and Zuidema 2020, where r = 0.5 stands for the residual connection; every row of R adds up to 1. Left out: their
attention flow (a maximum-flow problem), and weights r measured from the sizes of the two branches.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.attention import CAUTION
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.registry import Range, attribution


@attribution.register(
    "attention_rollout",
    summary="How much of each token reaches the last position through attention; the same for every target.",
    reference="Abnar, Zuidema 2020, arXiv:2005.00928",
    cost="f + run + layers tok^3, eager attention",
    uses_target=False,
    reads_attention=True,
)
def attention_rollout(
    adapter: Adapter, ids: Int[Tensor, "1 tok"], target: Target, *, residual: Annotated[float, Range(0, 1)] = 0.5
) -> Attribution:
    """Scores [tok] in [0, 1] that add up to 1: the last row of the rollout, or the mean of those that are read.

    Raises:
        WorkbenchError: the model does not show its attention.
    """
    rolled, logits = rollout(adapter, ids, residual)
    rows = rolled[list(adapter.layout.rows)].double().mean(0)
    return Attribution(rows.cpu(), float(target.value(logits)), notes=(*target.notes, CAUTION))


def rollout(
    adapter: Adapter, ids: Int[Tensor, "1 tok"], residual: float
) -> tuple[Float[Tensor, "tok tok"], Float[Tensor, "1 *read vocab"]]:
    """The rollout of all positions (row: position, column: token) and what `Adapter.read_logits` gives."""
    identity = torch.eye(ids.shape[1], device=adapter.table.weight.device)
    rolled = identity

    def follow(layer: int, probabilities: Tensor) -> None:
        nonlocal rolled
        mixed = residual * identity.to(probabilities) + (1 - residual) * probabilities.mean(0)
        rolled = mixed @ rolled.to(mixed)

    logits = adapter.attentions(ids, follow)
    return rolled, logits
