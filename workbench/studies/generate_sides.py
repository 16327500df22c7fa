"""One model's side of a comparison: its text beside the full model's, its speed, its size, its reasons."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any

import transformers

from workbench.attribution.tokens import Prompt
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.progress import Steps, within
from workbench.quantizers.driver import Quantized
from workbench.studies.drift import TOP_K, noise_floors, sides
from workbench.studies.drift_rows import Asked, Floor, Side, row
from workbench.studies.packed_run import held_bytes, packed_model, stored_bytes
from workbench.studies.text_changes import changed, changed_words, same_start
from workbench.studies.writing import Wish, Written, write

FULL = "full precision"
RUNS, WARM_TOKENS = 3, 4
TIMED_FOR = 10.0
"""Seconds after which no further timed run of a model is begun."""


@dataclass(frozen=True)
class Task:
    """What every choice is asked for."""

    loaded: LoadedModel
    read: Prompt
    wish: Wish
    asked: Asked


@dataclass(frozen=True)
class First:
    """The full model's answer, which others are held against."""

    written: Written
    text: str
    side: Side
    floor: Floor


def full_side(task: Task) -> Steps[tuple[First, dict[str, Any]]]:
    """The full model: what others are held against, and its facts."""
    model = task.loaded.model
    written = yield from within(write(model, task.read.ids, task.wish, f"{FULL} writes"), 0.0, 0.3)
    speeds = yield from within(_speeds(model, task), 0.3, 0.8)
    side = (yield from within(sides([task.asked], "the full model"), 0.8, 0.9))[0]
    floor = (yield from within(noise_floors([task.asked], [side], TOP_K), 0.9, 1.0))[0]
    first = First(written, _new_text(task, written.ids), side, floor)
    sizes = {"stored_bytes": stored_bytes(task.loaded, {}), "memory_bytes": held_bytes(model)}
    return first, {**_text(task, first, written), **sizes, "packed": False, **_speed(speeds), "reasons": None}


def other_side(task: Task, first: First, quantized: Quantized, label: str) -> Steps[dict[str, Any]]:
    """One choice: its text and map from the dense values, its speed and size from packed codes where there are."""
    model, weights = task.loaded.model, quantized.weights
    with overlay(model, quantized.dense()):
        written = yield from within(write(model, task.read.ids, task.wish, f"{label} writes"), 0.0, 0.3)
        side = (yield from within(sides([task.asked], label), 0.3, 0.4))[0]
    small = packed_model(task.loaded, weights)
    runs = model if small is None else small
    with nullcontext() if small is not None else overlay(model, quantized.dense()):
        if small is not None:
            warm = dataclasses.replace(task.wish, new_tokens=min(WARM_TOKENS, task.wish.new_tokens))
            yield from within(write(runs, task.read.ids, warm, "warming up"), 0.4, 0.5)
        speeds = yield from within(_speeds(runs, task), 0.5, 1.0)
    sizes = {"stored_bytes": stored_bytes(task.loaded, weights), "memory_bytes": held_bytes(runs)}
    reasons = row(0, task.asked, first.side, side, first.floor, TOP_K)
    return {
        **_text(task, first, written),
        **sizes,
        "packed": small is not None,
        **_speed(speeds),
        "reasons": reasons,
    }


def _speeds(model: transformers.PreTrainedModel, task: Task) -> Steps[list[float]]:
    """Tokens a second of some runs; the model has run before."""
    found: list[float] = []
    until = time.perf_counter() + TIMED_FOR
    while len(found) < RUNS and (not found or time.perf_counter() < until):
        steps = write(model, task.read.ids, task.wish, "measuring speed")
        found.append((yield from within(steps, len(found) / RUNS, (len(found) + 1) / RUNS)).speed)
    return found


def _speed(speeds: Sequence[float]) -> dict[str, Any]:
    return {"tokens_per_second": median(speeds), "runs": list(speeds)}


def _new_text(task: Task, ids: Sequence[int]) -> str:
    """What new tokens add to the prompt: some tokenizers drop the blank in front of a text that is decoded alone."""
    tokenizer = task.loaded.tokenizer
    before = task.read.ids[0].tolist()
    head, whole = (str(tokenizer.decode(one, skip_special_tokens=True)) for one in (before, [*before, *ids]))
    return whole[len(head) :] if whole.startswith(head) else str(tokenizer.decode(list(ids), skip_special_tokens=True))


def _text(task: Task, first: First, written: Written) -> dict[str, Any]:
    """The text beside the full model's."""
    text = _new_text(task, written.ids)
    pieces = changed_words(first.text, text)
    vocabulary = task.asked.question.adapter.vocabulary
    return {
        "text": text,
        "ids": written.ids,
        "tokens": [vocabulary.text(index) for index in written.ids],
        "changed": changed(first.written.ids, written.ids),
        "pieces": pieces,
        "words": sum(piece["words"] for piece in pieces),
        "changed_words": sum(piece["words"] for piece in pieces if piece["changed"]),
        "same_start": same_start(first.written.ids, written.ids),
    }
