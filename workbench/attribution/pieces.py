"""A tokenizer as a list of tokens that have a text and bytes: how a token is shown, and which token a text is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
"""How SentencePiece writes a space inside a token."""
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@cache
def byte_letters() -> dict[str, int]:
    """The letter that byte-level tokenizers write for each byte, as letter -> byte (the alphabet of GPT-2's tokenizer).

    Bytes that are visible characters in Latin-1 stand for themselves, the others take the code points from 256 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + rank): byte for rank, byte in enumerate(hidden)}


def hexadecimal(data: bytes) -> str:
    """Bytes as people see them, such as `<0xE2><0x82>`."""
    return "".join(f"<0x{byte:02X}>" for byte in data)


def _readable(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return hexadecimal(data)


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
        return _readable(self.data(index))

    def data(self, index: int) -> bytes:
        """The bytes that a token stands for, which may be a part of a character."""
        piece = self.tokenizer.convert_ids_to_tokens(index)
        if piece is None:
            return f"<id {index}>".encode()
        if index in self._whole:
            return piece.encode()
        single = BYTE_TOKEN.fullmatch(piece)
        if single is not None:
            return bytes([int(single[1], 16)])
        if self._byte_level and byte_letters().keys() >= set(piece):
            return bytes(byte_letters()[letter] for letter in piece)
        return piece.replace(SPACE_MARK, " ").encode()

    def joined(self, ids: Iterable[int]) -> str:
        """Several tokens as one text, so that the pieces of a character are the character."""
        return b"".join(self.data(index) for index in ids).decode("utf-8", "backslashreplace")

    def find(self, text: str) -> int | None:
        """The id of the token whose shown text is exactly this, or None."""
        letters = {byte: letter for letter, byte in byte_letters().items()}
        data = text.encode("utf-8")
        spellings = ("".join(letters[byte] for byte in data), text.replace(" ", SPACE_MARK), text, hexadecimal(data))
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
