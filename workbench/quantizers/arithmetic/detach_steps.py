"""The significant weights of ReQuant, detached step by step; the salience is found anew at each step.

Source: Hu et al. 2025, arXiv 2503.01901; the paper takes two steps. Weights are ranked over all matrices by the
absolute path integral from the full weights to the quantized ones as they are at that step. What an already detached
weight would score is zero, because it no longer differs from its full value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.ordering import topk_mask
from workbench.progress import Steps, within
from workbench.quantizers.driving.model_task import ModelTask
from workbench.quantizers.weight import QuantizedWeight
from workbench.quantizers.weights.detached import detach

NODES = 4

Masks = dict[str, Bool[Tensor, "out in"]]


def detach_in_steps(
    task: ModelTask,
    quantized: Mapping[str, QuantizedWeight],
    *,
    budget: float,
    taken: Mapping[str, Bool[Tensor, "out in"]] | None = None,
    steps: int = 2,
    nodes: int = NODES,
) -> Steps[Masks]:
    """Which weights are detached: those of `taken` and `budget` of all weights more, an equal number at each step.

    Args:
        task: the matrices and the text.
        quantized: matrix -> its quantized weight, nothing detached.
        budget: part of the weights in these matrices, above 0 and below 1.
        taken: weights that are detached already.
        steps: how often the salience is found.
        nodes: points of the path.

    Raises:
        WorkbenchError: a budget or a number of steps out of range.
    """
    if not 0 < budget < 1 or not 1 <= steps <= 64:
        raise WorkbenchError(
            f"budget has value {budget!r} and steps {steps!r}; give a part of one above 0 and below 1, and 1 to 64 "
            "steps"
        )
    full = task.weights()
    masks = {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in full.items()}
    masks = {name: mask | (taken or {}).get(name, mask) for name, mask in masks.items()}
    total = math.floor(budget * sum(weight.numel() for weight in full.values()))
    for step in range(steps):
        held = {name: detach(weight, full[name], masks[name]) for name, weight in quantized.items()}
        values = {name: weight.dequantize(torch.float32) for name, weight in held.items()}
        scores = yield from within(task.path_salience(values, nodes), step, step + 1, steps)
        share = total * (step + 1) // steps - total * step // steps
        masks = {name: masks[name] | mask for name, mask in _top(scores, masks, share).items()}
    return masks


def _top(scores: Mapping[str, Tensor], taken: Mapping[str, Tensor], count: int) -> Masks:
    """Masks of the `count` highest scores over all matrices, without those that are taken."""
    flat = torch.cat([torch.where(taken[name], -1.0, one.float()).flatten() for name, one in scores.items()])
    parts = topk_mask(flat, count).split([one.numel() for one in scores.values()])
    return {name: part.view_as(scores[name]) for name, part in zip(scores, parts, strict=True)}
