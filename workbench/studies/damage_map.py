"""Which matrix, at which token, costs the target when the weights are quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pandas as pd
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.damage import Damage
from workbench.attribution.damage import damage_map as split
from workbench.attribution.sinks import find_sinks
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError
from workbench.model.lazy_weights import LazyWeights
from workbench.model.load import LoadedModel
from workbench.model.matrices import Matrix
from workbench.model.overlay import overlay
from workbench.model.own_weights import own_weights
from workbench.progress import Progress, Steps, within
from workbench.results import Result
from workbench.studies.attribute import explained, quantized_weights
from workbench.studies.choice import find_matrices
from workbench.studies.context import Context
from workbench.studies.prompt_document import of_prompt
from workbench.studies.sink_damage import damage_on_sinks

MOST_NODES = 64


def damage_map(
    loaded: LoadedModel,
    *,
    prompt: str,
    target: str | None = None,
    contrast: str | None = None,
    nodes: int = 8,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Parts of F(full) - F(quantized), one for every matrix and token; together they are all of it.

    A positive part is a loss of the target. The formula is in `workbench.attribution.damage`. Holds the full weights,
    the quantized ones, their difference and those of the running point of the path at one time; of a model that is
    read block by block those of the block that runs. Of every matrix it is
    told how much lies on attention sinks, or on the first token where there is none; not for a model that does not show
    its attention.

    Args:
        loaded: the model.
        prompt: the text.
        target: next token, the full model's likeliest when not given; `logprob:` in front for its log-probability.
        contrast: explain the target rather than this.
        nodes: points on the path at first, doubled up to 64 until the parts add up within 0.1 %.
        scheme: quantizes all matrices.
        plan: the same by a plan.
        calibration: text for quantizers that read one.
        context: what the process shares.

    Raises:
        WorkbenchError: no choice of quantization, a bad number of nodes, or a model that sends tokens apart.
    """
    if scheme is None and plan is None:
        raise WorkbenchError("a damage map needs a choice of quantization; give a quantizer or a plan")
    if not 1 <= nodes <= MOST_NODES:
        raise WorkbenchError(f"nodes has value {nodes}; it must lie between 1 and {MOST_NODES}")
    adapter, read, aim = explained(loaded, prompt, target, contrast)
    weights = yield from within(quantized_weights(loaded, scheme, plan, calibration, context or Context()), 0.0, 0.6)
    quantized: Mapping[str, Tensor] = weights or {}
    matrices = find_matrices(loaded)
    yield Progress(0.6, 1.0, f"damage at {len(quantized)} matrices and {len(read.tokens)} tokens")
    found = _on_the_path(loaded, adapter, read.ids, aim, matrices, quantized, nodes)
    sinks, reason = _on_sinks(adapter, read.ids, found)
    document = {
        **of_prompt(loaded, prompt, read),
        "matrices": [one.name for one in matrices],
        "target": aim.to_json(),
        **_facts(found),
        "sinks": sinks,
        "notes": [*aim.notes, *reason],
    }
    tables = {"damage": pd.DataFrame(_rows(found, matrices, read.tokens))}
    if sinks is not None:
        places = [{"matrix": one.name, "block": one.block, "role": one.role} for one in matrices]
        tables["damage_on_sinks"] = pd.DataFrame(places).assign(sink_damage_share=sinks["by_matrix"])
    return Result(document, tables)


def _on_the_path(
    loaded: LoadedModel,
    adapter: Adapter,
    ids: Tensor,
    aim: Target,
    matrices: Sequence[Matrix],
    quantized: Mapping[str, Tensor],
    nodes: int,
) -> Damage:
    """The damage along the straight way from the quantized weights to the full ones."""
    shapes = {one.name: one.shape for one in matrices if one.name in quantized}
    full = own_weights(loaded.model, [one for one in matrices if one.name in shapes])
    moved: Mapping[str, Tensor] = LazyWeights(shapes, lambda name: full[name] - quantized[name].to(full[name]))
    if not loaded.streamed:
        moved = dict(moved)

    def laid(place: float) -> AbstractContextManager[None]:
        return overlay(loaded.model, LazyWeights(shapes, lambda name: full[name] - (1 - place) * moved[name]))

    modules = {one.name: loaded.model.get_submodule(one.module) for one in matrices}
    return split(adapter, ids, aim, modules, moved, laid, nodes=nodes, max_nodes=MOST_NODES)


def _on_sinks(adapter: Adapter, ids: Tensor, found: Damage) -> tuple[dict[str, Any] | None, list[str]]:
    """What lies on sinks; None, and the reason, for a model that does not show its attention."""
    try:
        return damage_on_sinks(found.parts, find_sinks(adapter, ids)), []
    except WorkbenchError as error:
        return None, [str(error)]


def _facts(found: Damage) -> dict[str, Any]:
    """The parts, their sums, and what is left over."""
    return {
        "full_value": found.full_value,
        "quantized_value": found.quantized_value,
        "completeness_gap": found.gap,
        "relative_gap": found.relative_gap,
        "nodes": found.nodes,
        "damage": found.parts.tolist(),
        "by_matrix": found.parts.sum(1).tolist(),
        "by_token": found.parts.sum(0).tolist(),
    }


def _rows(found: Damage, matrices: list[Matrix], tokens: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "matrix": matrix.name,
            "block": matrix.block,
            "role": matrix.role,
            "position": position,
            "token": token,
            "damage": part,
        }
        for matrix, parts in zip(matrices, found.parts.tolist(), strict=True)
        for position, (token, part) in enumerate(zip(tokens, parts, strict=True))
    ]
