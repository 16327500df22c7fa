"""The plans that could be taken for one budget: solved on each table, uniform, refined; and which of them is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.allocation.plan import Plan, stored_bits, to_document
from workbench.errors import WorkbenchError
from workbench.studies.plan_meter import Reading

CLEARLY = 1.645
"""Standard errors by which a plan must beat the best uniform one: 95 % of one side."""

WITHIN = 1.0
"""Standard errors by which a plan must beat one whose fused matrices are alike."""


@dataclass
class Candidate:
    """A plan, how it came about, and what it costs on the text that it was made on and on unseen text.

    Attributes:
        label: in a few words.
        uniform: whether it treats all matrices alike.
        plan: the plan.
        solving: its reading on the text of the sensitivity tables.
        unseen: its reading on text that no plan was made on; None where there is none.
        tied: whether fused matrices are alike in it although nobody asked for that.
    """

    label: str
    uniform: bool
    plan: Plan
    solving: Reading | None = None
    unseen: Reading | None = None
    tied: bool = False

    @property
    def judged(self) -> Reading:
        """The reading that decides."""
        found = self.unseen or self.solving
        assert found is not None
        return found

    @property
    def predicted(self) -> float | None:
        """Rise of the loss as the plan's table adds it up, nats a token."""
        held = self.plan.result.additive_prediction if self.plan.result else None
        return held.delta_loss if held else None


def distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates without those that name the same schemes as an earlier one; uniform ones keep their name."""
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda candidate: not candidate.uniform):
        if all(_schemes(one.plan) != _schemes(other.plan) for other in kept):
            kept.append(one)
    return kept


def _schemes(plan: Plan) -> dict[str, Any]:
    return {
        name: (tensor.method, tensor.bits, tensor.group_size, tensor.symmetric, dict(tensor.method_options))
        for name, tensor in plan.tensors.items()
    }


def take(candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
    """The candidate of least loss, unless a simpler one is as good within what the text can tell; and why.

    A plan with fused matrices alike stands where none is better by a standard error (the rule of one standard error,
    Breiman and others 1984), a uniform one where none is clearly better.

    Raises:
        WorkbenchError: there is none.
    """
    if not candidates:
        raise WorkbenchError("no plan keeps this budget")
    best = min(candidates, key=lambda one: one.judged.loss)
    uniform = min((one for one in candidates if one.uniform), key=lambda one: one.judged.loss, default=None)
    if uniform is not None and not _is_better(best, uniform, CLEARLY):
        words = f"{best.label} is not clearly better, {_against(best, uniform)}"
        return uniform, f"{uniform.label}: {'of least loss' if best.uniform else words}"
    taken, more = best, ""
    fair = [one for one in candidates if one.tied and (uniform is None or _is_better(one, uniform, CLEARLY))]
    tied = min(fair, key=lambda one: one.judged.loss, default=best)
    if tied is not best and not _is_better(best, tied, WITHIN):
        taken, more = tied, f"; {best.label} is not better by a standard error, {_apart(best, tied)}"
    measured = "of least loss" if uniform is None else _against(taken, uniform)
    return taken, f"{taken.label}: {measured}{more}"


def _is_better(one: Candidate, other: Candidate, errors: float) -> bool:
    found = one.judged.over(other.judged)
    return found.difference < -errors * found.standard_error


def _against(one: Candidate, other: Candidate) -> str:
    return f"{_apart(one, other)} against {other.label}"


def _apart(one: Candidate, other: Candidate) -> str:
    found = one.judged.over(other.judged)
    return f"{found.difference:+.4f} ± {found.standard_error:.4f} nats"


def row(candidate: Candidate, reference: Reading, taken: Candidate) -> dict[str, Any]:
    """A candidate for tables: rises of the loss over the full model in nats a token, paired standard errors."""
    rise = candidate.judged.over(reference)
    against = candidate.judged.over(taken.judged)
    return {
        "label": candidate.label,
        "stored_bits": stored_bits(candidate.plan),
        "predicted": candidate.predicted,
        "delta_loss": rise.difference,
        "delta_standard_error": rise.standard_error,
        "kl_mean": candidate.judged.kl,
        "over_taken": against.difference,
        "over_taken_standard_error": against.standard_error,
        "taken": candidate is taken,
        "plan": to_document(candidate.plan),
    }
