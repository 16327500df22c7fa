"""`--estimate`: time and memory that are expected of a command, told in place of running it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from workbench.cli.running import Run
    from workbench.estimates.foresee import Foreseen


def foretell(run: Run, questions: Iterable[tuple[str, Mapping[str, Any]]]) -> NoReturn:
    """Tell what the studies of a command would need, one after the other, and end the command.

    Raises:
        typer.Exit: always, with 0, once it is told.
        WorkbenchError: whatever the run would refuse before it computes.
    """
    from workbench.estimates.foresee import foresee

    context = run.context()
    found = [run.steps(foresee(kind, spec, context)) for kind, spec in questions]
    if run.sweep.wish is not None:
        print("workbench: this process alone; workers on Ray are not counted", file=sys.stderr)
    if run.as_json:
        from workbench.results import dumps

        print(dumps(document_of(found)))
    else:
        print("\n".join(one.words if len(found) == 1 else f"{one.kind}: {one.words}" for one in found))
    raise typer.Exit


def document_of(found: list[Foreseen]) -> dict[str, Any]:
    """The estimates as JSON: all together, then each; null where nothing is known beforehand."""
    known = [one for one in found if one.seconds is not None]

    def most(sizes: Iterable[int | None]) -> int | None:
        return max((one for one in sizes if one is not None), default=None)

    return {
        "seconds": sum(one.seconds or 0.0 for one in known) if known else None,
        "needed_bytes": most(one.needed for one in known),
        "peak_bytes": most(one.peak for one in known),
        "free_bytes": most(one.free for one in known[:1]),
        "studies": [
            {"kind": one.kind, "seconds": one.seconds, "needed_bytes": one.needed, "peak_bytes": one.peak}
            for one in found
        ],
    }
