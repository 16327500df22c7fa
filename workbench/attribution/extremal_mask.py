"""Extremal masks: which share of the tokens, kept alone, makes the target largest (or, taken away, smallest).

Fong, Patrick and Vedaldi 2019. A mask m in [0, 1] mixes each token with the baseline's; sorted, it is pulled to as many
ones as the area allows. Several areas are learned at once and their masks averaged, as in their pointing game. Left
out: their smooth masks (text has no pixels). Ours: of the masks on the way the one whose hard version (the largest
entries, as many as the area has) does best is taken, because F between two embeddings can be unlike F at either.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import BaselineName
from workbench.attribution.mask_descent import descend, keep_largest, reach
from workbench.attribution.masking import Masking, mask_prompt
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError, shown
from workbench.registry import Range, attribution

WEIGHT = (1.0, 10.0)
"""Of the pull towards the area, in units of `reach`: at first and at the end, growing evenly in the logarithm."""
LOOK = 5
"""Steps between two looks at the hard masks."""
ENOUGH = 0.9
"""A mask that keeps this share of F(x) - F(x') counts as sufficient."""


@attribution.register(
    "extremal_mask",
    summary="How much of the token is in the masks of a given size that keep the target largest.",
    reference="Fong, Patrick, Vedaldi 2019, arXiv:1910.08485",
    cost="(tok + 2) f + sizes(areas, tok) (steps (f + b) + ceil(steps / 5) f), sizes(areas, tok) at a time",
    note="Learned by descent, so not surely the best mask: on the embedded model the top tokens by Shapley values"
    " do better two times out of three. What the hard masks give is in the notes.",
)
def extremal_mask(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    baseline: BaselineName = "auto",
    goal: Literal["keep", "delete"] = "keep",
    areas: str = "0.05, 0.1, 0.2, 0.4",
    steps: Annotated[int, Range(1, 1000)] = 100,
    rate: Annotated[float, Range(1e-4, 1)] = 0.1,
    batch: Annotated[int, Range(1, 256)] = 16,
) -> Attribution:
    """Scores [tok] in [0, 1]: the mean over areas of the share that is kept (or deleted); 0 at control tokens.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        baseline: what stands for a token that is not kept.
        goal: keep: the area that is kept makes F largest; delete: the area that is replaced makes it smallest.
        areas: shares of the content, above 0 and below 1, with commas between; each is at least 1 token.
        steps: of Adam.
        rate: its learning rate.
        batch: prompts in one forward pass.

    Raises:
        WorkbenchError: areas that are no shares, or a baseline that this model does not have.
    """
    shares = read_areas(areas)
    prompt = mask_prompt(adapter, ids, target, baseline, batch)
    ends = prompt.ends()
    counts = sorted({max(1, round(share * prompt.players)) for share in shares if prompt.players})
    masks, reached = _learn(prompt, counts, goal, reach(prompt, ends), steps, rate)
    notes = _notes(prompt.players, counts, reached.tolist(), ends, goal)
    return prompt.answer(masks.sum(0) / max(len(counts), 1), ends, *notes)


def read_areas(text: str) -> list[float]:
    """The areas that a person wrote.

    Raises:
        WorkbenchError: something is not a number between 0 and 1.
    """
    found = []
    for part in text.split(","):
        try:
            share = float(part)
        except ValueError:
            share = float("nan")
        if not 0 < share < 1:
            raise WorkbenchError(
                f"areas {shown(text)} holds {shown(part.strip())}; write numbers above 0 and below 1 with commas"
                " between, such as 0.1, 0.4"
            )
        found.append(share)
    return found


def _learn(
    prompt: Masking, counts: list[int], goal: str, unit: float, steps: int, rate: float
) -> tuple[Float64[Tensor, "area player"], Float64[Tensor, " area"]]:
    """One mask an area, large at what is in the area, and F at its hard version; F is taken in multiples of `unit`."""
    wanted = torch.tensor(counts, dtype=torch.int64)[:, None]
    pattern = (torch.arange(prompt.players, 0, -1) <= wanted).double()
    sign = 1 if goal == "keep" else -1

    def inside(masks: Tensor) -> Tensor:
        return masks if goal == "keep" else 1 - masks

    def penalty(masks: Tensor, over: float) -> Tensor:
        weight = WEIGHT[0] * (WEIGHT[1] / WEIGHT[0]) ** over
        return weight * ((inside(masks).sort(dim=1).values - pattern) ** 2).mean(1)

    best, reached = torch.zeros_like(pattern), torch.full((len(counts),), -sign * float("inf"), dtype=torch.float64)
    if not counts:
        return best, reached
    path = descend(prompt, torch.full_like(pattern, 0.5), -sign / unit, penalty, steps, rate)
    for step, masks in enumerate(path, start=1):
        if step % LOOK and step < steps:
            continue
        found = prompt.values(inside(keep_largest(inside(masks), counts)))
        better = sign * found > sign * reached
        best = torch.where(better[:, None], inside(masks), best)
        reached = torch.where(better, found, reached)
    return best, reached


def _notes(
    players: int, counts: list[int], reached: list[float], ends: tuple[float, float], goal: str
) -> tuple[str, ...]:
    """What each hard mask gives, and the smallest that is enough."""
    if not counts:
        return ()
    did = "kept" if goal == "keep" else "replaced"
    listed = "; ".join(f"{count} of {players}: {found:.4g}" for count, found in zip(counts, reached, strict=True))
    first = f"the target with the best tokens {did}, {listed} (prompt: {ends[0]:.4g}, baseline: {ends[1]:.4g})"
    if goal == "delete" or ends[0] <= ends[1]:
        return (first,)
    bar = ends[1] + ENOUGH * (ends[0] - ends[1])
    enough = [count for count, found in zip(counts, reached, strict=True) if found >= bar]
    who = f"{enough[0]} of {players} tokens are" if enough else "none of the areas that were tried is"
    return (first, f"{who} enough for {ENOUGH:.0%} of the change from the baseline to the prompt")
