"""Parts of studies that can be made anywhere: what they leave behind are cells, under keys that are known beforehand.

A study says what it is about to need, `context.spread(loaded, work, parts)`, and afterwards computes whatever is not in
its store. Alone, nothing happens in between. With a crew (`workbench.cluster`) others make the parts by the very code
that the study would run itself, and their cells lie in the store by then, so a study's numbers do not depend on who
made them or in which order. What a part needs stands in its work and its `ask`, which are sent to other processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from workbench.progress import Steps

if TYPE_CHECKING:
    from workbench.model.load import LoadedModel
    from workbench.studies.context import CellStore, Context


@dataclass(frozen=True)
class Part:
    """One piece of a work.

    Attributes:
        keys: cells that it leaves; what the store has of them so far travels with the part.
        ask: what the work is asked for, plain and small.
        note: words for the progress.
    """

    keys: tuple[str, ...]
    ask: Any
    note: str


Bench = Callable[[Sequence[Any]], Steps[None]]
"""Makes some parts, given their `ask`s, and leaves their cells in the context that it was opened with."""


@runtime_checkable
class Work(Protocol):
    """What parts have in common: texts, schemes, settings. No model and no store is in it, so that it can be sent."""

    def open(self, loaded: LoadedModel, context: Context) -> Steps[Bench]:
        """Prepare once what all parts need; the bench is used for any number of them."""
        ...


@runtime_checkable
class Crew(Protocol):
    """Others that make parts."""

    def make(self, loaded: LoadedModel, work: Work, parts: Sequence[Part], cells: CellStore) -> Steps[None]:
        """Have the parts made; every cell is put into `cells` as it comes, by this process alone.

        Raises:
            WorkbenchError: nobody can make them, or a cell cannot be stored.
        """
        ...
