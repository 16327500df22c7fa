"""Named parts of a prompt: fields of a template that a person fills in, or texts that stand in it.

`{name}` in the prompt is replaced by the text of the slot of that name, wherever it stands; a slot without a field is
the first place where its text stands. Braces that name no slot stay as they are. Left out: nested fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from workbench.attribution.tokens import Prompt
from workbench.errors import WorkbenchError, shown


@dataclass(frozen=True, slots=True)
class Slot:
    """A part of a text, from the character `start` up to `stop`."""

    name: str
    text: str
    start: int
    stop: int


def fill(prompt: str, slots: Mapping[str, Any] | None) -> tuple[str, list[Slot]]:
    """The prompt with its fields filled in, and where its slots stand, in the order of the text.

    Raises:
        WorkbenchError: these are no slots, one has no name or no text, neither a field nor its text is in the prompt,
            or two overlap.
    """
    if slots is not None and not isinstance(slots, Mapping):
        raise WorkbenchError(f"slots has value {shown(slots)}; give names with their texts")
    given = dict(slots or {})
    for name, text in given.items():
        if not name or not isinstance(text, str) or not text:
            raise WorkbenchError(f"the slot {shown(name)} has value {shown(text)}; give a name and a text")
    found: list[Slot] = []
    parts: list[str] = []
    length = 0
    for number, part in enumerate(_split(prompt, given)):
        text = given[part] if number % 2 else part
        if number % 2:
            found.append(Slot(part, text, length, length + len(text)))
        parts.append(text)
        length += len(text)
    filled = "".join(parts)
    known = {slot.name for slot in found}
    found += [_standing(filled, name, text) for name, text in given.items() if name not in known]
    found.sort(key=lambda slot: slot.start)
    for first, second in pairwise(found):
        if second.start < first.stop:
            raise WorkbenchError(f"the slots {shown(first.name)} and {shown(second.name)} overlap; take them apart")
    return filled, found


def slot_ranges(prompt: Prompt, slots: list[Slot]) -> list[tuple[Slot, int, int]]:
    """The tokens of each slot, first and one past the last; a token that holds two slots belongs to the first.

    Raises:
        WorkbenchError: the tokenizer cannot tell where its tokens stand, or a slot has no token left to itself.
    """
    if slots and prompt.offsets is None:
        raise WorkbenchError("this tokenizer cannot tell where its tokens stand in the prompt; leave out slots")
    found: list[tuple[Slot, int, int]] = []
    taken = 0
    for slot in slots:
        start, stop = slot.start + prompt.shift, slot.stop + prompt.shift
        inside = [
            place
            for place, (first, last) in enumerate(prompt.offsets or ())
            if place >= taken and first < stop and last > start and not prompt.closed[place]
        ]
        if not inside:
            raise WorkbenchError(
                f"the slot {shown(slot.name)} has no token of its own: it was cut, or shares one with another slot"
            )
        taken = inside[-1] + 1
        found.append((slot, inside[0], taken))
    return found


def _split(prompt: str, slots: Mapping[str, str]) -> list[str]:
    """Text, name of a field, text, name, ..., text."""
    if not slots:
        return [prompt]
    names = "|".join(re.escape(name) for name in sorted(slots, key=len, reverse=True))
    return re.split(rf"\{{({names})\}}", prompt)


def _standing(prompt: str, name: str, text: str) -> Slot:
    """The slot where its text stands already."""
    start = prompt.find(text)
    if start < 0:
        raise WorkbenchError(
            f"the slot {shown(name)} is not in the prompt: neither the field {{{name[:80]}}} nor its text {shown(text)}"
        )
    return Slot(name, text, start, start + len(text))
