"""Meaningful perturbation: the smallest, smoothest deletion that takes the target down, learned as a soft mask.

Fong and Vedaldi 2017: min over m in [0, 1]: F(m) + l1 * sum (1 - m) + tv * sum |m_i - m_(i+1)|^beta, m = 1 keeps a
token. F is taken in multiples of its reach (`mask_descent.reach`) and both penalties as means over tokens, so that the
weights mean the same for every prompt. The descent starts where almost all is deleted: at the whole prompt F is often
so flat that no deletion begins to pay. Left out: their coarse mask grid and jitter, which are made for images.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import BaselineName
from workbench.attribution.mask_descent import descend, reach
from workbench.attribution.masking import Masking, mask_prompt
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.registry import Range, attribution

START = 0.1
"""What is kept of each token at first."""


@attribution.register(
    "meaningful_perturbation",
    summary="How much of the token is taken away by a small deletion that lowers the target most.",
    reference="Fong, Vedaldi 2017, arXiv:1704.03296",
    cost="(tok + 4) f + steps (f + b), 1 at a time",
    note="A half deleted token can lower the target more than a replaced one; the notes give the target for both.",
)
def meaningful_perturbation(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    baseline: BaselineName = "auto",
    l1: Annotated[float, Range(0, 100)] = 1.0,
    tv: Annotated[float, Range(0, 100)] = 0.2,
    beta: Annotated[float, Range(1, 10)] = 3.0,
    steps: Annotated[int, Range(1, 1000)] = 100,
    rate: Annotated[float, Range(1e-4, 1)] = 0.1,
    batch: Annotated[int, Range(1, 256)] = 16,
) -> Attribution:
    """Scores [tok] in [0, 1]: the share of the token that is deleted, 1 - m; 0 at control tokens.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        baseline: what a deleted token turns into.
        l1: price of deleting everything, in multiples of the reach of F.
        tv: price of a mask that jumps between 0 and 1 at every token.
        beta: power of the jumps.
        steps: of Adam.
        rate: its learning rate.
        batch: prompts in one forward pass.

    Raises:
        WorkbenchError: a baseline that this model does not have.
    """
    prompt = mask_prompt(adapter, ids, target, baseline, batch)
    ends = prompt.ends()
    start = torch.full((1, prompt.players), START, dtype=torch.float64)

    def penalty(masks: Tensor, _: float) -> Tensor:
        return l1 * (1 - masks).mean(1) + tv * jumps(masks, beta)

    kept = start
    for masks in descend(prompt, start, 1 / reach(prompt, ends), penalty, steps, rate) if prompt.players else ():
        kept = masks
    return prompt.answer(1 - kept[0], ends, *_notes(prompt, kept, ends))


def jumps(masks: Float64[Tensor, "row player"], beta: float) -> Float64[Tensor, " row"]:
    """The mean over neighbours of |difference|^beta; 0 where there are no neighbours."""
    return masks.diff(dim=1).abs().pow(beta).sum(1) / max(masks.shape[1] - 1, 1)


def _notes(prompt: Masking, kept: Float64[Tensor, "1 player"], ends: tuple[float, float]) -> tuple[str, ...]:
    """What the mask does, and what it does when it is made hard."""
    hard = (kept >= 0.5).double()
    soft_value, hard_value = prompt.values(torch.cat([kept, hard])).tolist()
    gone = int((1 - hard).sum())
    return (
        f"{float((1 - kept).sum()):.3g} of {prompt.players} tokens are deleted, which takes the target from"
        f" {ends[0]:.4g} to {soft_value:.4g}; replacing the {gone} that are more than half deleted takes it"
        f" to {hard_value:.4g} (baseline: {ends[1]:.4g})",
    )
