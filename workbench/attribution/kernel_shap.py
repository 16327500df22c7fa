"""KernelSHAP: Shapley values as the weighted linear fit to F over coalitions, with the sum held at F(x) - F(x').

Lundberg and Lee 2017. A coalition of s out of k players weighs (k - 1) / (C(k, s) s (k - s)). Where all of them fit in
the budget the fit is the exact Shapley value. Where not, whole sizes are taken from the outside in (1 and k - 1, 2 and
k - 2, ...) and the rest is drawn, each coalition with its complement. Left out: the regularised fit of their code.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Annotated

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import BaselineName
from workbench.attribution.masking import mask_prompt
from workbench.attribution.result import Attribution
from workbench.attribution.spans import Scale
from workbench.attribution.targets import Target
from workbench.registry import Range, attribution


@dataclass(frozen=True, slots=True)
class Design:
    """Coalitions to be fitted.

    Attributes:
        keep: the coalitions.
        weights: of each in the fit.
        exact: whether these are all coalitions but the empty and the full one.
    """

    keep: Float64[Tensor, "row player"]
    weights: Float64[Tensor, " row"]
    exact: bool


@attribution.register(
    "kernel_shap",
    summary="Shapley values fitted over coalitions of tokens, with their sign; exact for short prompts.",
    reference="Lundberg, Lee 2017, arXiv:1705.07874",
    signed=True,
    cost="2 f + distinct(2^units - 2, 2 units + samples) f",
    note="The scores add up exactly. They are exact where the notes say that all coalitions were tried.",
)
def kernel_shap(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    baseline: BaselineName = "auto",
    unit: Scale = "token",
    samples: Annotated[int, Range(0, 65536)] = 1024,
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0,
    batch: Annotated[int, Range(1, 256)] = 64,
) -> Attribution:
    """Signed scores [tok] that add up to F(x) - F(x'); 0 at control tokens.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        baseline: x', what stands for a token outside a coalition.
        unit: what joins together; the value of a span is divided equally over its tokens.
        samples: coalitions to try beside those of one player and of all but one.
        seed: of the coalitions that are drawn.
        batch: prompts in one forward pass.

    Raises:
        WorkbenchError: a baseline that this model does not have.
    """
    prompt = mask_prompt(adapter, ids, target, baseline, batch, unit)
    ends = prompt.ends()
    tried = design(prompt.players, samples, seed)
    scores = fit(tried, prompt.values(tried.keep), ends)
    extent = "all coalitions were tried, so the scores are exact" if tried.exact else "the scores are an estimate"
    note = f"{len(tried.keep) + 2} coalitions of {prompt.players} players: {extent}"
    return prompt.shared_answer(scores, ends, note)


def design(players: int, samples: int, seed: int) -> Design:
    """Which coalitions to try: whole sizes while they fit, then `samples` drawn ones; those of size 1 always."""
    budget = max(samples, 0) + 2 * players
    parts, weights = [], []
    size = 1
    while size <= players // 2 and (size == 1 or _count(players, size) <= budget):
        rows = whole_size(players, size)
        parts.append(rows)
        weights.append(torch.full((len(rows),), size_weight(players, size) / comb(players, size), dtype=torch.float64))
        budget -= len(rows)
        size += 1
    if size > players // 2:
        return Design(_joined(parts, players), torch.cat([*weights, torch.zeros(0).double()]), exact=True)
    if budget >= 2:
        drawn, counts = draw(players, size, budget // 2, seed)
        rest = sum(size_weight(players, inner) for inner in range(size, players - size + 1))
        parts.append(drawn)
        weights.append(counts * rest / counts.sum())
    return Design(_joined(parts, players), torch.cat(weights), exact=False)


def size_weight(players: int, size: int) -> float:
    """The weight of all coalitions of one size together."""
    return (players - 1) / (size * (players - size))


def whole_size(players: int, size: int) -> Float64[Tensor, "row player"]:
    """All coalitions of this size and their complements."""
    chosen = torch.tensor(list(combinations(range(players), size)), dtype=torch.int64)
    rows = torch.zeros(len(chosen), players, dtype=torch.float64).scatter_(1, chosen, 1.0)
    return rows if 2 * size == players else torch.cat([rows, 1 - rows])


def draw(
    players: int, smallest: int, pairs: int, seed: int
) -> tuple[Float64[Tensor, "row player"], Float64[Tensor, " row"]]:
    """Random coalitions of the sizes from `smallest` to the middle, with complements, and how often each was drawn."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.arange(smallest, players // 2 + 1)
    odds = torch.tensor(
        [size_weight(players, size) * (2 - (2 * size == players)) for size in sizes.tolist()], dtype=torch.float64
    )
    size = sizes[torch.multinomial(odds, pairs, replacement=True, generator=generator)]
    rank = torch.rand(pairs, players, generator=generator, dtype=torch.float64).argsort(1).argsort(1)
    rows = (rank < size[:, None]).double()
    kinds, counts = torch.cat([rows, 1 - rows]).unique(dim=0, return_counts=True)
    return kinds, counts.double()


def fit(tried: Design, values: Float64[Tensor, " row"], ends: tuple[float, float]) -> Float64[Tensor, " player"]:
    """The weighted least squares fit none + keep . scores whose scores add up to the whole change.

    The sum is held by writing the last score as the change less the others.
    """
    change, players = ends[0] - ends[1], tried.keep.shape[1]
    if players < 2:
        return torch.full((players,), change, dtype=torch.float64)
    root = tried.weights.sqrt()[:, None]
    others, last = tried.keep[:, :-1], tried.keep[:, -1:]
    right = (values - ends[1])[:, None] - last * change
    scores = torch.linalg.lstsq(root * (others - last), root * right).solution[:, 0]
    return torch.cat([scores, change - scores.sum(0, keepdim=True)])


def _count(players: int, size: int) -> int:
    """How many coalitions have this size or that of the complement."""
    return comb(players, size) * (2 - (2 * size == players))


def _joined(parts: list[Tensor], players: int) -> Float64[Tensor, "row player"]:
    return torch.cat([*parts, torch.zeros(0, players, dtype=torch.float64)])
