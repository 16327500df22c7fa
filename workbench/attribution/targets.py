"""What an attribution explains: one number made of the logits of the token that follows the prompt.

Written `TEXT`, `id:123` or nothing (the model's own top next token), with `logit:` (the default) or `logprob:` in
front; a second token makes the target a contrast, Z[a] - Z[b], which is also the difference of their log-probabilities.
Left out: probabilities (they saturate), token sets and targets at several positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.tokens import Prompt, check_text
from workbench.errors import WorkbenchError

Kind = Literal["logit", "logprob", "contrast"]
NAMES = {"logit": "logit", "logprob": "log-probability"}


@dataclass(frozen=True, slots=True)
class Target:
    """The number F that is explained.

    Attributes:
        kind: logit, logprob (nats) or contrast.
        token_ids: the token; for a contrast the token and its foil.
        texts: those tokens as shown to people.
        notes: sentences on how the tokens were chosen.
    """

    kind: Kind
    token_ids: tuple[int, ...]
    texts: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def value(self, logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
        """F of each row of logits."""
        chosen = logits[:, self.token_ids[0]]
        if self.kind == "contrast":
            return chosen - logits[:, self.token_ids[1]]
        return chosen - logits.logsumexp(-1) if self.kind == "logprob" else chosen

    @property
    def label(self) -> str:
        """In words, such as `logit of ' Lily'`."""
        if self.kind == "contrast":
            return f"logit of {self.texts[0]!r} minus logit of {self.texts[1]!r}"
        return f"{NAMES[self.kind]} of {self.texts[0]!r}"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"kind": self.kind, "ids": list(self.token_ids), "texts": list(self.texts), "label": self.label}


@dataclass(frozen=True, slots=True)
class _Choice:
    """One token, and what its reader should know of the choice."""

    index: int
    notes: tuple[str, ...] = ()


def parse_target(adapter: Adapter, prompt: Prompt, target: str = "", contrast: str | None = None) -> Target:
    """Read a target as a person writes it; an empty contrast is none.

    A text that is several tokens stands for its first token in the context of the prompt, because that is the one the
    model decides on next; the notes say so.

    Raises:
        WorkbenchError: no such token, or a token contrasted with itself.
    """
    kind, text = _split(target)
    logits = adapter.predict(prompt.ids)
    first = _choose(adapter, prompt, logits, "target", text)
    shown = adapter.vocabulary.text(first.index)
    if not contrast:
        return Target(kind, (first.index,), (shown,), first.notes)
    second = _choose(adapter, prompt, logits, "contrast", contrast)
    if second.index == first.index:
        raise WorkbenchError(
            f"target and contrast are the same token {shown!r} (id {first.index}); choose two texts that begin with"
            " different tokens"
        )
    texts = (shown, adapter.vocabulary.text(second.index))
    return Target("contrast", (first.index, second.index), texts, first.notes + second.notes)


def top_tokens(adapter: Adapter, logits: Float[Tensor, " vocab"], count: int = 10) -> list[dict[str, Any]]:
    """The likeliest next tokens, best first: token, id, logit, logprob (nats)."""
    best = logits.topk(min(count, logits.shape[0]))
    normaliser = float(logits.logsumexp(0))
    return [
        {"token": adapter.vocabulary.text(index), "id": index, "logit": logit, "logprob": logit - normaliser}
        for logit, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _split(target: str) -> tuple[Kind, str]:
    """The kind and the rest."""
    if target.startswith("logprob:"):
        return "logprob", target.removeprefix("logprob:")
    return "logit", target.removeprefix("logit:")


def _choose(adapter: Adapter, prompt: Prompt, logits: Float[Tensor, " vocab"], name: str, text: str) -> _Choice:
    """The token that a text means after this prompt."""
    check_text(name, text)
    if not text:
        return _Choice(int(logits.argmax()))
    if text.startswith("id:"):
        return _Choice(_read_id(name, text, logits.shape[0]))
    whole = adapter.vocabulary.find(text)
    if whole is not None:
        return _Choice(whole, _about_space(adapter, prompt, name, text))
    return _first_piece(adapter, prompt, name, text)


def _first_piece(adapter: Adapter, prompt: Prompt, name: str, text: str) -> _Choice:
    """The first token of a text that is no token by itself."""
    pieces = adapter.vocabulary.continuation(prompt.text, text)
    if not pieces:
        raise WorkbenchError(f"the {name} {text[:80]!r} gives no token; write a text, or id: and a token id")
    if pieces[0] == adapter.tokenizer.unk_token_id:
        raise WorkbenchError(
            f"the {name} {text[:80]!r} is unknown to this tokenizer; write another, or id: and a token id"
        )
    shown = [adapter.vocabulary.text(index) for index in pieces]
    if len(pieces) == 1:
        return _Choice(pieces[0])
    listed = ", ".join(repr(piece) for piece in shown[:8]) + (", ..." if len(shown) > 8 else "")
    note = f"the {name} {text[:80]!r} is {len(pieces)} tokens ({listed}); its first, {shown[0]!r}, is explained"
    return _Choice(pieces[0], (note,))


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
