"""Plans as pages use them: made from a table of sensitivities, priced, compared. No Streamlit, no torch."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from workbench import __version__
from workbench.allocation import plan as plans
from workbench.allocation.build import build_plan
from workbench.allocation.items import Choice, Item
from workbench.allocation.plan import Plan, TensorPlan
from workbench.allocation.solution import Solution, Table, room
from workbench.allocation.solve import (
    budget_range,
    chosen,
    read_items,
    restrict,
    rows_of,
    solve_lagrangian,
    solve_milp,
    uniform_solutions,
)
from workbench.jobs.store import canonical

Document = Mapping[str, Any]
Widths = Mapping[str, int]
USUAL_BUDGET = 4.0


@dataclass(frozen=True)
class Bench:
    """What plans of a model are made from.

    Attributes:
        cells: document of a `sensitivity` study.
        inspected: document of the `inspect` study of the same model.
    """

    cells: Document
    inspected: Document

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Every matrix with its choices."""
        return read_items(rows_of(self.cells), matrices=self.inspected["matrices"])

    @cached_property
    def budgets(self) -> tuple[float, float]:
        """The smallest and the largest budget, stored bits per weight."""
        return budget_range(self.items)

    @cached_property
    def widths(self) -> list[int]:
        """The widths that some matrix was measured at."""
        return sorted({width for item in self.items for width in item.widths})

    @cached_property
    def digest(self) -> str:
        """Tells one table of one model from another."""
        facts = [self.inspected["model"]["digest"], self.cells["cells"], self.cells["measure"], self.cells["by"]]
        return hashlib.sha256(canonical({"bench": facts}).encode()).hexdigest()

    @property
    def usual_budget(self) -> float:
        """The budget at first: 4 stored bits, or the middle where that is out of range."""
        low, high = self.budgets
        return USUAL_BUDGET if low <= USUAL_BUDGET <= high else round((low + high) / 2, 4)

    def check_budget(self, budget: float) -> None:
        """Refuse a budget out of range.

        Raises:
            WorkbenchError: with the range.
        """
        room(self.items, Table(self.items), budget)

    def possible(self, locks: Widths) -> dict[str, int]:
        """Those locks that this table allows."""
        allowed = {item.name: item.widths for item in self.items}
        return {name: bits for name, bits in locks.items() if bits in allowed.get(name, ())}

    def solve(self, budget: float, locks: Widths, *, exact: bool = False) -> Plan:
        """The plan of least summed cost within the budget, locked matrices left as they are.

        Raises:
            WorkbenchError: the budget is out of the range that is left beside the locks.
        """
        solver = solve_milp if exact else solve_lagrangian
        return self._written(solver(restrict(self.items, locks=locks), budget), budget)

    def by_hand(self, widths: Widths, locks: Widths, budget: float) -> Plan:
        """The plan of these widths.

        Raises:
            WorkbenchError: a matrix without a width, or at one that was not measured.
        """
        return self._written(dataclasses.replace(chosen(self.items, widths), locks=dict(locks)), budget)

    def _written(self, solution: Solution, budget: float) -> Plan:
        return build_plan(
            solution,
            self.cells,
            identity=self.inspected["model"],
            matrices=self.inspected["matrices"],
            requested=budget,
            excluded={part["name"]: part["reason"] for part in self.inspected["skipped"]},
            provenance={"tool": f"workbench {__version__}"},
        )

    def uniform(self, budget: float) -> Solution | None:
        """The best plan within the budget that gives every matrix the same width."""
        affordable = [one for one in uniform_solutions(self.items) if one.stored_bits <= budget * (1 + 1e-12)]
        return min(affordable, key=lambda one: one.value, default=None)

    def choice_of(self, item: Item, tensor: TensorPlan | None) -> Choice | None:
        """The choice of the table that a plan made for a matrix, None where it made another one."""
        if tensor is None or tensor.salient is not None:
            return None
        if dict(tensor.method_options) != dict(self.cells["options"]):
            return None
        scheme = (tensor.method, tensor.bits, tensor.group_size, tensor.symmetric)
        return next((choice for choice in item.choices if choice.scheme == scheme), None)

    def knows(self, plan: Plan) -> bool:
        """Whether the table holds the cost of every scheme of the plan."""
        return all(self.choice_of(item, plan.tensors.get(item.name)) is not None for item in self.items)

    def predicted(self, plan: Plan) -> float | None:
        """Sum of what each matrix costs alone under the plan; None where the table does not know."""
        choices = [self.choice_of(item, plan.tensors.get(item.name)) for item in self.items]
        known = [choice.value for choice in choices if choice is not None]
        return sum(known) if len(known) == len(choices) else None

    def costs(self) -> pd.DataFrame:
        """A row a matrix, a column a width, called such as `cost at 2`: the least that was measured there."""
        rows = [{"matrix": item.name, **_least(item)} for item in self.items]
        return pd.DataFrame(rows, columns=["matrix", *(_cost(width) for width in self.widths)])


