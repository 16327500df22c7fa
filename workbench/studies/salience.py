"""A salience metric over every matrix, reduced to what people and charts can take in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.model.texts import Windows
from workbench.progress import Steps, within
from workbench.results import Result
from workbench.studies.asked import Asked, ask
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context
from workbench.studies.salience_masks import write_tensors
from workbench.studies.salience_scopes import ScopeTables, group_of
from workbench.studies.salience_tables import SalienceTables
from workbench.studies.scoring import Material, gather, score
from workbench.studies.texts import describe


def salience(
    loaded: LoadedModel,
    *,
    metric: str = "activation",
    options: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    text2: str | None = None,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    tensors: Path | None = None,
    keep: dict[str, Tensor] | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Score every matrix with one metric.

    Args:
        loaded: the model.
        metric: name in the registry.
        options: the metric's own options.
        calibration: text that feeds the statistics and gradients.
        tokens: cap of a text's tokens.
        window: tokens of one sequence.
        text2: only for metrics that read a second text; the embedded model's example prompts unless given.
        scheme: only for metrics that compare full and quantized weights; rtn, 3 bits, group 64 unless given.
        plan: likewise, in place of a scheme.
        tensors: safetensors file for the full score tensors, one a matrix.
        keep: takes those tensors by the matrix's name, for a caller that goes on with them.
        context: what the process shares.
    """
    context = context or Context()
    asked = ask(metric, options)
    _check_choices(asked, scheme is not None or plan is not None, text2 is not None)
    chosen = {"calibration": calibration, "tokens": tokens, "window": window, "text2": text2}
    steps = gather(loaded, [asked], **chosen, scheme=scheme, plan=plan, context=context)
    gathered = 0.2 if asked.gradients else 0.7
    material = yield from within(steps, 0.0, gathered)
    tables, notes = SalienceTables(), _notes(asked, material)
    coarse = ScopeTables(group_of(material.assignment), len(find_matrices(loaded)))
    full = {} if keep is None else keep

    def take(matrix: Matrix, one: Asked, scores: Tensor, raised: list[str]) -> None:
        notes.extend(f"{matrix.name}: {note}" for note in raised)
        tables.add(matrix, scores)
        coarse.add(matrix, scores)
        if tensors is not None or keep is not None:
            full[matrix.name] = scores.contiguous()

    facts = yield from within(score(loaded, [asked], material, take), gathered, 1.0)
    if tensors is not None:
        write_tensors(full, tensors, {"metric": metric, "reference": asked.method.reference})
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        **_asked(asked, material),
        "gradients": asdict(facts[0]) if facts else None,
        "group_size": coarse.group,
        "notes": notes,
        "total": sum(row["total"] for row in tables.rows),
        "matrices": tables.rows,
    }
    return Result(document, {**tables.frames(), **coarse.frames()})


def _check_choices(asked: Asked, quantized: bool, second: bool) -> None:
    """Refuse a choice that the metric would not look at.

    Raises:
        WorkbenchError: a quantizer, plan or second text for a metric that reads none.
    """
    name = asked.method.name
    if quantized and not asked.compares:
        raise WorkbenchError(f"metric {name!r} looks at the full weights; it takes no quantizer and no plan")
    if second and not asked.second:
        raise WorkbenchError(f"metric {name!r} reads no second text; leave --text2 out")


def _notes(asked: Asked, material: Material) -> list[str]:
    if asked.compares and not material.changed:
        return ["the quantizer changes no weight of this model, so every score is zero"]
    return []


def _asked(asked: Asked, material: Material) -> dict[str, Any]:
    """The metric and what it looked at."""
    return {
        "metric": asked.method.name,
        "options": dict(asked.options),
        "signed": asked.signed,
        "calibration": _described(material.windows),
        "text2": _described(material.second),
        "quantization": _quantization(material),
    }


def _described(windows: Windows | None) -> dict[str, object] | None:
    return None if windows is None else describe(windows)


def _quantization(material: Material) -> dict[str, Any] | None:
    """The scheme of all matrices, or that of each when a plan gives them several; None for the full weights."""
    if material.assignment is None:
        return None
    schemes = {name: scheme.to_json() for name, scheme in material.assignment.items()}
    first = next(iter(schemes.values()))
    return {"scheme": first} if all(one == first for one in schemes.values()) else {"schemes": schemes}
