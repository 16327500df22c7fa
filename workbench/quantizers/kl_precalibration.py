"""Statistical pre-calibration: weights are clipped so that their distribution survives, before any quantizer."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

import lowbit
from workbench.distributions import spread_histogram
from workbench.errors import WorkbenchError
from workbench.linalg import check_finite
from workbench.progress import Progress, Steps, within
from workbench.quantizers.driving.model_task import ModelTask
from workbench.quantizers.driving.schemes import inner_scheme
from workbench.quantizers.weight import QuantizedWeight
from workbench.quantizers.weights.detached import detach, largest
from workbench.registry import Range, quantizers
from workbench.scheme import Scheme

BINS = 2048
PER_BIN = 64
"""Weights that a bin should hold at least on average: below that counting noise outweighs what is measured."""
FLOOR = 1e-12
SHARES = tuple(1 - 0.01 * step for step in range(51))
"""Clips that are tried, as shares of the largest ordinary weight."""


@quantizers.register(
    "kl_precalibration",
    summary="Clips the ordinary weights so that rounding keeps their distribution, then hands over to a quantizer.",
    reference="Ghaffari et al. 2025, Rethinking Post-Training Quantization: Introducing a Statistical Pre-Calibration "
    "Approach, arXiv:2501.09107",
    cost="51 * out * in + the quantizer below",
    note="Our definition after the abstract, whose equations we have not seen. Salient weights, the largest of a "
    "matrix, are what the paper's adaptive LASSO keeps under orthonormal inputs (|w| above a threshold); they are "
    "detached and stored in full. The divergence looks at the distribution alone: weights in another order have the "
    "same, so it is no error of a layer. It is measured on round-to-nearest codes whichever quantizer follows (option "
    "dense).",
    scope="model",
    formula=r"c^\ast = \arg\min_c \sum_x P(x) \log \frac{P(x)}{Q_c(x)}",
    ours="The histogram with every level spread over its cell, the clip as the only parameter, the share of salient "
    "weights instead of the paper's penalty.",
)
def kl_precalibration(
    task: ModelTask,
    stats: None = None,
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    dense: str = "gptq",
    salient: Annotated[float, Range(0, 0.1)] = 0.005,
) -> Steps[dict[str, QuantizedWeight]]:
    """Clip each matrix at the share of its largest ordinary weight with the least divergence, then quantize.

    Args:
        task: the matrices and the quantizer below.
        stats: not looked at.
        bits: width of the quantizer below.
        group_size: its group size.
        symmetric: whether its grid is symmetric.
        dense: name of the quantizer below; it runs with its default options.
        salient: part of the weights of a matrix that is detached, the largest.

    Raises:
        WorkbenchError: no such quantizer below, or whatever it refuses.
    """
    inner = inner_scheme(dense, Scheme("kl_precalibration", bits, group_size, symmetric))
    full, masks, clipped = task.weights(), dict[str, Tensor](), dict[str, Tensor]()
    for done, (name, weight) in enumerate(full.items()):
        yield Progress(0.3 * done / len(full), 1.0, f"distribution of {name}")
        masks[name] = largest(weight, salient)
        ordinary = weight.masked_fill(masks[name], 0.0)
        limit = best_clip(ordinary, bits=bits, group_size=group_size, symmetric=symmetric)
        clipped[name] = ordinary.clamp(-limit, limit)
    held = yield from within(task.quantize(inner, clipped), 0.3, 1.0)
    return {name: detach(weight, full[name], masks[name]) for name, weight in held.items()}


def best_clip(weight: Float[Tensor, "out in"], *, bits: int, group_size: int, symmetric: bool = False) -> float:
    """The limit on |w| that leaves the distribution of the rounded weights closest to that of the full ones.

    Args:
        weight: the weight; zeros, such as those in the place of detached weights, count as any other.
        bits: width of a code.
        group_size: columns that share a scale.
        symmetric: no zero points.

    Raises:
        WorkbenchError: NaN or infinite weights, a width or group size that no kernel has.
    """
    check_finite(weight, "the weight")
    top = float(weight.abs().max())
    if top == 0:
        return 0.0
    found = [divergence(weight, share * top, bits=bits, group_size=group_size, symmetric=symmetric) for share in SHARES]
    return SHARES[found.index(min(found))] * top


def divergence(
    weight: Float[Tensor, "out in"], limit: float, *, bits: int, group_size: int, symmetric: bool = False
) -> float:
    """sum P log(P / Q), nats: P counts the weights, Q the clipped and rounded ones, each spread over its cell.

    Raises:
        WorkbenchError: a width or group size that no kernel has.
    """
    top = float(weight.abs().max())
    count = max(8, min(BINS, weight.numel() // PER_BIN))
    edges = torch.linspace(-top, top, count + 1, dtype=torch.float64, device=weight.device)
    full = torch.histc(weight.double(), bins=count, min=-top, max=top) / weight.numel()
    try:
        packed = lowbit.quantize(
            weight.clamp(-limit, limit).contiguous(), bits=bits, group_size=group_size, symmetric=symmetric
        )
    except lowbit.LowbitError as error:
        raise WorkbenchError(str(error)) from None
    columns = weight.shape[1] if group_size == -1 else group_size
    half = packed.scale.double().repeat_interleave(columns, dim=1)[:, : weight.shape[1]].flatten() / 2
    values = lowbit.dequantize(packed).double().flatten()
    spread = spread_histogram(values - half, values + half, edges)
    seen = full > 0
    return float((full[seen] * (full[seen] / (spread[seen] + FLOOR)).log()).sum().clamp(min=0))
