"""Which tokens and words of a text are not those of another one, aligned so that what is inserted shifts nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import groupby, takewhile
from typing import Any

_WORD = re.compile(r"\s*\S+|\s+$")


def changed(reference: Sequence[Any], other: Sequence[Any]) -> list[bool]:
    """For every item of `other` whether it has no counterpart in the reference."""
    matcher = SequenceMatcher(None, reference, other, autojunk=False)
    same = {place for block in matcher.get_matching_blocks() for place in range(block.b, block.b + block.size)}
    return [place not in same for place in range(len(other))]


def changed_words(reference: str, text: str) -> list[dict[str, Any]]:
    """The text in pieces `{"text", "changed", "words"}` that join to it; neighbours of one kind are one piece.

    Blanks in front of a word belong to it and are not compared.
    """
    words = _WORD.findall(text)
    flags = changed(*([word.strip() for word in one] for one in (_WORD.findall(reference), words)))
    pieces = []
    for flag, run in groupby(zip(flags, words, strict=True), key=lambda item: item[0]):
        held = [word for _, word in run]
        count = sum(bool(word.strip()) for word in held)
        pieces.append({"text": "".join(held), "changed": flag and count > 0, "words": count})
    return pieces


def same_start(reference: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items at the beginning are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reference, other, strict=False)))
