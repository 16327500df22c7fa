"""The questions: generators that yield `Progress` and return a `Result`, shared by shell, worker and notebook."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from workbench.errors import WorkbenchError, unknown
from workbench.model.load import LoadedModel
from workbench.progress import Progress, Steps
from workbench.results import Result
from workbench.sizes import parse_size
from workbench.studies.agreement import agreement
from workbench.studies.allocate import allocate
from workbench.studies.attention_maps import attention_maps
from workbench.studies.attribute import attribute
from workbench.studies.blame import blame
from workbench.studies.checkpoint import checkpoint
from workbench.studies.compare_attribution import compare_attribution
from workbench.studies.context import Context
from workbench.studies.court import court
from workbench.studies.damage_map import damage_map
from workbench.studies.detach import detach
from workbench.studies.drift import drift
from workbench.studies.drift_curve import drift_curve
from workbench.studies.evaluate import evaluate
from workbench.studies.front import front
from workbench.studies.generate import generate
from workbench.studies.guarded import guarded
from workbench.studies.inspection import inspection
from workbench.studies.kernel_speed import kernel_speed
from workbench.studies.layer_error import layer_error
from workbench.studies.matrix_detail import matrix_detail
from workbench.studies.prompt_coverage import prompt_coverage
from workbench.studies.reliability import reliability
from workbench.studies.salience import salience
from workbench.studies.salience_export import salience_export
from workbench.studies.sensitivity import sensitivity
from workbench.studies.signal import signal
from workbench.studies.token_flow import token_flow
from workbench.studies.token_weights import token_weights
from workbench.studies.tradeoff import tradeoff
from workbench.studies.windows import windows

__all__ = [
    "STUDIES",
    "Context",
    "agreement",
    "allocate",
    "attention_maps",
    "attribute",
    "blame",
    "checkpoint",
    "compare_attribution",
    "court",
    "damage_map",
    "detach",
    "drift",
    "drift_curve",
    "evaluate",
    "front",
    "generate",
    "guarded",
    "inspection",
    "kernel_speed",
    "layer_error",
    "matrix_detail",
    "open_question",
    "prompt_coverage",
    "reliability",
    "salience",
    "salience_export",
    "sensitivity",
    "signal",
    "start",
    "token_flow",
    "token_weights",
    "tradeoff",
    "windows",
]

STUDIES = {
    "inspect": inspection,
    "salience": salience,
    "salience_export": salience_export,
    "layer_error": layer_error,
    "matrix_detail": matrix_detail,
    "kernel_speed": kernel_speed,
    "evaluate": evaluate,
    "sensitivity": sensitivity,
    "signal": signal,
    "tradeoff": tradeoff,
    "allocate": allocate,
    "front": front,
    "generate": generate,
    "guarded": guarded,
    "agreement": agreement,
    "court": court,
    "detach": detach,
    "prompt_coverage": prompt_coverage,
    "attribute": attribute,
    "attention_maps": attention_maps,
    "compare_attribution": compare_attribution,
    "drift": drift,
    "drift_curve": drift_curve,
    "damage_map": damage_map,
    "blame": blame,
    "checkpoint": checkpoint,
    "reliability": reliability,
    "token_weights": token_weights,
    "token_flow": token_flow,
    "windows": windows,
}


OF_ENCODERS = ("attribute", "compare_attribution", "drift")
"""Studies that also look at encoders."""

NOT_IN_SPECS = ("loaded", "context", "tensors", "keep")


def start(kind: str, spec: Mapping[str, Any], context: Context, **beside: Any) -> Steps[Result]:
    """A study from its kind and its JSON spec, as `open_question` reads both, with its estimate before it.

    Raises:
        WorkbenchError: unknown kind or keyword, too little memory, or whatever the study refuses.
    """
    from workbench.estimates.watch import watched

    return (yield from watched(kind, spec, context, **beside))


def open_question(
    kind: str,
    spec: Mapping[str, Any],
    context: Context,
    beside: Mapping[str, Any] | None = None,
    *,
    by_blocks: bool = False,
) -> Steps[tuple[LoadedModel, dict[str, Any], Steps[Result]]]:
    """The model, the study's keywords, and the study, not begun yet.

    Args:
        kind: of study.
        spec: `model`, `allow_download`, `memory_limit` and the study's own keywords. The limit, bytes or a size such as
            `4GiB`, decides how the model is held and nothing about the result.
        context: what the process shares.
        beside: keywords of the study that are no JSON.
        by_blocks: read the model block by block, also where it fits in memory.

    Raises:
        WorkbenchError: unknown kind or keyword, or a model that is not there.
    """
    if kind not in STUDIES:
        raise unknown("study", kind, tuple(STUDIES))
    given = dict(spec)
    name = given.pop("model", None)
    if not isinstance(name, str) or not name:
        raise WorkbenchError(f"model has value {name!r}; give demo, a local folder or a hub id")
    allow = bool(given.pop("allow_download", False))
    limit = _limit(given.pop("memory_limit", None))
    study = STUDIES[kind]
    known = [parameter for parameter in inspect.signature(study).parameters if parameter not in NOT_IN_SPECS]
    for keyword in given:
        if keyword not in known:
            raise unknown(f"keyword of study {kind!r}", keyword, tuple(known))
    yield Progress(0, 1, f"loading {name}")
    loaded = context.model(
        name, allow_download=allow, encoders=kind in OF_ENCODERS, memory_limit=limit, by_blocks=by_blocks
    )
    return loaded, given, study(loaded, **given, **(beside or {}), context=context)


def _limit(given: Any) -> int | None:
    """A memory limit in bytes; None where there is none."""
    if given is None or given == "":
        return None
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given
    return parse_size(str(given), "memory limit")
