"""The objectives of SliM-LLM's search for widths, written out."""

from __future__ import annotations

import torch

from workbench.quantizers.arithmetic.width_search import Objective

OBJECTIVES: tuple[Objective, ...] = ("kl", "kl_reversed", "mse")


def distance(outputs: torch.Tensor, reference: torch.Tensor, objective: Objective) -> float:
    """The objectives in float64, by torch's own losses."""
    found, wanted = outputs.double(), reference.double()
    if objective == "mse":
        return float((found - wanted).square().sum(1).mean())
    first, second = (found, wanted) if objective == "kl" else (wanted, found)
    return float(
        torch.nn.functional.kl_div(second.log_softmax(1), first.log_softmax(1), reduction="batchmean", log_target=True)
    )
