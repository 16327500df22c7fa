"""Measures plans on one set of windows, window by window, so that any two of them can be compared in pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from workbench.allocation.plan import Plan, to_document
from workbench.measures.perplexity import LossDifference, paired_difference
from workbench.model.texts import Windows
from workbench.progress import Steps, within
from workbench.studies.choice import Assignment, quantize_assignment, read_assignment, reads_calibration
from workbench.studies.context import Context, cell_key
from workbench.studies.plan_parts import PlanWork
from workbench.studies.reference import Reference, compare
from workbench.vocabulary import STUDY_VERSION


@dataclass(frozen=True)
class Reading:
    """What a plan cost on the meter's windows.

    Attributes:
        losses: mean loss of every window in nats a token, infinite where it is not finite, `[window 1]`.
        kl: mean KL to the full model, nats a token.
    """

    losses: Float64[Tensor, "window 1"]
    kl: float

    @property
    def loss(self) -> float:
        """Mean loss in nats a token."""
        return float(self.losses.mean())

    def over(self, other: Reading) -> LossDifference:
        """How much more than another plan on the same windows, with its paired standard error."""
        return paired_difference(self.losses, other.losses)


class PlanMeter:
    """One text on which plans are measured; what was measured before is read from the cells.

    Args:
        full: the full model on the text's windows.
        seen: the calibration windows for quantizers that read some.
        context: what the process shares.
    """

    def __init__(self, full: Reference, seen: Windows | None, context: Context) -> None:
        self.full, self.seen, self.context = full, seen, context
        self._work = PlanWork(full.windows, seen, measure)

    @property
    def reference(self) -> Reading:
        """The full model itself."""
        return Reading(self.full.losses.double().mean(1, keepdim=True), 0.0)

    def spread(self, plans: Sequence[tuple[Plan, str]]) -> Steps[None]:
        """Have plans, each with its label, measured by others if there are any; `read` finds them measured then."""
        if self.context.crew is not None:
            asked = [(read_assignment(self.full.loaded, None, to_document(plan)) or {}, note) for plan, note in plans]
            wanted = {self._key(assignment): (assignment, note) for assignment, note in asked}
            yield from self._work.spread(self.full.loaded, wanted, self.context)

    def read(self, plan: Plan, note: str) -> Steps[Reading]:
        """Quantize the model by a plan, run it over the windows, and keep the reading.

        Raises:
            WorkbenchError: the plan is not of this model.
        """
        assignment = read_assignment(self.full.loaded, None, to_document(plan)) or {}
        key = self._key(assignment)
        held = self.context.cells.get_cells([key]).get(key)
        if held is None:
            held = yield from measure(self.full, assignment, self.seen, note, self.context)
            self.context.cells.put_cell(key, held)
        losses = [math.inf if loss is None else loss for loss in held["losses"]]
        return Reading(
            torch.tensor(losses, dtype=torch.float64)[:, None], held["kl"] if held["kl"] is not None else math.inf
        )

    def _key(self, assignment: Assignment) -> str:
        read = self.seen is not None and reads_calibration(assignment)
        return cell_key(
            {
                "study": "plan",
                "version": STUDY_VERSION,
                "model": self.full.loaded.identity.digest,
                "windows": self.full.windows.digest,
                "calibration": self.seen.digest if read and self.seen is not None else None,
                "assignment": {name: scheme.to_json() for name, scheme in assignment.items()},
            }
        )


def measure(
    full: Reference, assignment: Assignment, seen: Windows | None, note: str, context: Context
) -> Steps[Mapping[str, Any]]:
    """The cell of an assignment: `losses` by window and the mean `kl`, None where a number is not finite."""
    quantized = yield from within(quantize_assignment(full.loaded, assignment, seen, context), 0.0, 0.3)
    compared = yield from within(compare(full, quantized.dense(), note), 0.3, 1.0)
    return {
        "losses": [_finite(loss) for loss in compared.losses.double().mean(1).tolist()],
        "kl": _finite(compared.kl.double().mean().item()),
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
