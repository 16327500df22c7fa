"""Calibration and evaluation texts, and their fixed windows of tokens.

Perplexity depends on how a text is cut, so a window's length and the hash of its token ids go into every result.
Windows do not overlap, and the papers' protocol for a single text is kept: one stream of tokens, no special tokens in
it. Texts of several documents follow the way such models are trained: each document with its special tokens, an end of
text behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Int64
from torch import Tensor

from workbench.errors import WorkbenchError, shown
from workbench.model.text_files import read_documents, read_wikitext

DEFAULT_WINDOW = 2048
"""Tokens of a window unless told otherwise or the context is shorter: the length of most published numbers."""

CHARACTERS_PER_TOKEN = 8
"""Characters of a long text that are encoded at first for every token that is wanted; more when they give too few."""


@dataclass(frozen=True)
class Text:
    """A named text of one or several documents; the name holds no path."""

    name: str
    documents: tuple[str, ...]

    @property
    def whole(self) -> str:
        """All documents, an empty line between them."""
        return "\n\n".join(self.documents)

    @property
    def sha256(self) -> str:
        """Hex sha256 of the whole text in UTF-8."""
        return hashlib.sha256(self.whole.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Windows:
    """Token windows of one text.

    Attributes:
        ids: token ids, one window a row.
        name: name of the text.
        text_sha256: of the whole text.
        token_ids_sha256: over the ids that are used, as little-endian int64, window after window.
        window: tokens of one window.
        tokens: tokens in all.
    """

    ids: Int64[Tensor, "window tok"]
    name: str
    text_sha256: str
    token_ids_sha256: str
    window: int
    tokens: int

    @property
    def digest(self) -> str:
        """16 hex digits over ids and window length: all that a computation on the windows depends on."""
        return hashlib.sha256(f"{self.token_ids_sha256} {self.window}".encode()).hexdigest()[:16]


def read_text(name: str, *, allow_download: bool = False) -> Text:
    """The text of a name: `demo:calibration`, `demo:evaluation`, `wikitext-2`, or a path to a UTF-8 file.

    A file is one document, a `.json` file a list of them; the demo's texts are split at empty lines. WikiText-2 is its
    raw test split, lines joined by empty lines; it is taken from the cache of `datasets` unless a download is allowed.

    Raises:
        WorkbenchError: no such text, unreadable, not UTF-8, too large or empty.
    """
    if name.startswith("demo:"):
        return Text(name, read_documents(name))
    if name == "wikitext-2":
        return Text(name, (read_wikitext(allow_download),))
    return Text(Path(name).name[:80], read_documents(name))


def make_windows(
    text: Text, tokenizer: transformers.PreTrainedTokenizerBase, *, window: int | None, tokens: int | None, context: int
) -> Windows:
    """Cut a text into windows that do not overlap; what is left over at the end is dropped.

    Args:
        text: the text.
        tokenizer: of the model that will read the windows.
        window: tokens of a window; None for the context, at most 2048.
        tokens: use at most this many tokens; None for all.
        context: the longest sequence of the model.

    Raises:
        WorkbenchError: a window that does not fit the model, or a text or cap that is shorter than one window.
    """
    length = min(context, DEFAULT_WINDOW) if window is None else window
    if not 2 <= length <= context:
        raise WorkbenchError(
            f"window has value {length}; it must lie between 2 and the model's context of {context} tokens"
        )
    if tokens is not None and tokens < length:
        raise WorkbenchError(f"tokens has value {tokens}; it must be at least one window of {length}")
    stream: list[int] = []
    for piece in _encode(text, tokenizer, tokens):
        stream += piece
        if tokens is not None and len(stream) >= tokens:
            break
    count = (len(stream) if tokens is None else min(tokens, len(stream))) // length
    if count == 0:
        raise WorkbenchError(
            f"text {shown(text.name)} has {len(stream)} tokens; one window is {length}: choose a longer text or a "
            "smaller window"
        )
    ids = torch.tensor(stream[: count * length], dtype=torch.int64).reshape(count, length)
    hashed = hashlib.sha256(ids.numpy().astype("<i8").tobytes()).hexdigest()
    return Windows(ids, text.name, text.sha256, hashed, length, count * length)


def _encode(text: Text, tokenizer: transformers.PreTrainedTokenizerBase, tokens: int | None) -> Iterator[list[int]]:
    """Token ids, document by document; of a single long document no more than `tokens` can need."""
    if len(text.documents) == 1:
        yield _of_long(text.documents[0], tokenizer, tokens)
        return
    end: Any = tokenizer.eos_token_id
    for document in text.documents:
        ids = _ids(tokenizer, document, special=True)
        yield ids if end is None or ids[-1:] == [end] else [*ids, end]


def _of_long(document: str, tokenizer: transformers.PreTrainedTokenizerBase, tokens: int | None) -> list[int]:
    """Of the beginning that gives half as many again as are wanted, so that they lie far from where it is cut."""
    length = len(document) if tokens is None else tokens * CHARACTERS_PER_TOKEN
    ids = _ids(tokenizer, document[:length], special=False)
    while length < len(document) and len(ids) < 1.5 * (tokens or 0):
        length *= 8
        ids = _ids(tokenizer, document[:length], special=False)
    return ids


def _ids(tokenizer: transformers.PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    """Ids of one text; silent about its being longer than the context, it will be cut into windows."""
    encoded: Any = tokenizer(text, add_special_tokens=special, verbose=False)
    return list(encoded["input_ids"])


def check_disjoint(calibration: Text, evaluation: Text) -> None:
    """Refuse to measure on the text that fed the statistics, also when one holds the other or only spaces differ.

    Raises:
        WorkbenchError: they are the same text, or one is a part of the other.
    """
    one, other = (" ".join(text.whole.split()) for text in (calibration, evaluation))
    if one in other or other in one:
        raise WorkbenchError(
            f"calibration text {shown(calibration.name)} and evaluation text {shown(evaluation.name)} are the same, "
            "or one holds the other; measure on text that did not feed the statistics"
        )
