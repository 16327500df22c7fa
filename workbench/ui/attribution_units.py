"""What one button of a strip holds: a token, a word or a sentence, whose score is made of its tokens' scores.

Nothing is computed again when the size of the units changes. No Streamlit here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.ui.tokens import Span

SIZES = {"token": "tokens", "word": "words", "sentence": "sentences"}
"""Size of the units, as a document names it -> in the plural."""


@dataclass(frozen=True)
class Units:
    """The tokens of a prompt, cut into units.

    Attributes:
        size: one of `SIZES`.
        spans: tokens of each unit, in order; every token is in one.
        texts: of each unit.
    """

    size: str
    spans: tuple[Span, ...]
    texts: tuple[str, ...]

    def gathered(self, scores: Sequence[float | None], *, signed: bool) -> list[float | None]:
        """The score of each unit, None where no token of it has one.

        Signed scores are added up, which keeps what a complete method promises. Of scores without a sign the largest
        counts, lest a long unit win by its length.
        """
        parts = [[one for one in scores[first:stop] if one is not None] for first, stop in self.spans]
        return [(sum(part) if signed else max(part, key=abs)) if part else None for part in parts]

    def every(self, flags: Sequence[bool]) -> list[bool]:
        """Which units hold nothing but tokens with the flag."""
        return [all(flags[first:stop]) for first, stop in self.spans]

    def touched(self, spans: Sequence[Span]) -> list[bool]:
        """Which units hold a token of one of the spans."""
        return [any(first < end and start < stop for start, end in spans) for first, stop in self.spans]

    def tokens_of(self, chosen: Span) -> Span:
        """The tokens of the chosen units."""
        return self.spans[chosen[0]][0], self.spans[chosen[1] - 1][1]


def units_of(document: Mapping[str, Any], size: str = "token") -> Units:
    """The units of an attribution's document; control tokens stand alone."""
    tokens, spans = document["tokens"], tuple((first, stop) for first, stop in document["spans"][size])
    return Units(size, spans, tuple("".join(tokens[first:stop]) for first, stop in spans))


def occurrences(document: Mapping[str, Any], name: str) -> list[Span]:
    """The tokens of each place where a name stands in the prompt, word for word, capitals counting.

    Args:
        document: of an attribution.
        name: one or several words, without regard to the spaces between them.
    """
    words = units_of(document, "word")
    written = ["".join(text.split()) for text in words.texts]
    found = ((at, _reach(written, at, "".join(name.split()))) for at in range(len(written)))
    return [words.tokens_of((at, stop)) for at, stop in found if stop > at]


def _reach(written: Sequence[str], start: int, wanted: str) -> int:
    """Where the words from `start` on end that together read as wanted; `start` when they do not."""
    read = ""
    for stop in range(start, len(written)):
        read += written[stop]
        if wanted and read == wanted:
            return stop + 1
        if not wanted.startswith(read):
            break
    return start
