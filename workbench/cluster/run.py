"""A study whose parts are made by workers: the same question, the same store, the same answer as alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from workbench import studies
from workbench.cluster.connection import connect
from workbench.cluster.crew import Crew
from workbench.cluster.room import no_room, room
from workbench.cluster.wish import LOCAL, Wish
from workbench.model.folders import find_folder
from workbench.progress import Steps
from workbench.results import Result
from workbench.sizes import parse_size
from workbench.studies.context import Context

FANS_OUT = ("sensitivity", "court", "front", "evaluate", "drift")
"""Studies that are run by workers when that is wished for."""


def start(
    kind: str,
    spec: Mapping[str, Any],
    context: Context,
    wish: Wish,
    *,
    seed: int = 0,
    watch: Callable[[Crew], None] | None = None,
) -> Steps[Result]:
    """`studies.start` with a crew in the context, which has ended when this has, however it ended.

    Args:
        kind: of the study.
        spec: of the study.
        context: holds the store, which this process alone writes.
        wish: which cluster and how many workers.
        seed: seed of torch's generator on the workers.
        watch: is given the crew, to look at its workers.

    Raises:
        WorkbenchError: no Ray, no such cluster, no room, a worker that is refused, or whatever the study refuses.
    """
    wish = wish.check()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    connection = yield from connect(wish, wish.workers or cores)
    try:
        held = room(connection.ray, wish)
        if wish.address == LOCAL and not held:
            raise no_room(connection.ray, wish, "")
        crew = Crew(connection.ray, replace(wish, workers=wish.workers or max(1, held)), model_of(kind, spec), seed)
        if watch is not None:
            watch(crew)
        context.crew = crew
        try:
            return (yield from studies.start(kind, spec, context))
        finally:
            context.crew = None
            crew.close()
    finally:
        connection.close()


def model_of(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker opens: a folder by its whole path, the embedded model and hub models by their names."""
    name = str(spec.get("model"))
    found = find_folder(name)
    limit = spec.get("memory_limit")
    model = {
        "name": name if found is None or found.id == "demo" else str(found.path),
        "allow_download": bool(spec.get("allow_download")),
        "encoders": kind in studies.OF_ENCODERS,
    }
    if not limit:
        return model
    return {**model, "memory_limit": parse_size(limit, "memory limit") if isinstance(limit, str) else limit}
