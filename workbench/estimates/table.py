"""Every kind of study and what it needs; a kind that is in neither list has been forgotten, which a test sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.estimates.bench import Bench
    from workbench.estimates.need import Need

CostOf = Callable[["Bench", Mapping[str, Any]], "Need"]
"""A bench and the completed spec of a study -> what it needs."""

COSTS: dict[str, CostOf] = {}
"""Kind of study -> what it needs; filled by `enrolled`."""

FREE: Mapping[str, str] = {
    "inspect": "reads shapes",
    "kernel_speed": "ends by itself after a fixed time a width",
}
"""Kinds that take no time worth estimating, and why."""


def costs_of(*kinds: str) -> Callable[[CostOf], CostOf]:
    """Enter a function for these kinds."""

    def enter(function: CostOf) -> CostOf:
        COSTS.update(dict.fromkeys(kinds, function))
        return function

    return enter


def enrolled() -> Mapping[str, CostOf]:
    """`COSTS`, once the modules that fill it have been imported."""
    from workbench.estimates import measuring, planning, prompts, scores  # noqa: F401 (they enter themselves)

    return COSTS
