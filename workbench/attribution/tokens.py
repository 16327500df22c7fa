"""A prompt as the model reads it: its tokens, where they stand in the text, what was cut to make it fit.

Every token stands alone here; which tokens share a character or a word is told by `spans`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from workbench.attribution.pieces import Vocabulary
from workbench.errors import WorkbenchError

PROMPT_CHARACTERS = 10_000


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
        fixed: which tokens are no part of what a person wrote as the prompt (a chat template, what is explained) and
            are held fixed; empty when there are none.
        shift: where in `text` the text that a person gave begins; negative when its beginning was cut.
        notes: sentences on what was cut.
    """

    text: str
    ids: Int64[Tensor, "1 tok"]
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...] | None
    special: tuple[bool, ...]
    fixed: tuple[bool, ...] = ()
    shift: int = 0
    notes: tuple[str, ...] = ()

    @property
    def closed(self) -> tuple[bool, ...]:
        """Which tokens are no content: control tokens and those that are fixed."""
        fixed = self.fixed or (False,) * len(self.special)
        return tuple(one or other for one, other in zip(self.special, fixed, strict=True))

    def take(self, places: Sequence[int], *notes: str) -> Prompt:
        """Some of the tokens, in this order, with more notes."""
        return replace(
            self,
            ids=self.ids[:, list(places)],
            tokens=tuple(self.tokens[place] for place in places),
            offsets=None if self.offsets is None else tuple(self.offsets[place] for place in places),
            special=tuple(self.special[place] for place in places),
            fixed=tuple(self.fixed[place] for place in places) if self.fixed else (),
            notes=(*self.notes, *notes),
        )


def encode(vocabulary: Vocabulary, text: str, context: int | None, *, cut: bool = False) -> Prompt:
    """The tokens of a prompt, special tokens as the tokenizer adds them.

    Args:
        vocabulary: the tokenizer.
        text: the prompt.
        context: the most tokens that the model reads; None knows no end.
        cut: leave out the beginning of a prompt that is too long, and say so in its notes, where it is else refused.

    Raises:
        WorkbenchError: the prompt is empty, too long for us or for the model, or not text.
    """
    kept = text[-PROMPT_CHARACTERS:] if cut else text
    check_text("prompt", kept)
    prompt = tokenize(vocabulary, kept)
    if all(prompt.special) and not text.strip():
        raise WorkbenchError("the prompt is empty; at least 1 token of content is needed")
    if all(prompt.special):
        raise WorkbenchError(
            f"the prompt gives {len(prompt.special)} tokens, {sum(prompt.special)} of them control tokens; at least 1"
            " token of content is needed"
        )
    return fit(said_cut(prompt, text, kept), context, cut=cut)


def tokenize(vocabulary: Vocabulary, text: str, *, special: bool = True) -> Prompt:
    """A text as tokens, whatever they are; `special` lets the tokenizer add its control tokens."""
    tokenizer = vocabulary.tokenizer
    held = tokenizer(text, add_special_tokens=special, return_offsets_mapping=tokenizer.is_fast)
    ids = [int(index) for index in held["input_ids"]]
    control = tuple(index in vocabulary.special_ids for index in ids)
    offsets = tuple((int(start), int(stop)) for start, stop in held["offset_mapping"]) if tokenizer.is_fast else None
    tokens = tuple(vocabulary.text(index) for index in ids)
    return Prompt(text, torch.tensor([ids], dtype=torch.int64), tokens, offsets, control)


def fit(prompt: Prompt, context: int | None, *, cut: bool) -> Prompt:
    """The prompt as the model can read it: as it is, or without the beginning of its content.

    What stands in front (a begin token, a template) and behind it stays.

    Raises:
        WorkbenchError: it is too long and may not be cut, or nothing of its content would be left.
    """
    count, closed = len(prompt.special), prompt.closed
    if context is None or count <= context:
        return prompt
    if not cut:
        raise WorkbenchError(f"the prompt has {count} tokens; the model reads at most {context}")
    lead, excess = closed.index(False), count - context
    kept = [*range(lead), *range(lead + excess, count)]
    if all(closed[place] for place in kept):
        raise WorkbenchError(
            f"{sum(closed)} tokens around the prompt are held fixed and the model reads at most {context}, which leaves"
            " none for the prompt; make shorter what stands around it"
        )
    note = f"the prompt has {count} tokens and there is room for {context}: its first {excess} were cut"
    return prompt.take(kept, note)


def said_cut(prompt: Prompt, text: str, kept: str) -> Prompt:
    """The prompt, with a note when characters of its text were cut."""
    gone = len(text) - len(kept)
    if not gone:
        return prompt
    note = f"the prompt has {len(text)} characters and {len(kept)} are read: its first {gone} were cut"
    return replace(prompt, shift=prompt.shift - gone, notes=(*prompt.notes, note))


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
