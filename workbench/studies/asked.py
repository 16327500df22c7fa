"""A metric as it was asked for: its options, what it looks at, and which metrics share a gradient sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.model.weightstats import GRADIENTS
from workbench.registry import Method
from workbench.registry import salience as metrics


@dataclass(frozen=True)
class Asked:
    """A metric and its options, checked and completed."""

    method: Method
    options: Mapping[str, Any]

    @property
    def signed(self) -> bool:
        """Whether scores may be negative: always, or with an option as it is set."""
        when: Mapping[str, Any] = self.method.traits.get("signed_when", {})
        return self.method.signed or any(self.options.get(name) == value for name, value in when.items())

    @property
    def compares(self) -> bool:
        """Whether the metric looks at quantized weights."""
        return bool(self.method.traits.get("compares_quantized"))

    @property
    def second(self) -> bool:
        """Whether its gradients are of the second text."""
        return bool(self.method.traits.get("second_text"))

    @property
    def gradients(self) -> set[str]:
        """What it needs of a gradient sweep."""
        return set(self.method.needs) & set(GRADIENTS)

    @property
    def nodes(self) -> int:
        """Points of the path that it asks for, 0 without a path."""
        return int(self.options.get("nodes", 4)) if "path" in self.method.needs else 0


def ask(metric: str, options: Mapping[str, Any] | None = None) -> Asked:
    """A metric by name.

    Raises:
        WorkbenchError: no such metric, no such option or a bad value.
    """
    method = metrics.get(metric)
    return Asked(method, method.parse_options(options))


def sweeps_for(asked: Sequence[Asked]) -> list[list[Asked]]:
    """Metrics that share a gradient sweep: those of one text; each further number of nodes is a sweep of its own."""
    groups: list[list[Asked]] = []
    for second in (False, True):
        mine = [one for one in asked if one.second == second]
        counts = sorted({one.nodes for one in mine if one.nodes}) or [0]
        for count in counts:
            groups.append([one for one in mine if one.nodes == count or (not one.nodes and count == counts[0])])
    return [group for group in groups if group]
