"""Whole plans, each measured on one text, as parts that others can make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.model.load import LoadedModel
from workbench.model.texts import Windows
from workbench.progress import Steps, within
from workbench.studies.choice import Assignment
from workbench.studies.context import Context
from workbench.studies.parts import Bench, Part
from workbench.studies.reference import Reference, reference

Measure = Callable[[Reference, Assignment, Windows | None, str, Context], Steps[Mapping[str, Any]]]
"""Makes the cell of one assignment; a function of a module, so that it can be named to another process."""


@dataclass(frozen=True, eq=False)
class PlanWork:
    """Assignments measured on one text; a part is asked for as a key, an assignment and a label.

    Attributes:
        windows: the text that measures.
        seen: the text that feeds quantizers, None where none reads one.
        measure: makes a cell.
    """

    windows: Windows
    seen: Windows | None
    measure: Measure

    def open(self, loaded: LoadedModel, context: Context) -> Steps[Bench]:
        """The full model's run over the text."""
        full = yield from reference(loaded, self.windows)

        def make(asks: Sequence[tuple[str, Assignment, str]]) -> Steps[None]:
            for place, (key, assignment, label) in enumerate(asks):
                steps = self.measure(full, assignment, self.seen, label, context)
                context.cells.put_cell(key, (yield from within(steps, place, place + 1, len(asks))))

        return make

    def spread(
        self, loaded: LoadedModel, wanted: Mapping[str, tuple[Assignment, str]], context: Context
    ) -> Steps[None]:
        """Have assignments measured whose cells are not there, if there is a crew.

        Args:
            loaded: the model.
            wanted: key of a cell -> assignment and label.
            context: holds the store.
        """
        if context.crew is None:
            return
        known = context.cells.get_cells(wanted)
        parts = [
            Part((key,), (key, assignment, label), label)
            for key, (assignment, label) in wanted.items()
            if key not in known
        ]
        yield from context.spread(loaded, self, parts)
