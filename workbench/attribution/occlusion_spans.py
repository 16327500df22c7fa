"""Occlusion at several scales: s_i = mean over scales of (F(x) - F(x without i's span)) / tokens in that span.

Ours, after the regional multi-scale method for images of Seo, Oh and Oh 2018: tokens, words, clauses and sentences
stand for their superpixels. With the scale of tokens alone it is occlusion. Left out: paragraphs and template slots.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import BaselineName
from workbench.attribution.masking import Masking, mask_prompt, members
from workbench.attribution.result import Attribution
from workbench.attribution.spans import SCALES, Scale, label_spans
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError
from workbench.registry import Range, attribution


@attribution.register(
    "occlusion_spans",
    summary="What the target loses when the token's word, clause and sentence are replaced, with its sign.",
    reference="after Seo, Oh, Oh 2018, arXiv:1807.11720",
    signed=True,
    cost="2 f + suffixes(spans, tok) f, 12 at a time",
    note="The effect of a span is divided equally over its tokens; the scales are averaged. Ours for text.",
)
def occlusion_spans(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    baseline: BaselineName = "auto",
    token: bool = True,
    word: bool = True,
    clause: bool = True,
    sentence: bool = True,
    batch: Annotated[int, Range(1, 256)] = 64,
) -> Attribution:
    """Signed scores [tok] in the units of F; 0 at control tokens.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        baseline: what the tokens of a span are replaced by.
        token: whether single tokens are one of the scales.
        word: whether words are (see `spans` for what each scale is).
        clause: whether clauses are.
        sentence: whether sentences are.
        batch: prompts in one forward pass.

    Raises:
        WorkbenchError: no scale is chosen, or a baseline that this model does not have.
    """
    scales: list[Scale] = [name for name, wanted in zip(SCALES, (token, word, clause, sentence), strict=True) if wanted]
    if not scales:
        raise WorkbenchError(f"occlusion_spans was asked for no scale; choose at least one of: {', '.join(SCALES)}")
    prompt = mask_prompt(adapter, ids, target, baseline, batch)
    value, base = prompt.ends()
    content = ~torch.tensor(prompt.held_fixed)
    regions = torch.cat([members(label_spans(adapter, ids, scale)) for scale in scales])[:, content]
    scores, count = span_effects(prompt, regions, value)
    note = f"{count} different spans were replaced, at the scales: {', '.join(scales)}"
    return prompt.answer(scores / len(scales), (value, base), note)


def span_effects(
    prompt: Masking, regions: Bool[Tensor, "region player"], value: float
) -> tuple[Float64[Tensor, " player"], int]:
    """Each region's effect on F divided equally over what it holds, summed over regions; and how many differ.

    A word of one token is a region twice and is evaluated once.
    """
    if not len(regions):
        return torch.zeros(prompt.players, dtype=torch.float64), 0
    kinds, which = regions.double().unique(dim=0, return_inverse=True)
    effects = (value - prompt.values(1 - kinds)) / kinds.sum(1)
    return effects[which] @ kinds[which], len(kinds)
