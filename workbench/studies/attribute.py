"""Which input tokens matter for what comes next, in the full model or in a quantized one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from workbench.attribution import aggregate
from workbench.attribution.adapter import Adapter
from workbench.attribution.chat import encode_chat
from workbench.attribution.questions import Posed, pose
from workbench.attribution.result import Attribution
from workbench.attribution.slots import fill
from workbench.attribution.targets import Target, top_tokens
from workbench.attribution.tokens import Prompt
from workbench.errors import WorkbenchError
from workbench.model.encoder import LoadedEncoder
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.model.texts import Windows
from workbench.progress import Progress, Steps, within
from workbench.registry import attribution
from workbench.results import Result
from workbench.studies.attribute_document import Answer, to_result
from workbench.studies.choice import Assignment, quantize_assignment, read_assignment, reads_calibration
from workbench.studies.context import Context
from workbench.studies.encoder_question import ask_encoder, likeliest_of, refuse_next_token
from workbench.studies.texts import calibration_windows

LIKELIEST = 10


def attribute(
    loaded: LoadedModel,
    *,
    prompt: str,
    method: str = "integrated_gradients",
    target: str | None = None,
    contrast: str | None = None,
    explain: Sequence[int] | None = None,
    chat: bool = False,
    second: str | None = None,
    slots: Mapping[str, str] | None = None,
    granularity: str | None = None,
    aggregation: str | None = None,
    options: Mapping[str, Any] | None = None,
    scheme: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    calibration: str | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Score every token of a prompt with one method.

    Without a target the full model's most likely next token is explained, also in a quantized model, so that the two
    maps answer the same question.

    Args:
        loaded: the model.
        prompt: the text; one that is too long for the model loses its beginning, which the notes say.
        method: attribution method.
        target: what is explained, as of `attribution.questions.pose`.
        contrast: explain the target rather than this.
        explain: first token of the prompt and the one past the last whose summed log-probability is explained, by the
            tokens before them; those after them are cut.
        chat: the prompt is a user's turn, in the tokenizer's chat template, whose tokens are held fixed.
        second: of an encoder the second text, as of `encoder_question.ask_encoder`.
        slots: named parts of the prompt, as of `attribution.slots.fill`.
        granularity: also give the scores of units: `token`, `word`, `sentence` or `slot`.
        aggregation: how a unit's score is made of its tokens': `sum`, `max` or `mean`; the sum of signed scores, else
            the largest, when not given.
        options: of the method.
        scheme: quantizes all matrices.
        plan: the same by a plan.
        calibration: text for quantizers that read one.
        context: what the process shares.

    Raises:
        WorkbenchError: something is asked for that is not there, or the method refuses.
    """
    context = context or Context()
    chosen = attribution.get(method)
    settings = chosen.parse_options(options)
    filled, placed = fill(prompt, slots)
    scale = aggregate.check_granularity(granularity, placed)
    aggregate.gathering(aggregation, chosen.signed)  # a wrong word is refused before anything is computed
    if isinstance(loaded, LoadedEncoder):
        refuse_next_token({"explain": explain, "chat": chat})
    posed = ask(loaded, filled, target, contrast, explain=explain, chat=chat, second=second)
    adapter, ids = posed.adapter, posed.prompt.ids
    units = aggregate.cut(adapter, posed.prompt, placed)
    weights = yield from within(quantized_weights(loaded, scheme, plan, calibration, context), 0.0, 0.4)
    yield Progress(0.4, 1.0, f"{method} of {len(posed.prompt.tokens)} tokens")
    with overlay(adapter.model, weights) if weights is not None else nullcontext():
        started = time.perf_counter()
        found: Attribution = aggregate.settle(chosen(adapter, ids, posed.target, **settings), posed.prompt.fixed)
        seconds = time.perf_counter() - started
        likeliest = _likeliest(loaded, posed)
    signed = chosen.signed if found.signed is None else found.signed
    how = aggregate.gathering(aggregation, signed)
    answer = Answer(posed, found, units, signed, likeliest, seconds, quantized=weights is not None)
    asked = {"prompt": prompt, "explain": None if explain is None else list(explain), "chat": chat, "second": second}
    return to_result(loaded.identity, answer, {**asked, "method": method, "options": settings}, scale, how)


def quantized_weights(
    loaded: LoadedModel,
    scheme: Mapping[str, Any] | None,
    plan: Mapping[str, Any] | None,
    calibration: str | None,
    context: Context,
) -> Steps[Mapping[str, Any] | None]:
    """The dense weights of a choice of quantization, None for the full model."""
    assignment, windows = assigned(loaded, scheme, plan, calibration)
    if assignment is None:
        return None
    return (yield from quantize_assignment(loaded, assignment, windows, context)).dense()


def assigned(
    loaded: LoadedModel, scheme: Mapping[str, Any] | None, plan: Mapping[str, Any] | None, calibration: str | None
) -> tuple[Assignment | None, Windows | None]:
    """A choice of quantization, None for the full model, and the calibration text where a quantizer reads one.

    Raises:
        WorkbenchError: a bad choice, or an encoder and a quantizer that reads a text.
    """
    assignment = read_assignment(loaded, scheme, plan)
    if not reads_calibration(assignment):
        return assignment, None
    if isinstance(loaded, LoadedEncoder):
        raise WorkbenchError(
            f"model {loaded.identity.id!r} is an encoder, and quantizers that read a calibration text are run on"
            " language models; choose one that reads none, such as rtn"
        )
    return assignment, calibration_windows(loaded, calibration, None, None)


def ask(
    loaded: LoadedModel,
    prompt: str,
    target: str | None,
    contrast: str | None,
    *,
    explain: Sequence[int] | None = None,
    chat: bool = False,
    second: str | None = None,
) -> Posed:
    """The model, the sequence and what is to be explained, chosen on the full model; keywords as of `attribute`."""
    if isinstance(loaded, LoadedEncoder):
        return ask_encoder(loaded, prompt, target, contrast, second)
    if second is not None:
        raise WorkbenchError(f"a second text was given; model {loaded.identity.id!r} is no encoder and reads one text")
    adapter = Adapter(loaded.model, loaded.tokenizer, loaded.context)
    if chat:
        read = encode_chat(adapter.vocabulary, prompt, adapter.context, cut=True)
    else:
        read = adapter.encode(prompt, cut=True)
    return pose(adapter, read, target or "", contrast, explain)


def _likeliest(loaded: LoadedModel, posed: Posed) -> list[dict[str, Any]]:
    """What the model, as it is now, answers: next tokens, or the outputs of an encoder."""
    if isinstance(loaded, LoadedEncoder):
        return likeliest_of(loaded, posed)
    return top_tokens(posed.adapter, posed.adapter.predict(posed.prompt.ids), LIKELIEST)


def explained(
    loaded: LoadedModel, prompt: str, target: str | None, contrast: str | None
) -> tuple[Adapter, Prompt, Target]:
    """The adapter, the prompt as tokens (of a continuation its tokens too), and what is to be explained."""
    posed = ask(loaded, prompt, target, contrast)
    return posed.adapter, posed.prompt, posed.target
