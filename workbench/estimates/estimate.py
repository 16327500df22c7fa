"""How long a run will take and how much memory, before it is started. Importing this imports no torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.estimates.table import FREE, enrolled
from workbench.progress import Steps

if TYPE_CHECKING:
    from workbench.estimates.bench import Bench
    from workbench.model.load import LoadedModel
    from workbench.studies.context import Context


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to need.

    Attributes:
        kind: of study.
        seconds: that it takes.
        peak: bytes that it holds at most, beyond what the process holds already.
    """

    kind: str
    seconds: float
    peak: int

    @property
    def words(self) -> str:
        """Time and memory, such as `about 40 s and 0.9 GiB`."""
        return f"about {time_words(self.seconds)} and {size_words(self.peak)}"


def time_words(seconds: float) -> str:
    """A time as a person would say it."""
    if seconds < 1:
        return "1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size_words(count: int) -> str:
    """Bytes in GiB, or in MiB where they are few."""
    return f"{count / 2**30:.2g} GiB" if count >= 2**30 / 10 else f"{max(1, round(count / 2**20))} MiB"


def completed(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a study with the defaults of the keywords that it leaves out."""
    from workbench.studies import NOT_IN_SPECS, STUDIES

    parameters = inspect.signature(STUDIES[kind]).parameters
    settings = {
        name: one.default
        for name, one in parameters.items()
        if name not in NOT_IN_SPECS and one.default is not inspect.Parameter.empty
    }
    return settings | dict(spec)


def estimate_on(bench: Bench, kind: str, spec: Mapping[str, Any]) -> Estimate:
    """What a study needs on a bench.

    Raises:
        WorkbenchError: whatever is wrong with the spec.
    """
    need = enrolled()[kind](bench, completed(kind, spec))
    return Estimate(kind, need.seconds, need.peak)


def look(kind: str, loaded: LoadedModel, spec: Mapping[str, Any], context: Context) -> Steps[Bench | None]:
    """The bench on which a run can be estimated; None where there is nothing to estimate."""
    from workbench.estimates.bench import open_bench
    from workbench.model.encoder import LoadedEncoder

    if kind in FREE or kind not in enrolled() or isinstance(loaded, LoadedEncoder):
        return None
    try:
        return (yield from open_bench(loaded, context))
    except WorkbenchError:
        return None  # the study itself says what is wrong with the model


def try_to_estimate(bench: Bench | None, kind: str, spec: Mapping[str, Any]) -> Estimate | None:
    """The estimate; None where the spec is one that the study will refuse in words of its own."""
    if bench is None:
        return None
    try:
        return estimate_on(bench, kind, spec)
    except (WorkbenchError, KeyError, TypeError, ValueError, AttributeError):
        return None  # a malformed value, such as bits that are no list
