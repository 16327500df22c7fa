"""Which map to believe: several methods on one prompt, held against what the model does when tokens are removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import BaselineName
from workbench.attribution.result import Attribution
from workbench.attribution.targets import Target, parse_target
from workbench.attribution.tokens import Prompt
from workbench.attribution.verbalise import verbalise
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.progress import Progress, Steps, within
from workbench.registry import attribution
from workbench.results import Result
from workbench.studies.attribute import ask as pose
from workbench.studies.attribute import quantized_weights
from workbench.studies.context import Context
from workbench.studies.map_checks import Question, baseline_sensitivity, class_spearman, randomised_spearman
from workbench.studies.map_scores import Groups, Judge
from workbench.studies.map_verdict import Verdict, verdict
from workbench.studies.removal import Measure, Removal, marked_units, read_choice

TOP_K = 3


def compare_attribution(
    loaded: LoadedModel,
    *,
    prompt: str,
    methods: Sequence[str],
    target: str | None = None,
    contrast: str | None = None,
    explain: Sequence[int] | None = None,
    chat: bool = False,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    group: Sequence[str] | None = None,
    other_group: Sequence[str] | None = None,
    marked: Sequence[str | Sequence[int]] | None = None,
    baseline: str = "auto",
    measure: str = "target",
    orders: int = 20,
    top_k: int = TOP_K,
    seed: int = 0,
    checks: bool = True,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Faithfulness of each method's map, and how far the maps agree.

    Curves follow what the maps explain: a map of the logit held against the log-probability can lose to random orders
    although it is faithful, because removing a token moves all logits together (on the embedded model the two give
    opposite verdicts). Comprehensiveness, sufficiency and the metrics of groups follow the probability. A method that
    refuses this model is listed with its reason and left out.

    Args as of `attribute`, and:
        methods: names of attribution methods.
        options: method name -> its options.
        group: next tokens that belong together, group A of RFxG, written as targets are; `other_group` is group B.
        marked: parts of the prompt that a person thinks count, for plausibility: a text stands for its first
            occurrence, two numbers for a span of tokens (the first, and one past the last).
        baseline: what a removed token is replaced by.
        measure: what curves follow: the target as it was asked for, its log-probability or its probability.
        orders: random orders; `seed` is theirs and that of the shuffled weights.
        top_k: tokens whose overlap is counted.
        checks: also run each method on shuffled weights and on the least likely token, and compare baselines.
        scheme: maps and removals are then of the quantized model; so with a `plan`.

    Raises:
        WorkbenchError: an unknown method or option, a text that is no token, or no method works on this model.
    """
    if orders < 2 or top_k < 1:
        raise WorkbenchError(f"orders has value {orders} and top_k {top_k}; give at least 2 and 1")
    follow = read_choice("measure of removal", measure, Measure)
    filling = read_choice("baseline", baseline, BaselineName)
    posed = pose(loaded, prompt, target, contrast, explain=explain, chat=chat)
    adapter, read, aim = posed.adapter, posed.prompt, posed.target
    questions = ask(adapter, read, aim, methods, options)
    groups = _groups(adapter, read, group, other_group)
    weights = yield from within(quantized_weights(loaded, scheme, plan, calibration, context or Context()), 0.0, 0.2)
    with overlay(loaded.model, weights) if weights is not None else nullcontext():
        removal = Removal(adapter, read.ids, aim, (*groups.group, *groups.other), filling)
        human = marked_units(read.offsets, read.text, marked, removal.places) if marked else None
        judge = Judge(removal, groups, human, orders, seed, follow)
        maps, refused = yield from within(answer_all(questions), 0.2, 0.35)
        rows = yield from within(_rows(judge, questions, maps, read, aim), 0.35, 0.75)
        baselines: list[dict[str, Any]] = []
        if checks:
            yield from within(_check(loaded, questions, maps, rows, removal, seed), 0.75, 0.95)
            yield Progress(0.95, 1.0, "baselines")
            baselines = baseline_sensitivity(adapter, read.ids, aim, removal.places, top_k)
    return verdict(Verdict(loaded.identity, read, aim, judge, maps, rows, refused, baselines, top_k))


