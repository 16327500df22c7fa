"""Would anybody notice? What the full model and quantized ones write, and what each of them takes and loses."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from workbench.attribution.adapter import Adapter
from workbench.attribution.tokens import encode
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.progress import Steps, within
from workbench.registry import attribution
from workbench.results import Result
from workbench.scheme import UNTOUCHED
from workbench.studies.choice import quantize_assignment, read_assignment, reads_calibration
from workbench.studies.context import Context
from workbench.studies.drift import TOP_K, another_draw, ask
from workbench.studies.generate_sides import FULL, Task, full_side, other_side
from workbench.studies.texts import calibration_windows
from workbench.studies.tradeoff import tradeoff
from workbench.studies.writing import Wish, end_tokens

NEW_TOKENS, CHOICES_AT_MOST = 48, 8
NOTE = (
    "Texts are written by the values that the codes stand for. Speed is the median of runs after a first one that does"
    " not count, from packed codes where the kernels multiply by them, else from those values as a dense model. Stored"
    " is what a file holds: packed codes with their scales, everything else at 16 bits. In memory is what the weights"
    " took while speed was measured."
)


def generate(
    loaded: LoadedModel,
    *,
    prompt: str,
    choices: Sequence[Mapping[str, Any]],
    new_tokens: int = NEW_TOKENS,
    temperature: float = 0.0,
    seed: int = 0,
    method: str = "linearised",
    text: str | None = None,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Let the full model and every choice continue a prompt, and hold size, speed, quality and reasons side by side.

    Args:
        loaded: the model.
        prompt: the text; of one that leaves no room for the new tokens the beginning is cut, which the notes say.
        choices: `{"label", "scheme"}` or `{"label", "plan"}` each; the full model always stands before them.
        new_tokens: most tokens that are written.
        temperature: 0 takes the likeliest token, more draws one; all models share the draws.
        seed: of the draws.
        method: attribution method that tells the reasons for the token after the prompt.
        text: what perplexity is measured on, as of `tradeoff`.
        calibration: as of `tradeoff`.
        tokens: as of `tradeoff`.
        window: as of `tradeoff`.
        context: what the process shares.

    Raises:
        WorkbenchError: no choice or more than 8, one that is not of this model, or a prompt that cannot be read.
    """
    context = context or Context()
    if not 1 <= len(choices) <= CHOICES_AT_MOST:
        raise WorkbenchError(f"{len(choices)} choices were given; give 1 to {CHOICES_AT_MOST}")
    task = _pose(loaded, prompt, Wish(new_tokens, temperature, seed, end_tokens(loaded)), method)
    measured = {"text": text, "calibration": calibration, "tokens": tokens, "window": window}
    quality = (yield from within(tradeoff(loaded, points=choices, **measured, context=context), 0.0, 0.4)).document
    rows = yield from within(_rows(task, choices, quality, measured, context), 0.4, 1.0)
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "prompt": prompt,
        "new_tokens": new_tokens,
        "temperature": temperature,
        "seed": seed,
        "method": method,
        "top_k": TOP_K,
        "text": quality["text"],
        "device": {
            "name": str(loaded.model.device),
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
        },
        "notes": list(task.read.notes),
        "note": NOTE,
        "choices": rows,
    }
    return Result(document, {"choices": _table(rows)})


def _pose(loaded: LoadedModel, prompt: str, wish: Wish, method: str) -> Task:
    """Prompt and question, refused before anything is computed."""
    chosen = attribution.get(method)
    settings = chosen.parse_options(None)
    adapter = Adapter(loaded.model, loaded.tokenizer, loaded.context)
    room = loaded.context - wish.new_tokens
    if room < 1:
        raise WorkbenchError(
            f"new tokens has value {wish.new_tokens}; model {loaded.identity.id!r} reads at most {loaded.context} "
            "tokens, prompt included"
        )
    read = encode(adapter.vocabulary, prompt, room, cut=True)
    return Task(loaded, read, wish, ask(loaded, prompt, None, None, chosen, settings, another_draw(chosen, settings)))


def _rows(
    task: Task,
    choices: Sequence[Mapping[str, Any]],
    quality: Mapping[str, Any],
    measured: Mapping[str, Any],
    context: Context,
) -> Steps[list[dict[str, Any]]]:
    """The full model and every choice, each with what it was measured to lose."""
    loaded, share = task.loaded, 1.0 / (1 + len(choices))
    assignments = [read_assignment(loaded, one.get("scheme"), one.get("plan")) or {} for one in choices]
    read = any(reads_calibration(one) for one in assignments)
    seen = None
    if read:
        seen = calibration_windows(loaded, measured["calibration"], measured["tokens"], measured["window"])
    first, facts = yield from within(full_side(task), 0.0, share)
    rows = [{"label": FULL, **facts, **_quality(quality["reference"])}]
    for place, (point, assignment) in enumerate(zip(quality["points"], assignments, strict=True), start=1):
        start, middle, stop = ((place + part) * share for part in (0.0, 0.2, 1.0))
        quantized = yield from within(quantize_assignment(loaded, assignment, seen, context), start, middle)
        facts = yield from within(other_side(task, first, quantized, point["label"]), middle, stop)
        rows.append({"label": point["label"], **facts, **_quality(point)})
    return rows


def _quality(point: Mapping[str, Any]) -> dict[str, Any]:
    """The measured quality; the full model is no distance from itself."""
    itself = {"stored_bits": float(UNTOUCHED), "delta_loss": 0.0, "delta_standard_error": 0.0}
    itself |= {"kl_mean": 0.0, "top1_agreement": 1.0}
    names = ("perplexity", "loss", "standard_error", *itself)
    return {name: point.get(name, itself.get(name)) for name in names}


def _table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    names = (
        "label", "stored_bits", "stored_bytes", "memory_bytes", "tokens_per_second", "perplexity", "delta_loss",
        "delta_standard_error", "words", "changed_words",
    )  # fmt: skip
    return pd.DataFrame([{name: one[name] for name in names} for one in rows])
