"""What pages make plans from: a table of costs, and what every plan must keep. No Streamlit, no torch."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from workbench import __version__
from workbench.allocation import planning
from workbench.allocation.budgets import Request, bits_request
from workbench.allocation.build import ADDITIVE
from workbench.allocation.cells import options_of
from workbench.allocation.items import Choice, Item
from workbench.allocation.plan import Plan, TensorPlan
from workbench.allocation.planning import ROUNDING, Wish
from workbench.allocation.solution import Solution, Table, room
from workbench.allocation.solve import budget_range, chosen, restrict, uniform_solutions
from workbench.allocation.ties import Groups, read_ties, tie
from workbench.jobs.store import canonical
from workbench.ui.defaults import Limits
from workbench.ui.plans import Document, Widths

USUAL_BUDGET = 4.0


@dataclass(frozen=True)
class Bench:
    """What plans of a model are made from.

    Attributes:
        cells: document of a `sensitivity` study, or of several joined.
        inspected: document of the `inspect` study of the same model.
        limits: what every solved plan keeps; locks are given with each wish.
    """

    cells: Document
    inspected: Document
    limits: Limits = dataclasses.field(default_factory=Limits)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Every matrix with all its choices."""
        return planning.items_of(self.cells, self.inspected["matrices"], Wish(bits_request(0.0)))

    @cached_property
    def ties(self) -> Groups:
        """The matrices that must be alike."""
        return read_ties(self.limits.ties, self.inspected["matrices"])

    @cached_property
    def budgets(self) -> tuple[float, float]:
        """The smallest and the largest budget without locks, stored bits per weight."""
        return budget_range(self._tied)

    @cached_property
    def _tied(self) -> tuple[Item, ...]:
        return tie(self._open({}), self.ties)

    @cached_property
    def widths(self) -> list[int]:
        """The widths that some matrix was measured at."""
        return sorted({width for item in self.items for width in item.widths})

    @cached_property
    def digest(self) -> str:
        """Tells one table and set of limits of one model from another."""
        limits = [self.limits.floor, self.limits.ceiling, self.limits.fused]
        facts = [self.inspected["model"]["digest"], *(self.cells[name] for name in ("cells", "measure", "by")), limits]
        return hashlib.sha256(canonical({"bench": facts}).encode()).hexdigest()

    @property
    def usual_budget(self) -> float:
        """The budget at first: 4 stored bits, or the middle where that is out of range."""
        low, high = self.budgets
        return USUAL_BUDGET if low <= USUAL_BUDGET <= high else round((low + high) / 2, 4)

    @property
    def sums_loss(self) -> bool:
        """Whether the sum of the table's values predicts the rise of the loss."""
        return self.cells["measure"] == "loss" and self.cells["by"] in ADDITIVE

    def check_budget(self, request: Request) -> None:
        """Refuse a budget out of range.

        Raises:
            WorkbenchError: with the range.
        """
        room(self._tied, Table(self._tied), request.bits)

    def possible(self, locks: Widths) -> dict[str, int]:
        """Those locks that this table allows."""
        allowed = {item.name: item.widths for item in self.items}
        return {name: bits for name, bits in locks.items() if bits in allowed.get(name, ())}

    def solve(self, request: Request, locks: Widths, *, exact: bool = False) -> Plan:
        """The plan of least summed cost within the budget and the limits, locked matrices left as they are.

        Raises:
            WorkbenchError: the budget is out of the range that is left beside the locks.
        """
        wish = self._wish(request, locks, exact=exact)
        return self._written(planning.solve(self._open(locks), wish), wish)

    def by_hand(self, widths: Widths, locks: Widths, request: Request) -> Plan:
        """The plan of these widths, whatever the limits.

        Raises:
            WorkbenchError: a matrix without a width, or at one that was not measured.
        """
        solution = dataclasses.replace(chosen(self.items, widths), locks=dict(locks))
        return self._written(solution, self._wish(request, locks))

    def uniform(self, request: Request, locks: Widths) -> Solution | None:
        """The best plan within the budget that treats every matrix alike but the locked ones."""
        every = uniform_solutions(self._open(locks))
        affordable = [one for one in every if one.stored_bits <= request.bits * (1 + ROUNDING)]
        return min(affordable, key=lambda one: one.value, default=None)

    def _wish(self, request: Request, locks: Widths, *, exact: bool = False) -> Wish:
        solver = "milp" if exact else "lagrangian"
        return Wish(request, dict(locks), self.limits.floor, self.limits.ceiling, self.ties, solver=solver)

    def _open(self, locks: Widths) -> tuple[Item, ...]:
        """What limits and locks leave to choose from."""
        return restrict(self.items, locks=locks, floor=self.limits.floor, ceiling=self.limits.ceiling)

    def _written(self, solution: Solution, wish: Wish) -> Plan:
        return planning.write(solution, self.cells, self.inspected, wish, {"tool": f"workbench {__version__}"})

    def choice_of(self, item: Item, tensor: TensorPlan | None) -> Choice | None:
        """The choice of the table that a plan made for a matrix, None where it made another one."""
        if tensor is None or tensor.salient is not None:
            return None
        if dict(tensor.method_options) != options_of(self.cells, tensor.method):
            return None
        scheme = (tensor.method, tensor.bits, tensor.group_size, tensor.symmetric)
        return next((choice for choice in item.choices if choice.scheme == scheme), None)

    def knows(self, plan: Plan) -> bool:
        """Whether the table holds the cost of every scheme of the plan."""
        return self.predicted(plan) is not None

    def predicted(self, plan: Plan) -> float | None:
        """Sum of what each matrix costs under the plan by the table; None where the table does not know."""
        choices = [self.choice_of(item, plan.tensors.get(item.name)) for item in self.items]
        known = [choice.value for choice in choices if choice is not None]
        return sum(known) if len(known) == len(choices) else None

    def costs(self) -> pd.DataFrame:
        """A row a matrix, a column a width, called such as `cost at 2`: the least that was measured there."""
        rows = [{"matrix": item.name, **_least(item)} for item in self.items]
        return pd.DataFrame(rows, columns=["matrix", *(_cost(width) for width in self.widths)])


def _cost(width: int) -> str:
    return f"cost at {width}"


def _least(item: Item) -> Mapping[str, float]:
    return {_cost(bits): min(c.value for c in item.choices if c.bits == bits) for bits in item.widths}
