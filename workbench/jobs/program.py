"""What the worker runs, apart from how it runs it: tests put a program of small fake studies in its place."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.jobs.store import Store
from workbench.progress import Steps
from workbench.results import Result

if TYPE_CHECKING:
    from workbench.cluster.crew import Crew
    from workbench.cluster.wish import Wish


@dataclass(frozen=True)
class Program:
    """The studies that a worker can run.

    Attributes:
        start: makes a study of a kind and a spec; it is given `context` as its third argument.
        describe: the methods, by kind, as pages draw their controls from them.
        context: whatever studies want to find again in the next job, such as the loaded model.
        workers: what the workers of the running study do, a row each; none where this process does all.
    """

    start: Callable[[str, Mapping[str, Any], Any], Steps[Result]]
    describe: Callable[[], Mapping[str, Any]]
    context: Any
    workers: Callable[[], list[dict[str, Any]]] = list


def load_program(module: str | None, store: Store) -> Program:
    """The workbench's own studies, or what `program(store)` of the given module returns.

    The module is named on the worker's command line alone, so that nothing that a browser sends can choose it.
    """
    if module is not None:
        return importlib.import_module(module).program(store)
    import torch

    from workbench import registry, studies
    from workbench.cluster.wish import from_environment
    from workbench.jobs.limits import limit_memory, thread_count

    torch.set_num_threads(thread_count())
    if not torch.cuda.is_available():
        limit_memory()
    context = studies.Context(store, store.path.parent / "statistics")
    wish = from_environment()
    if wish is None:
        return Program(studies.start, registry.describe_all, context)
    desk = _Desk(wish)
    return Program(desk.start, registry.describe_all, context, desk.workers)


class _Desk:
    """Runs sweeps over Ray as the environment wishes, everything else in this process."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._crew: Crew | None = None

    def start(self, kind: str, spec: Mapping[str, Any], context: Any) -> Steps[Result]:
        """As `studies.start`."""
        from workbench import studies
        from workbench.cluster.run import FANS_OUT, start

        self._crew = None
        if kind not in FANS_OUT:
            return studies.start(kind, spec, context)
        return start(kind, spec, context, self._wish, watch=self._look)

    def workers(self) -> list[dict[str, Any]]:
        """What each worker does."""
        return [] if self._crew is None else self._crew.rows()

    def _look(self, crew: Crew) -> None:
        self._crew = crew
