"""Four curves of probabilities for one class against another, or a class against its group (RFxG).

The definitions are those of the released code (github.com/yonisGit/RFxG, metrics.py), p0 before and p after the top
share of units is removed, areas by the trapezoid rule over shares of 10 % to 90 %, not divided by that width of 0.8.
The code *adds* the change of the class and of its group, so that its CGC and CGS do not contrast them: that form is
kept as `cgc_code` and `cgs_code`; under the plain names stands the difference. Left out: definitions in the paper,
which could not be read here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from jaxtyping import Float64, Real
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.measures.faithfulness import order_of

Probabilities = Callable[[Tensor], Tensor]
"""Keep-masks, bool [mask unit] -> probability of every class, [mask class]."""

ALPHAS = tuple(step / 10 for step in range(1, 10))
DIRECTIONS = {"ccs": "low", "cgc": "low", "cgc_code": "low", "pgs": "high", "cgs": "low", "cgs_code": "low"}
"""Which direction is good: a map that finds the evidence takes the class (or group A) down the most."""


def rfxg(
    probabilities: Probabilities,
    scores: Real[Tensor, " unit"],
    target: int,
    *,
    contrast: int | None = None,
    group: Sequence[int] = (),
    other_group: Sequence[int] = (),
) -> dict[str, float]:
    """The metrics that the given classes allow, by name.

    Args:
        probabilities: of all classes, for keep-masks.
        scores: of the units; the highest are removed first.
        target: class a.
        contrast: class b; for `ccs`, the area under p_a - p_b.
        group: group A, with or without a; for `pgs` (the mean drop of the group, p0 - p), `cgc_code` (half of a's
            change plus the group's mean change, p - p0) and `cgc` (a's change minus that of the rest of the group).
        other_group: group B; with A for `cgs_code` (half the sum of both mean changes) and `cgs` (A's minus B's).

    Raises:
        WorkbenchError: the two groups have a class in common.
    """
    shared = set(group) & set(other_group)
    if shared:
        raise WorkbenchError(f"class {min(shared)} is in both groups; a class can be in one of them only")
    before, after = curves(probabilities, scores)
    change = after - before
    found: dict[str, float] = {}
    if contrast is not None:
        found["ccs"] = area(after[:, target] - after[:, contrast])
    if group:
        mean = change[:, list(group)].mean(1)
        found["pgs"] = area(-mean)
        found["cgc_code"] = area((mean + change[:, target]) / 2)
        rest = without(group, target)
        if rest:
            found["cgc"] = area(change[:, target] - change[:, rest].mean(1))
    if group and other_group:
        first, second = (change[:, list(one)].mean(1) for one in (group, other_group))
        found["cgs_code"] = area((first + second) / 2)
        found["cgs"] = area(first - second)
    return found


def curves(
    probabilities: Probabilities, scores: Real[Tensor, " unit"]
) -> tuple[Float64[Tensor, "1 class"], Float64[Tensor, "alpha class"]]:
    """Probabilities before anything is removed, and after the top shares are (rounded down, as in the code)."""
    units = scores.numel()
    counts = torch.tensor([0, *(int(alpha * units + 1e-9) for alpha in ALPHAS)])
    found = probabilities(order_of(scores).argsort(1) >= counts[:, None]).double()
    return found[:1], found[1:]


def area(curve: Float64[Tensor, " alpha"]) -> float:
    """The trapezoid rule over the shares."""
    return float(torch.trapezoid(curve, torch.tensor(ALPHAS, dtype=torch.float64)))


def without(group: Collection[int], target: int) -> list[int]:
    """The group but for the class itself."""
    return [one for one in group if one != target]
