"""Whether scores of input units say what the model does: what happens to F when units are removed in their order.

A unit is a token (or a span) that can be replaced; `value` maps keep-masks to F, whatever removal means to the caller.
Nothing here knows a model. Every number is to be read beside the same number of random orders (`RandomBand`). Left out:
max-sensitivity, which needs the attribution method itself. Scores as forecasts of the effects are in `forecasts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64, Real
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.linalg import check_finite

Value = Callable[[Tensor], Tensor]
"""Keep-masks, bool [mask unit], True for units that stay -> F of each, [mask]."""

RANDOM_ORDERS = 20
SHARES = (0.05, 0.1, 0.2, 0.5)
ALL_STEPS = 60
"""Up to this many units are removed one by one; more of them in `STEPS` equal steps."""
STEPS = 20


@dataclass(frozen=True, slots=True)
class RandomBand:
    """What random orders of the same units reach.

    A random order read backwards is one too, and deleting forwards is inserting backwards, so that deletion and
    insertion have the same distribution of areas.

    Attributes:
        deletion: curves of F after 0, ..., all units are removed.
        areas: the area under each.
        comprehensiveness: of each order.
        sufficiency: of each order.
    """

    deletion: Float64[Tensor, "order point"]
    areas: Float64[Tensor, " order"]
    comprehensiveness: Float64[Tensor, " order"]
    sufficiency: Float64[Tensor, " order"]


@dataclass(frozen=True, slots=True)
class Standing:
    """A number among the same number of random orders.

    Attributes:
        value: the number itself.
        mean: of the random orders.
        sd: their standard deviation.
        z: standard deviations by which the number is better than their mean, in whichever direction is better; NaN when
            the random orders do not differ.
        percentile: share of the random orders that it beats, a draw counting half.
    """

    value: float
    mean: float
    sd: float
    z: float
    percentile: float


def step_counts(units: int) -> Int64[Tensor, " point"]:
    """How many units are removed at the points of a curve: none first, all last, and the same read backwards."""
    if units <= ALL_STEPS:
        return torch.arange(units + 1)
    half = {round(units * step / STEPS) for step in range(STEPS // 2 + 1)}
    return torch.tensor(sorted(half | {units - count for count in half}))


def order_of(scores: Real[Tensor, " unit"]) -> Int64[Tensor, "1 unit"]:
    """Units by descending score, the first one in the prompt first among equals.

    Raises:
        WorkbenchError: there are none, or a score is NaN or infinite.
    """
    if not scores.numel():
        raise WorkbenchError("an order of removal needs at least one unit that can be removed")
    check_finite(scores, "the set of scores")
    return scores.argsort(descending=True, stable=True)[None]


def random_orders(units: int, orders: int = RANDOM_ORDERS, seed: int = 0) -> Int64[Tensor, "order unit"]:
    """Permutations of the units, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(units, generator=generator) for _ in range(orders)])


def deletion_curves(value: Value, orders: Int64[Tensor, "order unit"]) -> Float64[Tensor, "order point"]:
    """F after the first 0, ..., all units of each order are removed, at the points of `step_counts`."""
    ranks = orders.argsort(1)
    keep = ranks[:, None, :] >= step_counts(orders.shape[1])[None, :, None]
    return value(keep.flatten(0, 1)).double().reshape(keep.shape[:2])


def insertion_curves(value: Value, orders: Int64[Tensor, "order unit"]) -> Float64[Tensor, "order point"]:
    """F after the first 0, ..., all units of each order are put back into a prompt without any."""
    return deletion_curves(value, orders.flip(1)).flip(1)


def areas(curves: Float64[Tensor, "order point"], units: int) -> Float64[Tensor, " order"]:
    """The area under each curve by the trapezoid rule over the share of units, so that a constant F has area F.

    The last point, where all units are gone, is the same for every order and is counted too.
    """
    return torch.trapezoid(curves, step_counts(units).double() / units, dim=1)


def removal_effects(
    value: Value, orders: Int64[Tensor, "order unit"], shares: Sequence[float] = SHARES
) -> tuple[Float64[Tensor, " order"], Float64[Tensor, " order"]]:
    """Comprehensiveness (high is good) and sufficiency (low is good) of each order, means over the shares.

    DeYoung et al. 2020, arXiv:1911.03429: F(x) minus F without the top units, and F(x) minus F of the top units alone.
    At least one unit counts as the top.
    """
    units = orders.shape[1]
    counts = torch.tensor([max(1, round(share * units)) for share in shares])
    top = orders.argsort(1)[:, None, :] < counts[None, :, None]
    full = value(torch.ones(1, units, dtype=torch.bool)).double()
    without, alone = (value(keep.flatten(0, 1)).double().reshape(top.shape[:2]) for keep in (~top, top))
    return (full - without).mean(1), (full - alone).mean(1)


def random_band(
    value: Value, probability: Value, units: int, *, orders: int = RANDOM_ORDERS, seed: int = 0
) -> RandomBand:
    """The band for curves of `value` and for comprehensiveness and sufficiency of `probability`."""
    drawn = random_orders(units, orders, seed)
    curves = deletion_curves(value, drawn)
    return RandomBand(curves, areas(curves, units), *removal_effects(probability, drawn))


def standing(value: float, others: Float64[Tensor, " order"], *, low_is_good: bool) -> Standing:
    """Where a number stands among those of random orders."""
    gain = (others - value) * (1 if low_is_good else -1)
    mean, sd = float(others.mean()), float(others.std())
    # random orders of one or two units may differ by rounding alone
    clear = sd > 1e-9 * max(1.0, abs(mean))
    beaten = float((gain > 0).double().mean() + (gain == 0).double().mean() / 2)
    return Standing(value, mean, sd, float(gain.mean()) / sd if clear else math.nan, beaten)
