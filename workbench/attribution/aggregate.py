"""Scores of tokens gathered into those of words, sentences or slots, and tokens that are no part of the question.

Signed scores of a unit are added, so that whatever the tokens add up to the units add up to as well. Sizes without a
sign do not add up to anything; the largest counts, lest a long unit win by its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.result import Attribution
from workbench.attribution.slots import Slot, slot_ranges
from workbench.attribution.spans import range_texts, ranges
from workbench.attribution.tokens import Prompt
from workbench.errors import WorkbenchError, unknown

Granularity = Literal["token", "word", "sentence", "slot"]
Gathering = Literal["sum", "max", "mean"]
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Units:
    """A prompt cut at every scale.

    Attributes:
        spans: scale -> runs of tokens, first and one past the last; each scale holds every token once, but slots hold
            nothing where there are none. Control tokens stand alone.
        slots: the slots with their tokens.
    """

    spans: dict[Granularity, list[Range]]
    slots: list[tuple[Slot, int, int]]


def cut(adapter: Adapter, prompt: Prompt, slots: list[Slot]) -> Units:
    """The units of a prompt; between slots the rest is a unit each time, parted at control and fixed tokens.

    Raises:
        WorkbenchError: a slot has no tokens.
    """
    placed = slot_ranges(prompt, slots)
    spans: dict[Granularity, list[Range]] = {
        scale: ranges(adapter, prompt.ids, scale) for scale in ("token", "word", "sentence")
    }
    spans["slot"] = _between(prompt, placed) if placed else []
    return Units(spans, placed)


def settle(found: Attribution, fixed: Sequence[bool]) -> Attribution:
    """A map in which fixed tokens score 0, as they do by construction where a method replaces tokens.

    Methods that replace nothing give them scores; what those were in all is kept beside the others.
    """
    if not any(fixed):
        return found
    mask = torch.tensor(fixed)
    rest = float(found.scores[mask].sum())
    held = found.held_fixed or (False,) * len(fixed)
    return replace(
        found,
        scores=found.scores.masked_fill(mask, 0.0),
        held_fixed=tuple(one or other for one, other in zip(held, fixed, strict=True)),
        held_score=rest if rest else None,
        notes=(*found.notes, *_about_held(rest, sum(fixed))),
    )


def gathering(name: str | None, signed: bool) -> Gathering:
    """How scores are gathered: as it was asked for, else added where they have a sign and the largest where not.

    Raises:
        WorkbenchError: another word.
    """
    if name is None:
        return "sum" if signed else "max"
    if name not in get_args(Gathering):
        raise unknown("way to gather scores", name, get_args(Gathering))
    return cast(Gathering, name)


def check_granularity(name: str | None, slots: Sequence[Slot]) -> Granularity | None:
    """The scale by its name.

    Raises:
        WorkbenchError: another word, or slots are asked for and none are given.
    """
    if name is not None and name not in get_args(Granularity):
        raise unknown("granularity", name, get_args(Granularity))
    if name == "slot" and not slots:
        raise WorkbenchError("granularity has value 'slot', and no slots were given; name a part of the prompt as one")
    return cast(Granularity | None, name)


def gather(scores: Float64[Tensor, " tok"], cuts: Sequence[Range], how: Gathering) -> Float64[Tensor, " unit"]:
    """The score of each run of tokens; `max` keeps the sign of the largest size."""
    found = scores.new_zeros(len(cuts))
    for place, (first, stop) in enumerate(cuts):
        part = scores[first:stop]
        if how == "max":
            found[place] = part[part.abs().argmax()]
        else:
            found[place] = part.sum() if how == "sum" else part.mean()
    return found


def unit_rows(
    adapter: Adapter, prompt: Prompt, units: Units, scale: Granularity, scores: Float64[Tensor, " tok"], how: Gathering
) -> list[dict[str, Any]]:
    """The units of one scale in order: text, start, end (one past the last token), score, and the name of a slot."""
    cuts = units.spans[scale]
    names = {start: slot.name for slot, start, _ in units.slots} if scale == "slot" else {}
    texts = range_texts(adapter, prompt.ids, cuts)
    values = gather(scores, cuts, how).tolist()
    return [
        {"text": text, "start": first, "end": stop, "score": value, "slot": names.get(first)}
        for text, (first, stop), value in zip(texts, cuts, values, strict=True)
    ]


def _between(prompt: Prompt, placed: Sequence[tuple[Slot, int, int]]) -> list[Range]:
    """Slots, and the runs of other tokens around them."""
    kind: list[object] = [
        ("control", place) if special else fixed
        for place, (special, fixed) in enumerate(zip(prompt.special, prompt.closed, strict=True))
    ]
    for number, (_, start, stop) in enumerate(placed):
        kind[start:stop] = [("slot", number)] * (stop - start)
    starts = [place for place in range(len(kind)) if not place or kind[place] != kind[place - 1]]
    return list(zip(starts, [*starts[1:], len(kind)], strict=True))


def _about_held(rest: float, count: int) -> tuple[str, ...]:
    if not rest:
        return ()
    fixed, them = ("the fixed token is", "it") if count == 1 else (f"the {count} fixed tokens are", "them")
    return (f"{fixed} shown with 0; this method would give {them} {rest:.4g} in all",)
