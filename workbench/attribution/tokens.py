"""From text to tokens and back: what the tokenizer adds, how a token is shown, which token a text is.

Left out: merging the byte pieces of one character for display. Every token stands alone here; the offsets tell which
tokens share a character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workbench.errors import WorkbenchError

PROMPT_CHARACTERS = 10_000
SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
"""How SentencePiece writes a space inside a token."""
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text as the model reads it.

    Attributes:
        text: as given.
        ids: token ids, with the special tokens that the tokenizer adds.
        tokens: each token as shown to people.
        offsets: first and one-past-last character of each token in `text`; None when the tokenizer cannot tell. Tokens
            that the tokenizer added have an empty span.
        special: which tokens are control tokens (added by the tokenizer or written in the text).
    """

    text: str
    ids: Int64[Tensor, "1 tok"]
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...] | None
    special: tuple[bool, ...]


@cache
def byte_letters() -> dict[str, int]:
    """The letter that byte-level tokenizers write for each byte, as letter -> byte (the alphabet of GPT-2's tokenizer).

    Bytes that are visible characters in Latin-1 stand for themselves, the others take the code points from 256 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + rank): byte for rank, byte in enumerate(hidden)}


def _hexadecimal(data: bytes) -> str:
    return "".join(f"<0x{byte:02X}>" for byte in data)


def _readable(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _hexadecimal(data)


class Vocabulary:
    """A tokenizer, seen as a list of tokens that have a text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer: Any = tokenizer  # transformers types every token and id as a union of five things

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of control tokens: begin, end, separators, chat marks; not the unknown token, which is content."""
        tokenizer = self.tokenizer
        added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        frame = {tokenizer.bos_token_id, tokenizer.eos_token_id}
        return frozenset((added | set(tokenizer.all_special_ids)) - ({tokenizer.unk_token_id} - frame))

    @cached_property
    def _whole(self) -> frozenset[int]:
        """Ids of tokens that are stored as plain text, outside the alphabet of the tokenizer's model."""
        return self.special_ids | frozenset(self.tokenizer.added_tokens_decoder)

    @cached_property
    def _byte_level(self) -> bool:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        return "ByteLevel" in repr(getattr(backend, "decoder", None))

    def text(self, index: int) -> str:
        """A token as shown to people, with its leading space; bytes that are no whole character read `<0xE2>`."""
        piece = self.tokenizer.convert_ids_to_tokens(index)
        if piece is None:
            return f"<id {index}>"
        if index in self._whole:
            return piece
        single = BYTE_TOKEN.fullmatch(piece)
        if single is not None:
            byte = int(single[1], 16)
            return chr(byte) if byte < 0x80 else piece
        if self._byte_level and byte_letters().keys() >= set(piece):
            return _readable(bytes(byte_letters()[letter] for letter in piece))
        return piece.replace(SPACE_MARK, " ")

    def find(self, text: str) -> int | None:
        """The id of the token whose shown text is exactly this, or None."""
        letters = {byte: letter for letter, byte in byte_letters().items()}
        data = text.encode("utf-8")
        spellings = ("".join(letters[byte] for byte in data), text.replace(" ", SPACE_MARK), text, _hexadecimal(data))
        for spelling in spellings:
            index = self.tokenizer.convert_tokens_to_ids(spelling)
            known = isinstance(index, int) and self.tokenizer.convert_ids_to_tokens(index) == spelling
            if known and self.text(index) == text:
                return index
        return None

    def continuation(self, before: str, text: str) -> list[int]:
        """Ids of `text` written after `before`; of `text` alone where the two run into one token."""
        head = self._ids(before)
        both = self._ids(before + text)
        if both[: len(head)] == head and len(both) > len(head):
            return both[len(head) :]
        return self._ids(text, special=False)

    def _ids(self, text: str, special: bool = True) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])


def encode(vocabulary: Vocabulary, text: str, context: int | None) -> Prompt:
    """The tokens of a prompt, special tokens as the tokenizer adds them.

    Raises:
        WorkbenchError: the prompt is empty, too long for us or for the model, or not text.
    """
    check_text("prompt", text)
    tokenizer = vocabulary.tokenizer
    held = tokenizer(text, return_offsets_mapping=tokenizer.is_fast)
    ids = [int(index) for index in held["input_ids"]]
    special = tuple(index in vocabulary.special_ids for index in ids)
    if all(special) and not text.strip():
        raise WorkbenchError("the prompt is empty; at least 1 token of content is needed")
    if all(special):
        raise WorkbenchError(
            f"the prompt gives {len(ids)} tokens, {sum(special)} of them control tokens; at least 1 token of content is"
            " needed"
        )
    if context is not None and len(ids) > context:
        raise WorkbenchError(f"the prompt has {len(ids)} tokens; the model reads at most {context}")
    offsets = tuple((int(start), int(stop)) for start, stop in held["offset_mapping"]) if tokenizer.is_fast else None
    tokens = tuple(vocabulary.text(index) for index in ids)
    return Prompt(text, torch.tensor([ids], dtype=torch.int64), tokens, offsets, special)


def check_text(name: str, text: str) -> None:
    """Refuse what no tokenizer can read.

    Raises:
        WorkbenchError: the text is longer than `PROMPT_CHARACTERS` or holds half of a surrogate pair.
    """
    if len(text) > PROMPT_CHARACTERS:
        raise WorkbenchError(f"the {name} has {len(text)} characters; at most {PROMPT_CHARACTERS} are read")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise WorkbenchError(f"the {name} is not valid text at character {error.start}") from None