def ask(
    adapter: Adapter,
    read: Prompt,
    target: Target,
    methods: Sequence[str],
    options: Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, Question]:
    """A question for each method, in the order given.

    Raises:
        WorkbenchError: no method, an unknown one, or options of a method that is not among them.
    """
    names = list(dict.fromkeys(methods))
    if not names:
        raise WorkbenchError("no attribution method was given; give one or more, separated by commas")
    chosen = {name: attribution.get(name) for name in names}
    for name in options or {}:
        if name not in chosen:
            raise WorkbenchError(f"options were given for {name[:80]!r}, which is not among: {', '.join(names)}")
    settings = {name: method.parse_options((options or {}).get(name)) for name, method in chosen.items()}
    return {name: Question(adapter, read.ids, target, chosen[name], settings[name]) for name in names}


def _token_ids(adapter: Adapter, read: Prompt, texts: Sequence[str] | None) -> Iterator[int]:
    """The next token that each text means."""
    for text in texts or ():
        yield parse_target(adapter, read, text).token_ids[0]


def _groups(adapter: Adapter, read: Prompt, group: Sequence[str] | None, other_group: Sequence[str] | None) -> Groups:
    """Both groups; a token that stands in both is refused before anything is computed."""
    groups = Groups(*(tuple(_token_ids(adapter, read, texts)) for texts in (group, other_group)))
    if set(groups.group) & set(groups.other):
        raise WorkbenchError("the two groups have a token in common; a token can be in one of them only")
    return groups


def answer_all(questions: Mapping[str, Question]) -> Steps[tuple[dict[str, Attribution], list[dict[str, str]]]]:
    """The map of each method that works on this model, and why the others do not.

    Raises:
        WorkbenchError: the reason of the first, where none works.
    """
    maps: dict[str, Attribution] = {}
    refused = []
    for done, (name, question) in enumerate(questions.items()):
        yield Progress(done, len(questions), f"{name} of {question.ids.shape[1]} tokens")
        try:
            maps[name] = question.answer()
        except WorkbenchError as error:
            refused.append({"name": name, "reason": str(error)})
    if not maps:
        raise WorkbenchError(refused[0]["reason"])
    return maps, refused


def _rows(
    judge: Judge, questions: Mapping[str, Question], maps: Mapping[str, Attribution], read: Prompt, target: Target
) -> Steps[dict[str, dict[str, Any]]]:
    """What each map is worth, and in words."""
    yield from within(judge.prepare(), 0.0, 0.6)
    rows = {}
    for done, (name, found) in enumerate(maps.items()):
        signed = questions[name].method.signed
        steps = judge.judge(found.scores, signed=signed)
        numbers = yield from within(steps, 0.6 + 0.4 * done / len(maps), 0.6 + 0.4 * (done + 1) / len(maps))
        sentences = list(verbalise(read.tokens, found, target.label, signed=signed))
        facts = {"name": name, "signed": signed, "options": dict(questions[name].settings), "sentences": sentences}
        rows[name] = {**facts, **numbers}
    return rows


def _check(
    loaded: LoadedModel,
    questions: Mapping[str, Question],
    maps: Mapping[str, Attribution],
    rows: Mapping[str, dict[str, Any]],
    removal: Removal,
    seed: int,
) -> Steps[None]:
    """Add what each map has in common with that of shuffled weights and of the least likely token."""
    for done, (name, found) in enumerate(maps.items()):
        yield Progress(done, len(maps), f"{name} with shuffled weights")
        question = questions[name]
        rows[name]["randomised_spearman"] = randomised_spearman(loaded, question, found.scores, removal.places, seed)
        yield Progress(done + 0.5, len(maps), f"{name} of the least likely token")
        rows[name]["class_spearman"] = class_spearman(question, found.scores, removal.places)
