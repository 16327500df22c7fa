"""How fast one model runs on one machine: what the probe measured, and what to expect before it did. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from workbench import costs
from workbench.costs import Speed


@dataclass
class Units:
    """Seconds that things take.

    Attributes:
        run: a run of the model whatever is in it.
        forward: a token of a forward pass, its loss included.
        gradient_run: a forward and backward pass whatever is in it.
        gradient: a token of a forward and backward pass that adds up the gradients of all matrices.
        compare: a token whose prediction is held against that of the full model (KL and agreement).
        channel: a channel of a token whose sums are added up.
        gram: a multiply-add of a Gram matrix, in float64.
        touch: a weight that is read, changed and written once.
        sort: a number of some hundred thousand that are sorted.
        methods: what methods took: name and settings -> shape as `rowsxcolumns` -> seconds a call.
    """

    run: float
    forward: float
    gradient_run: float
    gradient: float
    compare: float
    channel: float = 4e-9
    gram: float = 5e-11
    touch: float = 1e-9
    sort: float = 3e-8
    methods: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def speed(self) -> Speed:
        """In the words of the cost formulas of attribution."""
        return Speed(self.forward, self.run)

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Units:
        """What `to_json` gave."""
        return Units(**{**document, "methods": {name: dict(one) for name, one in document["methods"].items()}})


def usual_units(parameters: int, layers: int, vocabulary: int) -> Units:
    """What to expect of a model before anything was measured on it, on one core."""
    speed = costs.usual_speed(parameters, layers)
    return Units(
        run=speed.per_run,
        forward=speed.per_forward_token,
        gradient_run=(1 + costs.BACKWARD) * speed.per_run,
        gradient=3 * speed.per_forward_token,
        compare=2e-8 * vocabulary,
    )
