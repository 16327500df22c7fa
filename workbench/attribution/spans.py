"""The content of a prompt cut into words, clauses and sentences, each made of whole ones of the scale before.

A word is a run of letters and digits, or of other marks, without a space; a clause ends at a mark such as a comma, a
sentence at a full stop or a new line, where a space follows (closing quotes and brackets stay with it). Control tokens
end everything and belong to nothing. Left out: abbreviations ("Mr." ends a sentence) and scripts that write no spaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Int, Int64
from torch import Tensor

from workbench.attribution.adapter import Adapter

Scale = Literal["token", "word", "clause", "sentence"]
SCALES: tuple[Scale, ...] = ("token", "word", "clause", "sentence")
ENDS = {"sentence": ".!?…", "clause": ".!?…,;:\N{EM DASH}"}
CLOSING = "\"')]}\N{RIGHT DOUBLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"
IN_WORDS = re.compile(r"\w|['\N{RIGHT SINGLE QUOTATION MARK}]")
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True, slots=True)
class _Piece:
    """One token.

    Attributes:
        text: as shown, without the spaces around it.
        gap: the spaces and new lines before that text, those of other tokens included.
        control: it is no content.
    """

    text: str
    gap: str
    control: bool

    @property
    def ends_line(self) -> bool:
        """Whether it is a new line and nothing else; such a token stays with what is before it."""
        return not self.text and "\n" in self.gap

    @property
    def opens_word(self) -> bool:
        """Whether it is a space and nothing else; such a token goes with what comes after it."""
        return not self.text and not self.control and "\n" not in self.gap


def label_spans(adapter: Adapter, ids: Int[Tensor, "1 tok"], scale: Scale) -> Int64[Tensor, " tok"]:
    """The number of each token's span, from 0 on; -1 for control tokens."""
    pieces = _pieces(adapter, ids[0].tolist())
    labels: list[int] = []
    latest = -1
    for index, piece in enumerate(pieces):
        follows = index > 0 and not pieces[index - 1].control
        if not piece.control and (not follows or _starts(pieces, index, scale)):
            latest += 1
        labels.append(-1 if piece.control else latest)
    return torch.tensor(labels, dtype=torch.int64)


def span_texts(adapter: Adapter, ids: Int[Tensor, "1 tok"], scale: Scale) -> list[str]:
    """The text of each span, without spaces at its ends, in the order of `label_spans`."""
    labels = label_spans(adapter, ids, scale).tolist()
    texts = [""] * (max(labels) + 1)
    for label, piece in zip(labels, _pieces(adapter, ids[0].tolist()), strict=True):
        if label >= 0 and piece.text:
            texts[label] += (" " if piece.gap else "") + piece.text
    return [text.strip() for text in texts]


def _pieces(adapter: Adapter, ids: list[int]) -> list[_Piece]:
    """The tokens, with what stands between them."""
    special = adapter.vocabulary.special_ids
    joints = [False, *(_joined_by_space(adapter, pair) for pair in pairwise(ids))]
    pieces: list[_Piece] = []
    gap = ""
    for index, joint in zip(ids, joints, strict=True):
        text = "" if index in special else adapter.vocabulary.text(index)
        gap += (" " if joint else "") + text[: len(text) - len(text.lstrip())]
        pieces.append(_Piece(text.strip(), gap, index in special))
        gap = text[len(text.rstrip()) :] if text.strip() else gap
    return pieces


def _joined_by_space(adapter: Adapter, pair: tuple[int, int]) -> bool:
    """Whether the tokenizer writes a space between two tokens that may show none (tokenizers of whole words do)."""

    def written(*ids: int) -> str:
        return str(adapter.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    return written(*pair) == f"{written(pair[0])} {written(pair[1])}"


def _starts(pieces: list[_Piece], index: int, scale: Scale) -> bool:
    """Whether a span of this scale starts at a token that follows another of content."""
    before, piece = pieces[index - 1], pieces[index]
    if scale == "token":
        return True
    if piece.ends_line or before.opens_word:
        return False
    if scale == "word":
        return bool(piece.gap) or _in_word(before.text, -1) != _in_word(piece.text, 0)
    return "\n" in piece.gap or (bool(piece.gap) and _last_mark(pieces, index) in tuple(ENDS[scale]))


def _in_word(text: str, place: int) -> bool:
    """Whether the first (0) or last (-1) character is part of words; bytes of one mostly are of a letter."""
    letters = BYTE.sub("x", text)
    return bool(letters) and IN_WORDS.match(letters[place]) is not None


def _last_mark(pieces: list[_Piece], index: int) -> str:
    """The last character before a token, closing quotes and brackets left away."""
    for piece in reversed(pieces[:index]):
        left = piece.text.rstrip(CLOSING)
        if left or piece.control or piece.gap:
            return left[-1:]
    return ""
