"""Masks that are learned: gradient descent on how much of each token is kept, between 0 and 1.

What methods that learn masks share. Masks are rows that do not know of each other, so that several are learned at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float64
from torch import Tensor

from workbench.attribution.masking import Masking
from workbench.attribution.result import SMALLEST_CHANGE

Penalty = Callable[[Tensor, float], Tensor]
"""Masks [row player] and the share of the steps that is over [0, 1) -> one penalty a row [row], differentiable."""


def descend(
    prompt: Masking, start: Float64[Tensor, "row player"], reward: float, penalty: Penalty, steps: int, rate: float
) -> Iterator[Float64[Tensor, "row player"]]:
    """The masks after each step of Adam on reward * F + penalty, held in [0, 1].

    Args:
        prompt: what is masked.
        start: the masks at first; 1 keeps a player, 0 replaces it.
        reward: the factor of F, negative where F should grow.
        penalty: what is added to it.
        steps: how many.
        rate: the learning rate.
    """
    with torch.inference_mode(False):
        masks = start.clone().requires_grad_()
    adam = torch.optim.Adam([masks], lr=rate)
    for step in range(steps):
        with torch.inference_mode(False), torch.enable_grad():
            _, slopes = prompt.slopes(masks.detach())
            (pull,) = torch.autograd.grad(penalty(masks, step / steps).sum(), masks)
            masks.grad = reward * slopes + pull
            adam.step()
            masks.data.clamp_(0, 1)
            found = masks.detach().clone()
        yield found


def reach(prompt: Masking, ends: tuple[float, float]) -> float:
    """What F is measured in: its change from baseline to prompt, or the largest effect of one player if that is more.

    The change alone is no measure where a prompt happens to score as its baseline does.
    """
    effects = ends[0] - prompt.values(1 - torch.eye(prompt.players, dtype=torch.float64))
    return max([abs(ends[0] - ends[1]), SMALLEST_CHANGE, *effects.abs().tolist()])


def keep_largest(masks: Float64[Tensor, "row player"], counts: list[int]) -> Float64[Tensor, "row player"]:
    """Each row with its `counts[row]` largest entries set to 1 and the rest to 0; the earlier one wins a tie."""
    rank = masks.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank < torch.tensor(counts)[:, None]).double()
