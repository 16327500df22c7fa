"""ReQuant: what matters on the way from the full to the quantized weights is kept beside any quantizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from workbench.progress import Steps, within
from workbench.quantizers.arithmetic.detach_steps import NODES, detach_in_steps
from workbench.quantizers.driving.model_task import ModelTask
from workbench.quantizers.driving.schemes import inner_scheme
from workbench.quantizers.weight import QuantizedWeight
from workbench.quantizers.weights.detached import detach, largest, outlier_ratios
from workbench.registry import Range, quantizers
from workbench.scheme import Scheme


@quantizers.register(
    "requant",
    summary="Detaches outliers before and significant weights after another quantizer, found by the path integral.",
    reference="Hu et al. 2025, Identifying Sensitive Weights via Post-quantization Integral, arXiv:2503.01901",
    needs=("path",),
    cost="(1 + steps) * nodes * gradient passes + twice the quantizer below",
    note="Any quantizer may stand below (option dense). The paper shares the outliers' budget out by its Algorithm 1, "
    "whose body we have not seen: ours is proportional to the mean salience of a weight. The path is walked at 4 "
    "midpoints (nodes), which come within half a percent of the paper's 32 end points. A detached weight counts 48 "
    "bits as in the paper; stored are 16 for its value, 32 for its column and the row starts.",
    scope="model",
    formula=r"\mathrm{PQI}_i = \frac{1}{N} \sum_k \left| g_i\!\left(w + t_k (\tilde w - w)\right) "
    r"(\tilde w_i - w_i) \right|",
    ours="How the outliers are shared out over matrices, and the midpoint rule of the integral.",
)
def requant(
    task: ModelTask,
    stats: None = None,
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    dense: str = "rtn",
    outliers: Annotated[float, Range(0, 0.1)] = 0.0025,
    significant: Annotated[float, Range(0, 0.2)] = 0.0025,
    steps: Annotated[int, Range(1, 16)] = 2,
    nodes: Annotated[int, Range(1, 64)] = NODES,
) -> Steps[dict[str, QuantizedWeight]]:
    """Quantize, detach the largest weights where they matter, quantize the rest again, detach what matters then.

    Args:
        task: the matrices and the quantizer below.
        stats: not looked at.
        bits: width of the quantizer below.
        group_size: its group size.
        symmetric: whether its grid is symmetric.
        dense: name of the quantizer below; it runs with its default options.
        outliers: part of all weights, the largest of each matrix, detached before the second quantization.
        significant: part of all weights, the highest path integrals over all matrices, detached after it.
        steps: how often the path is walked while the significant ones are detached (the paper takes two).
        nodes: points of the path.

    Raises:
        WorkbenchError: no such quantizer below, or whatever it refuses.
    """
    inner = inner_scheme(dense, Scheme("requant", bits, group_size, symmetric))
    full = task.weights()
    masks = {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in full.items()}
    held = yield from within(task.quantize(inner, None), 0.0, 0.3)
    if outliers > 0:
        masks = yield from within(_outliers(task, full, held, outliers, nodes), 0.3, 0.5)
        rest = {name: weight.masked_fill(masks[name], 0.0) for name, weight in full.items()}
        held = yield from within(task.quantize(inner, rest), 0.5, 0.7)
    if significant > 0:
        chosen = detach_in_steps(task, held, taken=masks, budget=significant, steps=steps, nodes=nodes)
        masks = yield from within(chosen, 0.7, 1.0)
    return {name: detach(weight, full[name], masks[name]) for name, weight in held.items()}


def _outliers(
    task: ModelTask,
    full: Mapping[str, Tensor],
    held: Mapping[str, QuantizedWeight],
    budget: float,
    nodes: int,
) -> Steps[dict[str, Tensor]]:
    """Masks of the largest weights, more of them in matrices where a weight matters more."""
    values = {name: weight.dequantize(torch.float32) for name, weight in held.items()}
    scores = yield from task.path_salience(values, nodes)
    salience = {name: float(one.double().sum()) for name, one in scores.items()}
    ratios = outlier_ratios(salience, {name: weight.numel() for name, weight in full.items()}, budget)
    return {name: largest(weight, ratios[name]) for name, weight in full.items()}
