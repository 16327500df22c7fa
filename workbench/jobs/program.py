"""What the worker runs, apart from how it runs it: tests put a program of small fake studies in its place."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.jobs.store import Store
from workbench.progress import Steps
from workbench.results import Result


@dataclass(frozen=True)
class Program:
    """The studies that a worker can run.

    Attributes:
        start: makes a study of a kind and a spec; it is given `context` as its third argument.
        describe: the methods, by kind, as pages draw their controls from them.
        context: whatever studies want to find again in the next job, such as the loaded model.
    """

    start: Callable[[str, Mapping[str, Any], Any], Steps[Result]]
    describe: Callable[[], Mapping[str, Any]]
    context: Any


def load_program(module: str | None, store: Store) -> Program:
    """The workbench's own studies, or what `program(store)` of the given module returns.

    The module is named on the worker's command line alone, so that nothing that a browser sends can choose it.
    """
    if module is not None:
        return importlib.import_module(module).program(store)
    import torch

    from workbench import registry, studies
    from workbench.jobs.limits import limit_memory, thread_count

    torch.set_num_threads(thread_count())
    if not torch.cuda.is_available():
        limit_memory()
    context = studies.Context(store, store.path.parent / "statistics")
    return Program(studies.start, registry.describe_all, context)
