"""Gradient-weighted attention: attention that the target reacts to, followed through the layers.

Chefer, Gur and Wolf 2021 for self-attention: R starts as the identity and takes R <- R + mean_h relu(A * dF/dA) R in
every layer. The last row of R is the result, less the identity that it started with; of a target at several positions
the mean of their rows. Left out: their rules for attention between two sequences.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.heads import watching
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError
from workbench.registry import attribution

NAME = "grad_attention"
MOST_BYTES = 10**9
"""Of attention maps and their gradients, which all have to be held at once."""


@attribution.register(
    NAME,
    summary="Attention weighted by how strongly the target reacts to it, followed through the layers.",
    reference="Chefer, Gur, Wolf 2021, arXiv:2103.15679",
    cost="f + b + run, eager attention",
    note="Attention that speaks against the target is cut off, so scores are never negative. Holds all attention maps.",
    reads_attention=True,
)
def grad_attention(adapter: Adapter, ids: Int[Tensor, "1 tok"], target: Target) -> Attribution:
    """Scores [tok] >= 0, in no unit: take them as a ranking.

    Raises:
        WorkbenchError: the maps would need more than 1 GB, or the model does not show its attention.
    """
    check_memory(adapter, ids.shape[1])
    maps: list[Tensor] = []
    leaf = adapter.embed(ids)
    with adapter.recording(ids.shape[1]):
        with watching(adapter.model, ids.shape[1], lambda layer: maps.append(layer.maps)):
            value = target.value(adapter.read_logits(leaf.detach().clone().requires_grad_())).sum()
        slopes = torch.autograd.grad(value, maps)
    start = torch.eye(ids.shape[1], dtype=torch.float64, device=leaf.device)
    relevance = start
    for probabilities, slope in zip(maps, slopes, strict=True):
        weighted = (probabilities.detach()[0].double() * slope[0].double()).clamp_min(0).mean(0)
        relevance = relevance + weighted @ relevance
    scores = (relevance - start)[list(adapter.layout.rows)].mean(0)
    return Attribution(scores.cpu(), float(value.detach()), notes=target.notes)


def check_memory(adapter: Adapter, length: int) -> None:
    """Refuse a prompt whose attention maps and gradients would take more than `MOST_BYTES`.

    Raises:
        WorkbenchError: with the numbers, and the longest prompt that fits.
    """
    config = adapter.model.config.get_text_config()
    layers, heads = config.num_hidden_layers, getattr(config, "num_attention_heads", 0)
    each = 2 * layers * heads * adapter.table.weight.element_size()
    if each * length**2 > MOST_BYTES:
        raise WorkbenchError(
            f"{NAME} holds {layers} x {heads} attention maps of {length} x {length} tokens with their gradients, which"
            f" need {each * length**2 / 1e9:.1f} GB, more than {MOST_BYTES / 1e9:.0f}; shorten the prompt to"
            f" {int((MOST_BYTES / each) ** 0.5)} tokens, or choose attention_rollout, which holds one layer's"
        )
