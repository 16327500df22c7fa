"""ReQuant's second part on a whole model: significant weights are detached in steps, salience found anew each time.

Source: Hu et al. 2025, arXiv 2503.01901, section 4; the paper takes two steps. Weights are ranked over the whole model
by the absolute path integral from the full weights to the quantized ones as they are at that step. What an already
detached weight would score is zero, because it no longer differs from its full value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import topk_mask
from workbench.model.gradients import gradient_sweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix, read_weight
from workbench.model.texts import Windows
from workbench.model.weightstats import WeightStatistics
from workbench.progress import Steps, within
from workbench.quantizers.detached import detach
from workbench.quantizers.weight import QuantizedWeight
from workbench.studies.choice import find_matrices

NODES = 4


def detach_in_steps(
    loaded: LoadedModel,
    windows: Windows,
    quantized: Mapping[str, QuantizedWeight],
    *,
    budget: float,
    steps: int = 2,
    nodes: int = NODES,
) -> Steps[dict[str, QuantizedWeight]]:
    """Detach `budget` of all quantized weights, an equal number at each step.

    Args:
        loaded: the model.
        windows: the calibration text.
        quantized: matrix -> its quantized weight.
        budget: part of the weights in these matrices, above 0 and below 1.
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
    matrices = find_matrices(loaded, list(quantized))
    full = {matrix.name: read_weight(loaded.model, matrix) for matrix in matrices}
    masks = {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in full.items()}
    total = math.floor(budget * sum(weight.numel() for weight in full.values()))
    held = dict(quantized)
    for step in range(steps):
        scores = yield from within(_path_scores(loaded, windows, held, nodes), step, step + 1, steps)
        share = total * (step + 1) // steps - total * step // steps
        for name, mask in _top(scores, masks, share).items():
            masks[name] |= mask
            held[name] = detach(quantized[name], full[name], masks[name])
    return held


def _path_scores(
    loaded: LoadedModel, windows: Windows, held: Mapping[str, QuantizedWeight], nodes: int
) -> Steps[dict[str, Tensor]]:
    scores: dict[str, Tensor] = {}

    def consume(matrix: Matrix, stats: WeightStatistics) -> None:
        if matrix.name in held:
            scores[matrix.name] = stats.get("path_abs")

    weights = {name: weight.dequantize(torch.float32) for name, weight in held.items()}
    yield from gradient_sweep(loaded, windows, needs={"path"}, weights=weights, nodes=nodes, consume=consume)
    return scores


def _top(scores: Mapping[str, Tensor], taken: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Masks of the `count` highest scores over all matrices, without those that are taken."""
    flat = torch.cat([torch.where(taken[name], -1.0, one.float()).flatten() for name, one in scores.items()])
    parts = topk_mask(flat, count).split([one.numel() for one in scores.values()])
    return {name: part.view_as(scores[name]) for name, part in zip(scores, parts, strict=True)}
