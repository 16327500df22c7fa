"""A prompt as the user's turn of a chat, in the words of the tokenizer's own chat template.

The tokens of the template are no part of what a person wrote: they are held fixed. A token that holds both belongs to
the prompt. Left out: system prompts, several turns, tools.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from workbench.attribution.pieces import Vocabulary
from workbench.attribution.tokens import PROMPT_CHARACTERS, Prompt, check_text, fit, said_cut, tokenize
from workbench.errors import WorkbenchError

STAND_IN = "\N{OGHAM LETTER BEITH}\N{OGHAM LETTER LUIS}\N{OGHAM LETTER FEARN}"
"""A text that no template holds, to see where the template puts what it is given."""


def encode_chat(vocabulary: Vocabulary, text: str, context: int | None, *, cut: bool = False) -> Prompt:
    """The tokens of a turn of the user, up to where the assistant's turn begins.

    Args:
        vocabulary: the tokenizer.
        text: what the user says.
        context: the most tokens that the model reads.
        cut: leave out the beginning of a text that is too long, not of the template.

    Returns:
        A prompt whose `text` is the whole turn with its template.

    Raises:
        WorkbenchError: the tokenizer has no chat template or one that changes what it is given, cannot tell where its
            tokens stand, or see `tokens.encode`.
    """
    kept = text[-PROMPT_CHARACTERS:] if cut else text
    check_text("prompt", kept)
    if not kept.strip():
        raise WorkbenchError("the prompt is empty; at least 1 token of content is needed")
    if not vocabulary.tokenizer.is_fast:
        raise WorkbenchError("this tokenizer cannot tell which of its tokens are the template's; leave out chat")
    turn = render(vocabulary.tokenizer, kept)
    start, stop = _place(vocabulary.tokenizer, turn)
    prompt = tokenize(vocabulary, turn, special=False)
    inside = tuple(first < stop and last > start for first, last in prompt.offsets or ())
    fixed = tuple(special or not own for special, own in zip(prompt.special, inside, strict=True))
    if all(fixed):
        raise WorkbenchError("the prompt gives control tokens alone; at least 1 token of content is needed")
    shift = start - kept.find(turn[start:stop])
    return fit(said_cut(replace(prompt, fixed=fixed, shift=shift), text, kept), context, cut=cut)


def render(tokenizer: Any, text: str) -> str:
    """The whole turn as text.

    Raises:
        WorkbenchError: there is no template, or it fails.
    """
    if not tokenizer.chat_template:
        raise WorkbenchError(
            "this tokenizer has no chat template; leave out chat and write the prompt as the model should read it"
        )
    turns = [{"role": "user", "content": text}]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # a template is a program of the model's maker and fails in its own ways
        why = " ".join(str(error).split())[:120]
        raise WorkbenchError(f"the chat template of this tokenizer fails: {type(error).__name__}: {why}") from error


def _place(tokenizer: Any, turn: str) -> tuple[int, int]:
    """Where what the user says stands in the turn; a template may have taken blanks off its ends.

    Raises:
        WorkbenchError: the template does not keep it as one piece.
    """
    before, *rest = render(tokenizer, STAND_IN).split(STAND_IN)
    whole = len(rest) == 1 and turn.startswith(before) and turn.endswith(rest[0])
    start, stop = len(before), len(turn) - len(rest[0] if rest else "")
    if not whole or start >= stop:
        raise WorkbenchError(
            "the chat template of this tokenizer does not keep what the user says in one piece; leave out chat and"
            " write the prompt as the model should read it"
        )
    return start, stop
