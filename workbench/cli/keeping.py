"""What a command computed, kept where the app looks: on the shelf under the app's own key, with a line in its jobs.

So a study of the command line is opened on the Jobs page, and `workbench bundle` carries it, like one of the app.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import settings
from workbench.errors import WorkbenchError
from workbench.usual import WINDOW

if TYPE_CHECKING:
    from workbench.results import Result

APART = ("checkpoint",)
"""Studies whose outcome lies elsewhere."""

NOT_ASKED = ("memory_limit",)
"""Keys of a spec that change how a study runs and not what it answers."""


@contextmanager
def keeping(kind: str, spec: Mapping[str, Any], cells: object, seed: int) -> Iterator[Callable[[Result], Result]]:
    """Run a study in the body and hand its result to what is yielded, which keeps it and returns it.

    What cannot be kept is said on stderr and delivered all the same. With a seed other than 0 nothing is kept: the app
    has none, and would take the result for its own.

    Args:
        kind: of the study.
        spec: what it was asked.
        cells: where it keeps its cells; only those of the job store can be kept with it.
        seed: of the command.
    """
    from workbench.jobs.store import Store

    if kind in APART or seed != 0 or not isinstance(cells, Store):
        yield lambda result: result
        return
    store, started = cells, time.time()
    with store.noting() as noted:

        def keep(result: Result) -> Result:
            try:
                _keep(kind, spec, result, store, noted, started)
            except WorkbenchError as error:
                print(f"workbench: the result is not kept for the app: {error}", file=sys.stderr)
            return result

        yield keep


def _keep(
    kind: str, spec: Mapping[str, Any], result: Result, store: Any, cells: Collection[str], started: float
) -> None:
    from workbench.jobs.adopted import Finished, record
    from workbench.jobs.keys import study_key
    from workbench.jobs.shelf import Shelf

    asked = as_the_app_asks(spec, result.document)
    key = study_key(kind, asked)
    Shelf(store.path.parent).save(key, result, cells)
    record(
        store, Finished(kind, asked, key, time.time() - started, note="from the command line", worker="command line")
    )


def as_the_app_asks(spec: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """The spec in the words of the pages: names for local models, whole paths, defaults written out.

    Args:
        spec: what the command asked.
        document: of the result; says the window that was taken.
    """
    asked = {key: value for key, value in spec.items() if key not in NOT_ASKED}
    asked["model"] = _model(asked["model"])
    for key in ("calibration", "text", "text2"):
        if isinstance(asked.get(key), str) and Path(asked[key]).is_file():
            asked[key] = str(Path(asked[key]).resolve())
    if asked["model"] == "demo":
        asked |= _demo_texts(asked)
    if "window" in asked and asked["window"] is None:
        asked["window"] = _window(document)
    if isinstance(asked.get("bits"), list):
        asked["bits"] = sorted(asked["bits"])
    return _options(asked)


def _model(name: str) -> str:
    """The name under which pages offer a local model."""
    try:
        folder = Path(name).expanduser().resolve()
    except (OSError, ValueError, RuntimeError):
        return name
    return next((offered for offered, path in settings.local_models().items() if path == folder), name)


def _demo_texts(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The embedded model's own texts, for a command that named none."""
    reads = "tokens" in asked or asked.get("scheme") is not None or asked.get("plan") is not None
    found = {}
    if reads and "calibration" in asked and asked["calibration"] is None:
        found["calibration"] = "demo:calibration"
    if "text" in asked and asked["text"] is None:
        found["text"] = "demo:evaluation"
    return found


def _window(document: Mapping[str, Any]) -> Any:
    text = document.get("calibration")
    return document.get("window") or (text.get("window") if isinstance(text, dict) else None) or WINDOW


def _options(asked: dict[str, Any]) -> dict[str, Any]:
    """Options as values, those alone that differ from their method's defaults."""
    from workbench.registry import KINDS

    scheme = asked.get("scheme")
    if isinstance(scheme, dict):
        asked = {**asked, "scheme": {**scheme, "options": _chosen(KINDS["quantizers"], scheme["quantizer"], scheme)}}
    for key, kind in (("quantizer", "quantizers"), ("method", "attribution"), ("metric", "salience")):
        if isinstance(asked.get(key), str) and isinstance(asked.get("options"), dict):
            return {**asked, "options": _chosen(KINDS[kind], asked[key], asked)}
    for key, kind in (("quantizers", "quantizers"), ("methods", "attribution")):
        if isinstance(asked.get(key), list) and isinstance(asked.get("options"), dict):
            each = {name: _chosen(KINDS[kind], name, {"options": one}) for name, one in asked["options"].items()}
            return {**asked, "options": {name: one for name, one in each.items() if one}}
    return asked


def _chosen(registry: Any, name: str, holder: Mapping[str, Any]) -> dict[str, Any]:
    values, usual = registry.get(name).parse_options(holder["options"]), registry.get(name).parse_options(None)
    return {option: value for option, value in values.items() if value != usual[option]}
