"""Occlusion: what the target loses when a token is replaced by the baseline's, score_i = F(x) - F(x without i).

Zeiler and Fergus 2014, who slid a grey square over images; Li, Monroe and Jurafsky 2016 erased words. Left out:
deleting tokens, which moves every position after them.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import BaselineName
from workbench.attribution.masking import mask_prompt
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.registry import Range, attribution


@attribution.register(
    "occlusion",
    summary="What the target loses when the token is replaced, with its sign.",
    reference="Zeiler, Fergus 2014, arXiv:1311.2901; Li, Monroe, Jurafsky 2016, arXiv:1612.08220",
    signed=True,
    cost="2 f + suffixes(max(tok - window + 1, 1), tok) f, 12 at a time",
    note="Two tokens that can stand in for each other both score low: replacing either one changes little.",
)
def occlusion(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    baseline: BaselineName = "auto",
    window: Annotated[int, Range(1, 64)] = 1,
    batch: Annotated[int, Range(1, 256)] = 64,
) -> Attribution:
    """Signed scores [tok] in the units of F; 0 at control tokens.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        baseline: what a token is replaced by.
        window: neighbouring content tokens that are replaced together; a token scores the mean effect of the windows
            that hold it (not divided by their length, as in Captum's `Occlusion`).
        batch: prompts in one forward pass.

    Raises:
        WorkbenchError: a baseline that this model does not have.
    """
    prompt = mask_prompt(adapter, ids, target, baseline, batch)
    held = windows(prompt.players, window)
    ends = torch.tensor([[1.0], [0.0]], dtype=torch.float64).expand(2, prompt.players)
    found = prompt.values(torch.cat([ends, 1 - held]))
    value, base = found[:2].tolist()
    effects = value - found[2:]
    scores = (effects @ held) / held.sum(0)
    return prompt.answer(scores, (value, base))


def windows(players: int, length: int) -> Float64[Tensor, "window player"]:
    """Every run of `length` neighbours (of all of them, where there are fewer), as 0 and 1."""
    length = min(length, players)
    first = torch.arange(players - length + 1 if players else 0)[:, None]
    place = torch.arange(players)
    return ((place >= first) & (place < first + length)).double()
