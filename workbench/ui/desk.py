"""The plan that a browser session works on: solved, edited, uploaded or taken, one at a time, kept from page to page.

It is kept as text, with its time of making, so that it is the same to the byte each time that it is downloaded. A plan
of our own that was uploaded is kept as it came. What a person changed by hand stands beside the plan that it was
changed from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from workbench.allocation.budgets import Request
from workbench.allocation.importing import OUR_OWN, import_plan
from workbench.allocation.plan import Plan, dumps, parse, read_plan
from workbench.errors import WorkbenchError, unknown
from workbench.scheme import UNTOUCHED
from workbench.ui import session
from workbench.ui.bench import Bench
from workbench.ui.plans import Document, locks_of, widths_of

SLOT = "allocation"
ORIGINS = {
    "solved": "found by the solver",
    "by hand": "set by hand",
    "uploaded": "uploaded",
    "decided": "decided by measuring",
    "guarded": "taken for what it keeps",
    "trade-off": "taken from Trade-off",
}
"""How a plan came onto the desk -> the same in words."""


class Desk:
    """The plan of one model in this browser session."""

    def __init__(self, model: str) -> None:
        held = session.recall(SLOT)
        if held is None or held["model"] != model:
            held = {"model": model, "turn": 0, "locks": {}, "exact": False, **_NO_PLAN}
            session.remember(SLOT, held)
        self._held: dict[str, Any] = held

    @property
    def text(self) -> str | None:
        """The plan as it is downloaded; None before there is one."""
        return self._held["hand"]["text"] if self._held["hand"] else self._held["text"]

    @property
    def plan(self) -> Plan | None:
        """The same, read."""
        return None if self.text is None else parse(self.text.encode("utf-8"))

    @property
    def origin(self) -> str:
        """One of `ORIGINS`."""
        return "by hand" if self._held["hand"] else self._held["origin"]

    @property
    def locks(self) -> dict[str, int]:
        """Matrices whose width a person has fixed."""
        return self._held["locks"]

    @property
    def turn(self) -> int:
        """Rises whenever another plan takes the place of the one that is edited."""
        return self._held["turn"]

    @property
    def trouble(self) -> str | None:
        """Why the last wish was refused, as a sentence."""
        return self._held["trouble"]

    @property
    def uploaded(self) -> str | None:
        """The plan that was last uploaded, as it came."""
        return self._held["uploaded"]

    @property
    def told(self) -> list[str]:
        """What the uploaded file was read as, and what of it could not be read, a sentence each."""
        return self._held["told"]

    @property
    def request(self) -> Request | None:
        """The budget that was last settled for."""
        return None if self._held["budget"] is None else Request(**self._held["budget"])

    @property
    def former(self) -> Plan | None:
        """The plan that another one replaced, until the next one is solved."""
        return None if self._held["former"] is None else parse(self._held["former"].encode("utf-8"))

    def settle(self, bench: Bench, request: Request) -> None:
        """Solve, where budget or table are not those that the plan was solved for, or another plan is wished for.

        A plan that was not solved here stays until the budget is moved. Locks that leave no room keep the former plan.
        """
        held, budget = self._held, asdict(request)
        if held["origin"] != "solved" and held["budget"] is None:
            held["budget"] = budget
        changed = held["budget"] != budget or (held["origin"] == "solved" and held["bench"] != bench.digest)
        if held["text"] is not None and not changed and not held["wished"]:
            return
        exact = held["exact"] and held["wished"]
        held.update(budget=budget, bench=bench.digest, wished=False, trouble=None)
        held["locks"] = bench.possible(held["locks"])
        try:
            plan = bench.solve(request, held["locks"], exact=exact)
        except WorkbenchError as error:
            held["trouble"] = f"With these locks, {error}." if held["locks"] else f"{error}."
            return
        replaced = {"text": dumps(plan), "origin": "solved", "hand": None, "former": None, "told": []}
        held.update(**replaced, exact=exact, turn=held["turn"] + 1)

    def wish(self, *, exact: bool = False) -> None:
        """Ask `settle` to solve again around the locks; `exact` also proves that no plan is better."""
        self._held.update(wished=True, exact=exact)

    def relock(self, locks: Mapping[str, int]) -> None:
        """Lock just these matrices and ask `settle` to solve around them; nothing happens where they are locked so."""
        if self._held["locks"] != dict(locks):
            self._held.update(locks=dict(locks), hand=None, base=None, turn=self.turn + 1)
            self.wish()

    def edit(self, bench: Bench, widths: Mapping[str, int], locks: Mapping[str, int]) -> None:
        """Take over what a person set by hand; the solved or uploaded plan comes back when the widths are its own."""
        held = self._held
        held["locks"] = dict(locks)
        if held["text"] is None or dict(widths) == widths_of(parse(held["text"].encode("utf-8"))):
            held["hand"] = None
        elif not held["hand"] or held["hand"]["widths"] != dict(widths):
            plan = bench.by_hand(widths, locks, Request(**held["budget"]))
            held["hand"] = {"widths": dict(widths), "text": dumps(plan)}

    def upload(self, raw: bytes, inspected: Document) -> None:
        """Put an uploaded plan in place of the current one; one that is refused changes nothing but `trouble`.

        What was made elsewhere (see `allocation.importing`) becomes a plan of ours, and `told` says what was lost.
        """
        try:
            found = import_plan(raw, inspected)
            _check_quantizers(found.plan)
        except WorkbenchError as error:
            self._held["trouble"] = f"The uploaded plan was not taken: {error}."
            return
        own = found.form == OUR_OWN
        text = raw.decode("utf-8-sig") if own else dumps(found.plan)
        self._lay(text, found.plan, "uploaded")
        self._held["uploaded"] = text
        self._held["told"] = [] if own else [f"It was read as a {found.form}.", *(f"{one}." for one in found.losses)]

    def take(self, document: Document, origin: str) -> None:
        """Put a plan that a study made in place of the current one."""
        plan = read_plan(dict(document))
        self._lay(dumps(plan), plan, origin)

    def _lay(self, text: str, plan: Plan, origin: str) -> None:
        kept = {name: self._held[name] for name in ("budget", "uploaded")}
        former = self.text
        self._held.update(_NO_PLAN | kept)
        self._held.update(text=text, former=former, origin=origin, locks=locks_of(plan))
        self._held["turn"] += 1

    def base(self, key: str, fresh: bool) -> dict[str, Any]:
        """Widths and locks that an editor of this name starts from; `fresh` when the browser holds no edits of it."""
        if fresh or self._held["base"] is None or self._held["base"]["key"] != key:
            plan = self.plan
            widths = {} if plan is None else widths_of(plan)
            self._held["base"] = {"key": key, "widths": widths, "locks": dict(self.locks)}
        return self._held["base"]


def _check_quantizers(plan: Plan) -> None:
    """Refuse what no quantizer here can do before it is laid on the desk, not only when it is measured.

    Raises:
        WorkbenchError: the name of a quantizer that is not registered.
    """
    known = session.descriptions("quantizers")
    for tensor in plan.tensors.values():
        if tensor.bits < UNTOUCHED and tensor.method not in known:
            raise unknown("quantizer", tensor.method, sorted(known))


_NO_PLAN: dict[str, Any] = {
    "text": None,
    "origin": "solved",
    "hand": None,
    "budget": None,
    "bench": None,
    "base": None,
    "former": None,
    "uploaded": None,
    "trouble": None,
    "wished": False,
    "told": [],
}
