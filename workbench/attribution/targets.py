"""What an attribution explains: one number made of the logits that follow the prompt.

A token is written `TEXT`, `id:123` or nothing (the model's own top next token). In front stands what is measured of it:
`logit:` (when nothing stands there), `logprob:` or `prob:`; or `group:` and `attentiveness:` with a JSON list of texts,
or `entropy:` and `kl:`, which ask for no token. A contrast explains the first rather than the second: of logits (which
is the same as of log-probabilities), of probabilities or of groups. Continuations of several tokens are `questions`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from workbench.attribution import target_kinds as kinds
from workbench.attribution.adapter import Adapter
from workbench.attribution.target_kinds import Kind, Side
from workbench.attribution.target_texts import check_empty, choose, one_of_each, read_list, split_kind, surfaces
from workbench.attribution.tokens import Prompt
from workbench.errors import WorkbenchError, shown

NAMES: dict[Kind, str] = {
    "logit": "logit",
    "contrast": "logit",
    "logprob": "log-probability",
    "prob": "probability",
    "group": "log of the summed probability",
    "attentiveness": "summed probability",
    "continuation": "log-probability",
    "continuation_mean": "mean log-probability a token",
}
WHOLE: dict[Kind, str] = {
    "entropy": "entropy of the next token (nats)",
    "kl": "KL divergence of the next token from the full model's own at this prompt (nats)",
}
AT_ITS_LEAST = (
    "this divergence is 0 in the full model at the prompt itself, its least value: gradients there are 0 as well, so"
    " that methods without a baseline find nothing in the full model"
)


@dataclass(frozen=True, slots=True)
class Target:
    """The number F that is explained.

    Attributes:
        kind: what is measured; nats where it is a logarithm, an entropy or a divergence.
        token_ids: the token; for a contrast the token and its foil. Of sets and continuations the first of each; of the
            whole distribution its likeliest token.
        texts: those tokens as shown to people.
        notes: sentences on how the tokens were chosen.
        sides: the tokens of each set or continuation; empty where each is one token.
        written: each side as shown to people; `texts` when empty.
        reference: of a divergence, the log-probabilities that it is from.
    """

    kind: Kind
    token_ids: tuple[int, ...]
    texts: tuple[str, ...]
    notes: tuple[str, ...] = ()
    sides: tuple[Side, ...] = ()
    written: tuple[str, ...] = ()
    reference: Float[Tensor, " vocab"] | None = field(default=None, compare=False, repr=False)

    def value(self, logits: Float[Tensor, "batch *read vocab"]) -> Float[Tensor, " batch"]:
        """F of each row of logits, as `Adapter.read_logits` gives them."""
        if self.kind in kinds.SEVERAL:
            return kinds.several(logits, self.parts, self.kind == "continuation_mean")
        next_token = kinds.following(logits)
        if self.reference is not None:
            return kinds.divergence(next_token, self.reference)
        if self.kind == "entropy":
            return kinds.entropy(next_token)
        return kinds.difference(next_token, kinds.MEASURES[self.kind], self.parts)

    @property
    def parts(self) -> tuple[Side, ...]:
        """The tokens of each side, one side or two."""
        return self.sides or tuple((index,) for index in self.token_ids)

    @property
    def linear(self) -> bool:
        """Whether F is a sum of logits."""
        return self.kind in kinds.LINEAR

    @property
    def label(self) -> str:
        """In words, such as `logit of ' Lily'`."""
        if self.kind in WHOLE:
            return WHOLE[self.kind]
        named = self.written or tuple(repr(text) for text in self.texts)
        return " minus ".join(f"{NAMES[self.kind]} of {name}" for name in named)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "kind": self.kind,
            "ids": list(self.token_ids),
            "texts": list(self.texts),
            "label": self.label,
            "sides": [list(side) for side in self.parts],
        }


def parse_target(adapter: Adapter, prompt: Prompt, target: str = "", contrast: str | None = None) -> Target:
    """Read a target as a person writes it; an empty contrast is none.

    A text that is several tokens stands for its first token in the context of the prompt, because that is the one the
    model decides on next; the notes say so.

    Raises:
        WorkbenchError: no such token, a token contrasted with itself, a contrast of what has none, or a continuation,
            which is no property of the next token.
    """
    kind, text = split_kind(target)
    if kind in kinds.SEVERAL:
        raise WorkbenchError(f"the target {shown(target)} is of several positions; name a next token here")
    if kind in (*WHOLE, "attentiveness") and contrast:
        raise WorkbenchError(f"a target {kind}: has no contrast; leave out {shown(contrast)}")
    if kind in WHOLE:
        return _whole(adapter, prompt, kind, text)
    if kind in ("group", "attentiveness"):
        return _of_sets(adapter, prompt, kind, text, contrast)
    logits = adapter.predict(prompt.ids)
    first = choose(adapter, prompt, logits, "target", text)
    label = adapter.vocabulary.text(first.index)
    if not contrast:
        return Target(kind, (first.index,), (label,), first.notes)
    second = choose(adapter, prompt, logits, "contrast", contrast)
    if second.index == first.index:
        raise WorkbenchError(
            f"target and contrast are the same token {label!r} (id {first.index}); choose two texts that begin with"
            " different tokens"
        )
    texts = (label, adapter.vocabulary.text(second.index))
    measured: Kind = "prob" if kind == "prob" else "contrast"
    return Target(measured, (first.index, second.index), texts, first.notes + second.notes)


def top_tokens(adapter: Adapter, logits: Float[Tensor, " vocab"], count: int = 10) -> list[dict[str, Any]]:
    """The likeliest next tokens, best first: token, id, logit, logprob (nats)."""
    best = logits.topk(min(count, logits.shape[0]))
    normaliser = float(logits.logsumexp(0))
    return [
        {"token": adapter.vocabulary.text(index), "id": index, "logit": logit, "logprob": logit - normaliser}
        for logit, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _whole(adapter: Adapter, prompt: Prompt, kind: Kind, text: str) -> Target:
    """A property of the whole distribution of the next token."""
    check_empty(kind, text)
    logits = adapter.predict(prompt.ids)
    best = int(logits.argmax())
    with adapter.steady():  # the caller may be in a mode whose tensors no gradient can pass
        reference = logits.log_softmax(-1) if kind == "kl" else None
    notes = (AT_ITS_LEAST,) if kind == "kl" else ()
    return Target(kind, (best,), (adapter.vocabulary.text(best),), notes, reference=reference)


def _of_sets(adapter: Adapter, prompt: Prompt, kind: Kind, text: str, contrast: str | None) -> Target:
    """A set of next tokens, or one set rather than another."""
    logits = adapter.predict(prompt.ids)
    read = surfaces if kind == "attentiveness" else one_of_each
    found = [read(adapter, prompt, logits, "target", read_list("target", text))]
    if contrast:
        found.append(read(adapter, prompt, logits, "contrast", read_list("contrast", contrast)))
    sides = tuple(one.ids for one in found)
    common = set(sides[0]) & set(sides[-1]) if contrast else set()
    if common:
        token = adapter.vocabulary.text(min(common))
        raise WorkbenchError(f"the token {token!r} is in both groups; a token can be in one of them only")
    firsts = tuple(side[0] for side in sides)
    shown_sides = tuple(f"{{{', '.join(repr(adapter.vocabulary.text(i)) for i in side)}}}" for side in sides)
    notes = tuple(note for one in found for note in one.notes)
    return Target(kind, firsts, tuple(map(adapter.vocabulary.text, firsts)), notes, sides, shown_sides)
