"""Sobol indices: the share of the variance of F, over random masks, that is owed to a token.

Fel, Cadene, Chalvidal, Cord, Vigouroux and Serre 2021 explain images so. The total index of a token counts its
interactions with others (estimator of Jansen 1999), the first-order index does not (Saltelli et al. 2010). Left out:
second-order indices, and their other estimators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float64, Int
from scipy.stats import qmc
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import BaselineName
from workbench.attribution.masking import mask_prompt
from workbench.attribution.result import Attribution
from workbench.attribution.spans import Scale
from workbench.attribution.targets import Target
from workbench.registry import Range, attribution


@dataclass(frozen=True, slots=True)
class Indices:
    """Sobol indices of a function of independent inputs.

    Attributes:
        first: the share of the variance that each input makes alone; noise can take it below 0.
        total: the share that it takes part in.
        variance: of the function; all indices are 0 where it is 0.
        evaluations: how many values were taken.
    """

    first: Float64[Tensor, " player"]
    total: Float64[Tensor, " player"]
    variance: float
    evaluations: int


@attribution.register(
    "sobol",
    summary="The share of the variance of the target, under random masks, that the token takes part in.",
    reference="Fel et al. 2021, arXiv:2111.04138; Jansen 1999, doi:10.1016/S0010-4655(98)00154-4",
    cost="2 f + power_of_two(samples) (units + 2) f, power_of_two(samples) at a time",
    note="It says how much a token matters, not in which direction. First-order indices are in the notes.",
)
def sobol(
    adapter: Adapter,
    ids: Int[Tensor, "1 tok"],
    target: Target,
    *,
    baseline: BaselineName = "auto",
    unit: Scale = "token",
    mask: Literal["hard", "soft"] = "hard",
    samples: Annotated[int, Range(2, 4096)] = 32,
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0,
    batch: Annotated[int, Range(1, 256)] = 64,
) -> Attribution:
    """Total-order indices [tok], 0 or more; they add up to 1 where tokens do not interact, else to more.

    Args:
        adapter: the model.
        ids: the prompt.
        target: F.
        baseline: what masked tokens are replaced by.
        unit: what is masked together; the index of a span is given to each of its tokens.
        mask: hard: a token is kept or replaced with even odds; soft: its embedding is mixed with the baseline's.
        samples: points of the Sobol sequence, rounded up to a power of two, which keeps the sequence balanced.
        seed: of its scrambling.
        batch: prompts in one forward pass.

    Raises:
        WorkbenchError: a baseline that this model does not have.
    """
    prompt = mask_prompt(adapter, ids, target, baseline, batch, unit)
    ends = prompt.ends()

    def values(points: Float64[Tensor, "row player"]) -> Float64[Tensor, " row"]:
        return prompt.values((points >= 0.5).double() if mask == "hard" else points)

    found = sobol_indices(values, prompt.players, samples, seed)
    return prompt.answer(found.total, ends, *_notes(found))


def sobol_indices(
    values: Callable[[Float64[Tensor, "row player"]], Float64[Tensor, " row"]], players: int, samples: int, seed: int
) -> Indices:
    """Sobol indices of a function on the unit cube.

    Args:
        values: the function, at rows of points.
        players: inputs.
        samples: points, rounded up to a power of two (m below); m (players + 2) values are taken.
        seed: of the scrambling of the sequence.
    """
    if not players:
        return Indices(torch.zeros(0).double(), torch.zeros(0).double(), 0.0, 0)
    sequence = qmc.Sobol(2 * players, scramble=True, rng=seed)
    points = torch.from_numpy(sequence.random_base2((samples - 1).bit_length()))
    one, other = points[:, :players], points[:, players:]
    plain = values(torch.cat([one, other]))
    first_half, second_half = plain.chunk(2)
    swapped = torch.stack([values(_swap(one, other, player)) for player in range(players)])
    variance = float(plain.var(correction=0))
    if variance <= torch.finfo(torch.float64).eps * float((plain**2).mean()):
        zeros = torch.zeros(players, dtype=torch.float64)
        return Indices(zeros, zeros, 0.0, plain.numel() + swapped.numel())
    total = ((first_half - swapped) ** 2).mean(1) / (2 * variance)
    first = (second_half * (swapped - first_half)).mean(1) / variance
    return Indices(first, total, variance, plain.numel() + swapped.numel())


def _swap(
    one: Float64[Tensor, "row player"], other: Float64[Tensor, "row player"], player: int
) -> Float64[Tensor, "row player"]:
    """The points `one` with one input taken from `other`."""
    mixed = one.clone()
    mixed[:, player] = other[:, player]
    return mixed


def _notes(found: Indices) -> tuple[str, ...]:
    """What the tokens bring alone, against what they bring together."""
    if not found.variance:
        return ("the target does not change under any mask that was tried, so every index is 0",)
    listed = ", ".join(f"{index:.3f}" for index in found.first.tolist())
    return (
        f"{found.evaluations} prompts were evaluated; the standard deviation of the target over masks is"
        f" {found.variance**0.5:.3g}",
        f"alone (first order) the tokens make {float(found.first.sum()):.0%} of the variance, and the total indices add"
        f" up to {float(found.total.sum()):.0%}: what is above 100 % is shared between tokens",
        f"first-order indices, in the order of the content: {listed}",
    )
