"""Integrated gradients by frequency along the prompt: slow changes over many tokens, or quick ones.

Kechris, Dan and Atienza 2025 attribute in any domain that a linear, invertible map leads to: with z = C x, the share of
a frequency k is (z - z')_k . C (mean of dF/dx)_k, and all of them add up to F(x) - F(x') as the tokens do. C is the
orthonormal cosine transform over the tokens of content, channel by channel.

One score a token is kept like this: the step x - x' is the sum of a slow and a fast one (a projection on the low and
the high frequencies), and a token's score is the part of the chosen step at that token. Of all frequencies together it
is plain integrated gradients, because the transform is orthonormal; of one band the scores add up to that band's share
exactly, which no splitting of token scores after the fact would do. Left out: other transforms.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from scipy.fft import dct, idct
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import BaselineName, make_baseline
from workbench.attribution.path import Effort, follow, gap_note, held_note
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.registry import Range, attribution


@attribution.register(
    "cross_domain_ig",
    summary="Integrated gradients by frequency along the prompt: slow waves, or differences between neighbours.",
    reference="Kechris, Dan, Atienza 2025, arXiv:2505.13100",
    signed=True,
    cost="2 f + doubling(nodes, max_nodes) (f + b)",
    note="Frequencies are of the tokens of content in their order; control tokens are held fixed. The paper scores"
    " frequencies; here two bands of them are in the notes, and a token's score is its part of the chosen band.",
)
def cross_domain_ig(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    band: Literal["all", "slow", "fast"] = "all",
    period: Annotated[float, Range(2, 4096)] = 8.0,
    baseline: BaselineName = "auto",
    nodes: Annotated[int, Range(2, 512)] = 32,
    max_nodes: Annotated[int, Range(2, 1024)] = 512,
    tolerance: Annotated[float, Range(0, 1)] = 1e-3,
    batch: Annotated[int, Range(1, 256)] = 16,
) -> Attribution:
    """Signed scores [tok] that add up to the band's share in F(x) - F(x'), but for the completeness gap.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        band: all (equal to integrated gradients), slow, or fast.
        period: waves longer than this many tokens are slow; the constant is slow.
        baseline: x'.
        nodes: points on the path at first.
        max_nodes: where doubling ends, converged or not.
        tolerance: relative gap of all bands together that is small enough.
        batch: points in one forward pass.

    Raises:
        WorkbenchError: a baseline that this model does not have.
    """
    embeds = adapter.embed(ids)
    start = make_baseline(adapter, ids, embeds, baseline)
    path = follow(adapter, start.embeds, embeds, target, Effort(nodes, max_nodes, tolerance, batch))
    free = ~start.held_fixed.cpu()
    bands = {"all": path.step.cpu()} | split(path.step.cpu(), free, period)
    shares = {name: (step * path.slope.cpu()).sum(-1) for name, step in bands.items()}
    return Attribution(
        shares[band],
        path.value,
        baseline_value=path.base,
        completeness_gap=path.gap if band == "all" else None,
        relative_gap=path.relative if band == "all" else None,
        nodes=path.nodes,
        baseline=start.name,
        held_fixed=tuple(start.held_fixed.tolist()),
        notes=(
            *target.notes,
            *held_note(start.held_fixed),
            _about_bands(shares, period, band),
            *gap_note(path.relative, tolerance, path.nodes),
        ),
    )


def split(
    step: Float64[Tensor, "tok hid"], free: Bool[Tensor, " tok"], period: float
) -> dict[str, Float64[Tensor, "tok hid"]]:
    """A step as the sum of its slow and its fast part; tokens that are not free keep a step of zero.

    The k-th cosine over n tokens has a period of 2 n / k tokens.
    """
    if not bool(free.any()):
        return {"slow": torch.zeros_like(step), "fast": torch.zeros_like(step)}
    waves = np.asarray(dct(step[free].numpy(), axis=0, norm="ortho", type=2))
    fast = np.arange(len(waves)) * period >= 2 * len(waves)
    parts = {}
    for name, kept in (("slow", ~fast), ("fast", fast)):
        parts[name] = torch.zeros_like(step)
        back = np.asarray(idct(waves * kept[:, None], axis=0, norm="ortho", type=2))
        parts[name][free] = torch.from_numpy(back)
    return parts


def _about_bands(shares: dict[str, Tensor], period: float, band: str) -> str:
    """What each band brings."""
    slow, fast = (float(shares[name].sum()) for name in ("slow", "fast"))
    shown = "" if band == "all" else f"; the scores are of the {band} part and add up to its share alone"
    found = f"waves of more than {period:g} tokens bring {slow:.4g} of the change of the target, others {fast:.4g}"
    return found + shown
