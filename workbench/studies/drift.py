"""Same answer, same reasons? The map of each prompt in the full model, held against that of the quantized one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.errors import WorkbenchError
from workbench.measures.map_similarity import l1_distance
from workbench.model.load import LoadedModel
from workbench.progress import Progress, Steps
from workbench.registry import Method, attribution
from workbench.results import Result
from workbench.studies.attribute import assigned, explained
from workbench.studies.context import Context
from workbench.studies.drift_parts import PromptWork, Wanted
from workbench.studies.drift_rows import Asked, Side, free_tokens, means, tables
from workbench.studies.map_agreement import MEASURES, pair
from workbench.studies.map_checks import Question

TOP_K = 3
NOTE = (
    "The target is the full model's likeliest next token, or the one that was given, in both models. The noise floor is"
    " the rank correlation of two maps of the full model that differ in the method's own chance alone: drift within it"
    " is no drift."
)


def drift(
    loaded: LoadedModel,
    *,
    prompts: Sequence[str],
    method: str = "integrated_gradients",
    target: str | None = None,
    contrast: str | None = None,
    options: Mapping[str, Any] | None = None,
    top_k: int = TOP_K,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """How far the reasons for a next token move when the weights are quantized, prompt by prompt.

    Args:
        loaded: the model.
        prompts: texts.
        method: attribution method.
        target: next token, the full model's likeliest after each prompt when not given.
        contrast: explain the target rather than this.
        options: of the method.
        top_k: tokens whose overlap and signs are counted.
        scheme: quantizes all matrices; without it and a plan the model is compared with itself.
        plan: the same by a plan.
        calibration: text for quantizers that read one.
        context: what the process shares.

    Raises:
        WorkbenchError: no prompt, a prompt that cannot be explained, or a method that refuses.
    """
    chosen = attribution.get(method)
    settings = chosen.parse_options(options)
    if not prompts or top_k < 1:
        raise WorkbenchError(f"{len(prompts)} prompts were given and top_k is {top_k}; both must be at least 1")
    other = another_draw(chosen, settings)
    assignment, seen = assigned(loaded, scheme, plan, calibration)
    work = PromptWork(Wanted(method, settings, other, target, contrast, top_k), assignment, seen)
    rows = yield from work.rows(loaded, prompts, context or Context())
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "method": method,
        "options": settings,
        "other_options": other,
        "top_k": top_k,
        "prompts": rows,
        "mean": means(rows),
        "note": NOTE,
    }
    return Result(document, tables(rows))


def another_draw(method: Method, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options with the next seed, or half as many nodes again (fewer at the limit); None without chance."""
    known = {option.name: option for option in method.options}
    if "seed" in known:
        return {**settings, "seed": settings["seed"] + 1}
    if "nodes" not in known:
        return None
    nodes, most = settings["nodes"], known["nodes"].maximum
    more = nodes + max(1, nodes // 2)
    return {**settings, "nodes": more if most is None or more <= most else nodes - max(1, nodes // 3)}


def ask(
    loaded: LoadedModel,
    text: str,
    target: str | None,
    contrast: str | None,
    method: Method,
    settings: Mapping[str, Any],
    other: Mapping[str, Any] | None,
) -> Asked:
    """One prompt to explain by one method; `other` are the options of another draw, None for no chance."""
    adapter, read, aim = explained(loaded, text, target, contrast)
    again = None if other is None else Question(adapter, read.ids, aim, method, other)
    return Asked(Question(adapter, read.ids, aim, method, settings), read, again)


def sides(asked: Sequence[Asked], whose: str) -> Steps[list[Side]]:
    """Every prompt's map in the model as it is now."""
    found = []
    for done, one in enumerate(asked):
        yield Progress(done, len(asked), f"{one.question.method.name} of prompt {done + 1} in {whose}")
        found.append(Side(one.question.answer(), one.question.adapter.predict(one.read.ids)))
    return found


def noise_floors(asked: Sequence[Asked], full: Sequence[Side], top_k: int) -> Steps[list[dict[str, float | None]]]:
    """How far every prompt's map and another draw of it agree, and their `l1`; 1 and 0 for a method without chance."""
    floors: list[dict[str, float | None]] = []
    for done, (one, side) in enumerate(zip(asked, full, strict=True)):
        yield Progress(done, len(asked), f"noise floor of prompt {done + 1}")
        if one.again is None:
            floors.append({**dict.fromkeys(MEASURES, 1.0), "l1": 0.0})
            continue
        free = free_tokens(side.map, one.read)
        draws = side.map.scores[free], one.again.answer().scores[free]
        agreed = pair(*draws, signed=one.question.method.signed, top_k=top_k)
        floors.append({**agreed, "l1": l1_distance(*draws)})
    return floors
