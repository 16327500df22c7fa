"""From a sensitivity table and wishes to plans: the solver's, and the uniform ones that it has to beat.

No torch here, so that the command line, the worker and a page's live slider decide in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.allocation.budgets import Request
from workbench.allocation.build import build_plan
from workbench.allocation.cells import read_items, rows_of
from workbench.allocation.items import Item, restrict
from workbench.allocation.plan import Plan
from workbench.allocation.solution import Solution, Table, room, uniform_solutions
from workbench.allocation.solve import solve_lagrangian, solve_milp
from workbench.allocation.ties import Groups, tie, untie
from workbench.errors import WorkbenchError, shown, unknown

Document = Mapping[str, Any]
SOLVERS = {"milp": solve_milp, "lagrangian": solve_lagrangian}
ROUNDING = 1e-9


@dataclass(frozen=True)
class Wish:
    """What a person asks of a plan besides that it should cost little.

    Attributes:
        request: the budget.
        locks: matrix -> width that is fixed.
        floor: least width of all matrices that are not locked.
        ceiling: most width of them.
        ties: groups of matrices that must be alike.
        widths: only these widths; all that were measured when None.
        solver: `milp` (proves the optimum) or `lagrangian` (instant).
        envelope: let no value rise with size (see `read_items`), so that noise never makes fewer bits look better.
    """

    request: Request
    locks: Mapping[str, int] = field(default_factory=dict)
    floor: int | None = None
    ceiling: int | None = None
    ties: Groups = ()
    widths: Sequence[int] | None = None
    solver: str = "milp"
    envelope: bool = False


def check_model(document: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Refuse a sensitivity document of another model; one without the facts of its run, as from csv, is believed.

    Args:
        document: as `workbench sensitivity --json` prints it.
        model: `id` and `digest` of the model at hand.

    Raises:
        WorkbenchError: it is of another one.
    """
    held = document.get("model")
    measured = held if isinstance(held, Mapping) else {}
    other = measured.get("digest", model["digest"])
    if other != model["digest"]:
        raise WorkbenchError(
            f"the sensitivity table is of another model, {shown(str(measured.get('id')))}: its digest is "
            f"{shown(str(other), 24)}, that of {shown(model['id'])} is {shown(model['digest'], 24)}"
        )


def items_of(cells: Document, matrices: Sequence[Document], wish: Wish) -> tuple[Item, ...]:
    """What the wishes leave to choose from, one item a matrix, ties not yet made.

    Raises:
        WorkbenchError: a faulty table, a lock or limit that leaves a matrix nothing.
    """
    items = read_items(rows_of(cells), matrices=matrices, widths=wish.widths, envelope=wish.envelope)
    return restrict(items, locks=wish.locks, floor=wish.floor, ceiling=wish.ceiling)


def check_budget(items: Sequence[Item], wish: Wish) -> None:
    """Refuse a budget that no choice keeps, tied matrices alike.

    Raises:
        WorkbenchError: it is out of range, or matrices that are tied have no width in common.
    """
    tied = tie(items, wish.ties)
    room(tied, Table(tied), wish.request.bits)


def solve(items: Sequence[Item], wish: Wish) -> Solution:
    """The solver's choice for every matrix, tied ones alike.

    Raises:
        WorkbenchError: an unknown solver, a budget out of range (with the range that the wishes leave).
    """
    if wish.solver not in SOLVERS:
        raise unknown("solver", wish.solver, tuple(SOLVERS))
    tied = tie(items, wish.ties)
    solved = untie(SOLVERS[wish.solver](tied, wish.request.bits), tied)
    return replace(solved, tie_price=_price(items, wish, solved)) if wish.ties else solved


def _price(items: Sequence[Item], wish: Wish, solved: Solution) -> float:
    """By how much the ties raise the summed cost: not below zero, since the free solver could take the tied plan."""
    free = SOLVERS[wish.solver](items, wish.request.bits)
    return max(solved.value - free.value, 0.0)


def solved_plan(cells: Document, inspected: Document, wish: Wish, provenance: Mapping[str, Any] | None = None) -> Plan:
    """The plan of least summed cost that keeps all wishes."""
    solved = solve(items_of(cells, inspected["matrices"], wish), wish)
    return write(solved, cells, inspected, wish, provenance)


def uniform_plans(
    cells: Document, inspected: Document, wish: Wish, provenance: Mapping[str, Any] | None = None
) -> list[Plan]:
    """The plans within the budget that treat all matrices alike but the locked ones, from small to large."""
    items = items_of(cells, inspected["matrices"], wish)
    fitting = [one for one in uniform_solutions(items) if one.stored_bits <= wish.request.bits * (1 + ROUNDING)]
    return [write(one, cells, inspected, wish, provenance) for one in fitting]


def write(
    solution: Solution,
    cells: Document,
    inspected: Document,
    wish: Wish,
    provenance: Mapping[str, Any] | None = None,
) -> Plan:
    """A solution as the plan of this model."""
    return build_plan(
        solution,
        cells,
        identity=inspected["model"],
        matrices=inspected["matrices"],
        requested=wish.request,
        excluded={part["name"]: part["reason"] for part in inspected["skipped"]},
        provenance=provenance,
    )
