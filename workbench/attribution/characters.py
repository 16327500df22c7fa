"""Which characters tokens are made of, where a character may be spread over several of them, and what kind each is."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

Sort = Literal["letter", "symbol", "mark"]
"""Letters and digits; pictures such as emoji; all other marks."""

APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"
JOINER = "\N{ZERO WIDTH JOINER}"
JOINING = JOINER + "\N{ZERO WIDTH NON-JOINER}"
SKIN_TONES = range(0x1F3FB, 0x1F400)
BROKEN = range(0xDC80, 0xDD00)
"""How Python writes bytes that are no character when it is told to keep them."""


def written(parts: Sequence[bytes]) -> list[tuple[str, bool]]:
    """The characters that begin in each part of a text, and whether the part begins inside a character.

    Bytes that are no character (a text that was cut in the middle of one) stand alone, as code points of `BROKEN`.
    """
    stops = list(accumulate(map(len, parts)))
    found = [""] * len(parts)
    begins: set[int] = set()
    part, place = 0, 0
    for character in b"".join(parts).decode("utf-8", "surrogateescape"):
        while place >= stops[part]:
            part += 1
        found[part] += character
        begins.add(place)
        place += 1 if ord(character) in BROKEN else len(character.encode())
    starts = [0, *stops[:-1]]
    return [(text, bool(data) and start not in begins) for text, data, start in zip(found, parts, starts, strict=True)]


def readable(text: str) -> str:
    """A text with the bytes that are no character spelled out, such as `<0xE2>`."""
    return "".join(f"<0x{ord(one) - 0xDC00:02X}>" if ord(one) in BROKEN else one for one in text)


def sort_of(character: str) -> Sort:
    """What a character is; bytes of one mostly are of a letter."""
    if character in APOSTROPHES or ord(character) in BROKEN:
        return "letter"
    category = unicodedata.category(character)
    if category[0] in "LN" or category == "Pc":
        return "letter"
    return "symbol" if category == "So" else "mark"


def attaches(character: str) -> bool:
    """Whether a character belongs to the one before it: accents, vowel signs, joiners, skin tones."""
    return unicodedata.category(character)[0] == "M" or character in JOINING or ord(character) in SKIN_TONES


def run_on(before: str, after: str) -> bool:
    """Whether a text without a space before it goes on with the word, or the run of marks, of the text before it."""
    if not before or not after:
        return not before and not after
    if attaches(after[0]) or before[-1] == JOINER:
        return True
    bases = [one for one in before if not attaches(one)]
    return not bases or sort_of(bases[-1]) == sort_of(after[0])
