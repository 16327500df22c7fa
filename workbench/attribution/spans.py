"""The content of a prompt cut into words, clauses and sentences, each made of whole ones of the scale before.

A word is a run of letters and digits, of emoji, or of other marks, without a space; a clause ends at a mark such as a
comma, a sentence at a full stop or a new line, where a space follows (closing quotes and brackets stay with it; marks
of scripts that write no spaces need none). Tokens that share a character are never parted, but for the scale of tokens.
Control tokens end everything and belong to nothing. Left out: abbreviations ("Mr." ends a sentence), and words within
a token or in scripts that write no spaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

import torch
from jaxtyping import Int, Int64
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.characters import attaches, readable, run_on, written

Scale = Literal["token", "word", "clause", "sentence"]
SCALES: tuple[Scale, ...] = ("token", "word", "clause", "sentence")
ENDS = {"sentence": ".!?…؟۔।॥", "clause": ".!?…؟۔।॥,;:،؛\N{EM DASH}"}  # noqa: RUF001 - real marks of other scripts
ENDS_ALONE = {"sentence": "。！？｡", "clause": "。！？｡、，；："}  # noqa: RUF001
"""Full-width marks, which no space follows."""
CLOSING = "\"')]}\N{RIGHT DOUBLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}」』）》"  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class _Piece:
    """One token.

    Attributes:
        text: the characters that begin in it, without the spaces around them.
        gap: the spaces and new lines before that text, those of other tokens included.
        control: it is no text.
        held: it is held fixed.
        part: it is of the prompt (0 where it is free, 1 where it is held) or of a continuation.
        inside: it begins within a character of the token before it.
    """

    text: str
    gap: str
    control: bool
    held: bool
    part: int
    inside: bool

    @property
    def ends_line(self) -> bool:
        """Whether it is a new line and nothing else; such a token stays with what is before it."""
        return not self.text and "\n" in self.gap

    @property
    def opens_word(self) -> bool:
        """Whether it is a space and nothing else; such a token goes with what comes after it."""
        return not (self.text or self.control or self.inside or "\n" in self.gap)


def label_spans(adapter: Adapter, ids: Int[Tensor, "1 tok"], scale: Scale) -> Int64[Tensor, " tok"]:
    """The number of each token's span, from 0 on; -1 for control tokens and those that are held fixed."""
    pieces = _pieces(adapter, ids)
    labels: list[int] = []
    latest = -1
    for index, piece in enumerate(pieces):
        if not piece.held and _opens(pieces, index, scale):
            latest += 1
        labels.append(-1 if piece.held else latest)
    return torch.tensor(labels, dtype=torch.int64)


def ranges(adapter: Adapter, ids: Int[Tensor, "1 tok"], scale: Scale) -> list[tuple[int, int]]:
    """All tokens in runs, first and one past the last, in order: spans; control tokens alone; spans of what is held."""
    pieces = _pieces(adapter, ids)
    starts = [index for index in range(len(pieces)) if _opens(pieces, index, scale)]
    return list(pairwise([*starts, len(pieces)]))


def span_texts(adapter: Adapter, ids: Int[Tensor, "1 tok"], scale: Scale) -> list[str]:
    """The text of each span, without spaces at its ends, in the order of `label_spans`."""
    labels = label_spans(adapter, ids, scale).tolist()
    pieces = [piece for piece in _pieces(adapter, ids) if not piece.held]
    numbers = [label for label in labels if label >= 0]
    return [
        _text([piece for _, piece in group])
        for _, group in groupby(zip(numbers, pieces, strict=True), key=lambda pair: pair[0])
    ]


def range_texts(adapter: Adapter, ids: Int[Tensor, "1 tok"], cuts: Sequence[tuple[int, int]]) -> list[str]:
    """The text of each run of tokens, without spaces at its ends; a control token, or a piece of a character, alone
    reads as it is shown.
    """
    pieces, known = _pieces(adapter, ids), ids[0].tolist()
    shown = adapter.vocabulary.text
    return [_text(pieces[first:stop]) or "".join(map(shown, known[first:stop])) for first, stop in cuts]


def _text(pieces: Sequence[_Piece]) -> str:
    parts = ((" " if piece.gap else "") + piece.text for piece in pieces if piece.text)
    return readable("".join(parts)).strip()


def _pieces(adapter: Adapter, ids: Int[Tensor, "1 tok"]) -> list[_Piece]:
    """The tokens, with what stands between them."""
    known, special = ids[0].tolist(), adapter.vocabulary.special_ids
    held = adapter.held(ids).tolist()
    joints = [False, *(_joined_by_space(adapter, pair) for pair in pairwise(known))]
    texts: list[tuple[str, bool]] = []
    for control, run in groupby(known, key=special.__contains__):
        own = list(run)
        texts += [("", False)] * len(own) if control else written([adapter.vocabulary.data(index) for index in own])
    pieces: list[_Piece] = []
    gap = ""
    for index, joint, fixed, (text, inside) in zip(known, joints, held, texts, strict=True):
        gap += (" " if joint else "") + text[: len(text) - len(text.lstrip())]
        part = adapter.layout.section(len(pieces))
        pieces.append(_Piece(text.strip(), gap, index in special, fixed, part + fixed, inside))
        gap = text[len(text.rstrip()) :] if text.strip() else gap
    return pieces


def _joined_by_space(adapter: Adapter, pair: tuple[int, int]) -> bool:
    """Whether the tokenizer writes a space between two tokens that may show none (tokenizers of whole words do)."""

    def spelled(*ids: int) -> str:
        return str(adapter.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    return spelled(*pair) == f"{spelled(pair[0])} {spelled(pair[1])}"


def _opens(pieces: Sequence[_Piece], index: int, scale: Scale) -> bool:
    """Whether a run of this scale begins at a token."""
    if not index or pieces[index].control or pieces[index - 1].control:
        return True
    return pieces[index].part != pieces[index - 1].part or _starts(pieces, index, scale)


def _starts(pieces: Sequence[_Piece], index: int, scale: Scale) -> bool:
    """Whether a span of this scale starts at a token that follows another of content."""
    before, piece = pieces[index - 1], pieces[index]
    if scale == "token":
        return True
    if piece.inside or piece.ends_line or before.opens_word:
        return False
    if scale == "word":
        return bool(piece.gap) or not run_on(_word_before(pieces, index), piece.text)
    mark = _last_mark(pieces, index)
    ended = bool(piece.gap) and mark in tuple(ENDS[scale])
    return "\n" in piece.gap or ended or (mark in tuple(ENDS_ALONE[scale]) and not _stays(piece, scale))


def _stays(piece: _Piece, scale: Scale) -> bool:
    """Whether a token goes on with the marks that end a span."""
    return not piece.gap and piece.text[:1] in tuple(CLOSING + ENDS_ALONE[scale])


def _word_before(pieces: Sequence[_Piece], index: int) -> str:
    """The text that a token without a gap stands behind, back to a character that attaches to no other."""
    text = ""
    for piece in reversed(pieces[:index]):
        text = piece.text + text
        if piece.gap or piece.control or not all(map(attaches, piece.text)):
            break
    return text


def _last_mark(pieces: Sequence[_Piece], index: int) -> str:
    """The last character before a token, closing quotes and brackets left away."""
    for piece in reversed(pieces[:index]):
        left = piece.text.rstrip(CLOSING)
        if left or piece.control or piece.gap:
            return left[-1:]
    return ""
