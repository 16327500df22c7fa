"""A question opened with its estimate; a model is read block by block where the work does not fit beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench import studies
from workbench.errors import WorkbenchError
from workbench.estimates.bench import Bench
from workbench.estimates.estimate import Estimate, look, try_to_estimate
from workbench.estimates.fitting import check_fits
from workbench.progress import Progress, Steps
from workbench.results import Result
from workbench.studies.context import Context


@dataclass(frozen=True, eq=False)
class Opened:
    """A study that can begin.

    Attributes:
        study: not begun yet.
        given: its keywords.
        bench: the model here; None where there is nothing to estimate, as of encoders.
        estimate: what is expected; None likewise.
        streamed: whether the model is read block by block.
    """

    study: Steps[Result]
    given: Mapping[str, Any]
    bench: Bench | None
    estimate: Estimate | None
    streamed: bool


def open_to_fit(kind: str, spec: Mapping[str, Any], context: Context, **beside: Any) -> Steps[Opened]:
    """Open a question.

    A memory limit chooses by itself how the model is held: one that would fit as a whole is read block by block where
    the work on it would not fit any more.

    Args:
        kind: of study.
        spec: as `studies.start` takes it.
        context: what the process shares; keeps what is measured of the model's speed.
        beside: keywords of the study that are no JSON.

    Raises:
        WorkbenchError: an unfit question, or more memory than there is.
    """
    opened = yield from _open(kind, spec, context, beside)
    if opened.bench is None or opened.estimate is None or opened.streamed:
        return opened  # what streams looks at its limit block by block
    try:
        check_fits(opened.bench, kind, opened.given, opened.estimate)
    except WorkbenchError:
        if context.memory_limit is None and not spec.get("memory_limit"):
            raise
    else:
        return opened
    opened.study.close()
    del opened  # and with it the model, before another is opened
    yield Progress(0, 1, "the work does not fit beside the whole model, which is read block by block now")
    return (yield from _open(kind, spec, context, beside, by_blocks=True))


def _open(
    kind: str, spec: Mapping[str, Any], context: Context, beside: Mapping[str, Any], *, by_blocks: bool = False
) -> Steps[Opened]:
    loaded, given, study = yield from studies.open_question(kind, spec, context, beside, by_blocks=by_blocks)
    bench = yield from look(kind, loaded, given, context)
    return Opened(study, given, bench, try_to_estimate(bench, kind, given), bool(getattr(loaded, "streamed", False)))
