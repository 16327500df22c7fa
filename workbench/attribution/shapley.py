"""Shapley values by sampling: what a token adds to F when it joins those before it in a random order, averaged.

Castro, Gomez and Tejada 2009. Orders come in pairs, each with its reverse (Mitchell, Cooper, Frank and Holmes 2022),
which takes out the part of the noise that pairwise interactions make. Left out: stratified and kernel-based sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import BaselineName
from workbench.attribution.masking import mask_prompt
from workbench.attribution.result import Attribution
from workbench.attribution.sampling import error_note, standard_error
from workbench.attribution.spans import Scale
from workbench.attribution.targets import Target
from workbench.registry import Range, attribution


@dataclass(frozen=True, slots=True)
class Sampled:
    """Sampled Shapley values.

    Attributes:
        scores: their estimate; adds up to the value of all less that of none.
        error: its standard error, over pairs of orders; 0 when there was one pair only.
    """

    scores: Float64[Tensor, " player"]
    error: Float64[Tensor, " player"]


@attribution.register(
    "shapley",
    summary="What the token adds on average when tokens join the prompt in random order, with its sign.",
    reference="Castro, Gomez, Tejada 2009, doi:10.1016/j.cor.2008.04.004; Mitchell et al. 2022, arXiv:2104.12199",
    signed=True,
    cost="2 f + 2 pairs (units - 1) f, 2 units at a time",
    note="The scores add up exactly; single scores carry sampling noise, whose standard error is in the notes.",
)
def shapley(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    baseline: BaselineName = "auto",
    unit: Scale = "token",
    pairs: Annotated[int, Range(1, 2048)] = 8,
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0,
    batch: Annotated[int, Range(1, 256)] = 64,
) -> Attribution:
    """Signed scores [tok] that add up to F(x) - F(x'); 0 at control tokens.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        baseline: x', what stands for a token that has not joined.
        unit: what joins together; the value of a span is divided equally over its tokens.
        pairs: how many random orders are drawn, each used forwards and backwards.
        seed: of the orders.
        batch: prompts in one forward pass.

    Raises:
        WorkbenchError: a baseline that this model does not have.
    """
    prompt = mask_prompt(adapter, ids, target, baseline, batch, unit)
    ends = prompt.ends()
    found = sample_shapley(prompt.values, prompt.players, ends, pairs, seed)
    noise = (error_note(found.error, found.scores, pairs, "pair of orders"),) if prompt.players else ()
    return prompt.shared_answer(found.scores, ends, *noise)


def sample_shapley(
    values: Callable[[Float64[Tensor, "row player"]], Float64[Tensor, " row"]],
    players: int,
    ends: tuple[float, float],
    pairs: int,
    seed: int,
) -> Sampled:
    """Shapley values of a game.

    Args:
        values: the worth of coalitions, given as rows of 0 and 1.
        players: how many there are.
        ends: the worth of all players and of none.
        pairs: random orders, each used forwards and backwards: 2 (players - 1) values a pair.
        seed: of the orders.
    """
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(players, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for _ in range(pairs):
        order = torch.randperm(players, generator=generator)
        worth = values(torch.cat([chain(order), chain(order.flip(0))]))
        steps = [_steps(worth[: max(players - 1, 0)], ends), _steps(worth[max(players - 1, 0) :], ends)]
        mean = torch.empty_like(total)
        mean[order] = (steps[0] + steps[1].flip(0)) / 2 if players else total
        total += mean
        squares += mean**2
    return Sampled(total / pairs, standard_error(squares, total / pairs, pairs))


def chain(order: Int[Tensor, " player"]) -> Float64[Tensor, "step player"]:
    """The coalitions that grow by one player at a time in this order, without the empty and the full one."""
    rank = order.argsort()
    return (rank < torch.arange(1, max(len(order), 1))[:, None]).double()


def _steps(worth: Float64[Tensor, " step"], ends: tuple[float, float]) -> Float64[Tensor, " player"]:
    """What each player of the chain added, from the empty coalition to the full one."""
    whole, none = ends
    return torch.cat([worth.new_tensor([none]), worth, worth.new_tensor([whole])]).diff()