def _cost(width: int) -> str:
    return f"cost at {width}"


def _least(item: Item) -> dict[str, float]:
    return {_cost(bits): min(c.value for c in item.choices if c.bits == bits) for bits in item.widths}


def plan_table(plan: Plan, matrices: Sequence[Document], locks: Widths) -> pd.DataFrame:
    """Columns `matrix`, `block`, `role`, `bits`, `stored_bits`, `scheme`, `locked`, in the model's order."""
    rows = [
        {
            "matrix": one["name"],
            "block": one["block"],
            "role": one["role"],
            "bits": plan.tensors[one["name"]].bits,
            "stored_bits": plan.tensors[one["name"]].storage_bits / plan.tensors[one["name"]].numel,
            "scheme": _words(plan.tensors[one["name"]]),
            "locked": one["name"] in locks,
        }
        for one in matrices
    ]
    return pd.DataFrame(rows)


def _words(tensor: TensorPlan) -> str:
    group = "whole rows" if tensor.group_size == -1 else f"groups of {tensor.group_size}"
    return f"{tensor.method}, {tensor.bits} bits, {group}{', symmetric' if tensor.symmetric else ''}"


def widths_of(plan: Plan) -> dict[str, int]:
    """Matrix name -> bits."""
    return {name: tensor.bits for name, tensor in plan.tensors.items()}


def locks_of(plan: Plan) -> dict[str, int]:
    """The locks that the plan's writer noted, as far as the plan keeps them."""
    noted = plan.solver.locks if plan.solver else {}
    widths = widths_of(plan)
    return {name: bits for name, bits in noted.items() if widths.get(name) == bits}


def difference_table(before: Plan, after: Plan) -> pd.DataFrame:
    """The matrices that two plans treat differently; columns `matrix`, `before`, `after`, `stored bits before`, ..."""
    rows = [
        {
            "matrix": one.matrix,
            "before": one.scheme_a,
            "after": one.scheme_b,
            "stored bits before": one.stored_a,
            "stored bits after": one.stored_b,
        }
        for one in plans.diff(before, after)
    ]
    return pd.DataFrame(rows, columns=["matrix", "before", "after", "stored bits before", "stored bits after"])


def bare(plan: Plan) -> dict[str, Any]:
    """The plan's schemes without its history, so that two ways to the same schemes are one question to measure."""
    document = plans.to_document(plan)
    history = ("created", "calibration", "evaluation", "solver", "defaults", "result", "provenance")
    kept = {name: value for name, value in document.items() if name in Plan.model_fields or name == "schema"}
    tensors = {name: {**tensor, "measured": None} for name, tensor in document["tensors"].items()}
    stored = plans.stored_bits(plan)
    budget = {"kind": "bits_per_weight", "requested": stored, "solved": stored}
    empty = dict.fromkeys((*history, "candidates_file", "candidates_sha256"))
    return {**kept, **empty, "budget": budget, "tensors": tensors, "excluded": {}}
