"""Which tokens a person means: one text, a list of texts, the spellings of an answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, get_args

from jaxtyping import Float
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.target_kinds import Kind, Side
from workbench.attribution.tokens import Prompt, check_text
from workbench.errors import WorkbenchError, shown

PREFIXED = tuple(kind for kind in get_args(Kind) if kind != "contrast")


@dataclass(frozen=True, slots=True)
class Choice:
    """One token, and what its reader should know of the choice."""

    index: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Set:
    """Different tokens, and what their reader should know of the choice."""

    ids: Side
    notes: tuple[str, ...] = ()


def split_kind(target: str) -> tuple[Kind, str]:
    """What is measured and the rest; without a word in front it is the logit."""
    for kind in PREFIXED:
        if target.startswith(f"{kind}:"):
            return cast(Kind, kind), target.removeprefix(f"{kind}:")
    return "logit", target


def check_empty(kind: Kind, text: str) -> None:
    """Refuse a token where none is asked for.

    Raises:
        WorkbenchError: there is one.
    """
    if text.strip():
        raise WorkbenchError(
            f"the target {kind}: is of the whole distribution and takes no text; leave out {shown(text)}"
        )


def read_list(name: str, text: str) -> list[str]:
    """The texts of a JSON list.

    Raises:
        WorkbenchError: it is no such list, or an empty one.
    """
    check_text(name, text)
    rest = text.removeprefix("group:")
    try:
        found = json.loads(rest)
    except ValueError:
        found = None
    if not isinstance(found, list) or not found or not all(isinstance(one, str) and one for one in found):
        raise WorkbenchError(
            f'the {name} {shown(rest)} is no list of texts; write one such as ["yes", "no"], with at least 1 text'
        )
    return found


def one_of_each(
    adapter: Adapter, prompt: Prompt, logits: Float[Tensor, " vocab"], name: str, texts: Sequence[str]
) -> Set:
    """The token that each text means, each once."""
    found = [choose(adapter, prompt, logits, name, text) for text in texts]
    return Set(tuple(dict.fromkeys(one.index for one in found)), tuple(note for one in found for note in one.notes))


def surfaces(adapter: Adapter, prompt: Prompt, logits: Float[Tensor, " vocab"], name: str, texts: Sequence[str]) -> Set:
    """The tokens that each text can begin with, written with and without a space in front, each once."""
    found: list[int] = []
    notes: list[str] = []
    for text in texts:
        known = [adapter.vocabulary.find(form) for form in (text.lstrip(), f" {text.lstrip()}") if form.strip()]
        whole = [index for index in known if index is not None]
        if not whole or text.startswith("id:"):
            one = choose(adapter, prompt, logits, name, text)
            whole, notes = [one.index], [*notes, *one.notes]
        found += whole
    return Set(tuple(dict.fromkeys(found)), tuple(notes))


def choose(adapter: Adapter, prompt: Prompt, logits: Float[Tensor, " vocab"], name: str, text: str) -> Choice:
    """The token that a text means after this prompt; of no text the likeliest.

    Raises:
        WorkbenchError: there is no such token.
    """
    check_text(name, text)
    if not text:
        return Choice(int(logits.argmax()))
    if text.startswith("id:"):
        return Choice(_read_id(name, text, logits.shape[0]))
    whole = adapter.vocabulary.find(text)
    if whole is not None:
        return Choice(whole, _about_space(adapter, prompt, name, text))
    pieces = continuation_ids(adapter, prompt, name, text)
    listed = [adapter.vocabulary.text(index) for index in pieces]
    if len(pieces) == 1:
        return Choice(pieces[0])
    some = ", ".join(repr(piece) for piece in listed[:8]) + (", ..." if len(listed) > 8 else "")
    note = f"the {name} {text[:80]!r} is {len(pieces)} tokens ({some}); its first, {listed[0]!r}, is explained"
    return Choice(pieces[0], (note,))


def continuation_ids(adapter: Adapter, prompt: Prompt, name: str, text: str) -> Side:
    """The tokens of a text behind the prompt.

    Raises:
        WorkbenchError: it gives none, or the tokenizer does not know how it begins.
    """
    pieces = adapter.vocabulary.continuation(prompt.text, text)
    if not pieces:
        raise WorkbenchError(f"the {name} {text[:80]!r} gives no token; write a text, or id: and a token id")
    if pieces[0] == adapter.tokenizer.unk_token_id:
        raise WorkbenchError(
            f"the {name} {text[:80]!r} is unknown to this tokenizer; write another, or id: and a token id"
        )
    return tuple(pieces)


def _read_id(name: str, text: str, vocabulary: int) -> int:
    """The token id in `id:123`."""
    digits = text.removeprefix("id:").strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 12 and int(digits) < vocabulary):
        raise WorkbenchError(
            f"the {name} {text[:80]!r} is not a token id; write id: and a whole number from 0 to {vocabulary - 1}"
        )
    return int(digits)


def _about_space(adapter: Adapter, prompt: Prompt, name: str, text: str) -> tuple[str, ...]:
    """A word without its leading space is another token than the word: the likeliest slip when a target is typed."""
    spaced = f" {text}"
    if not text[0].isalnum() or prompt.text[-1:].isspace() or adapter.vocabulary.find(spaced) is None:
        return ()
    return (f"the {name} {text!r} has no leading space; {spaced!r} is another token",)
