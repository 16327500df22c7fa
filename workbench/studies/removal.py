"""Tokens of one prompt, removed: what the model says when some of them are replaced by a baseline.

Every set of tokens is put to the model once, whoever asks for it, in batches with progress in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, get_args

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import BaselineName, make_baseline
from workbench.attribution.sampling import rows_at_once
from workbench.attribution.target_kinds import following
from workbench.attribution.targets import Target
from workbench.errors import WorkbenchError, unknown
from workbench.measures.faithfulness import Value
from workbench.progress import Progress, Steps

Measure = Literal["target", "logprob", "prob"]
T = TypeVar("T")


class Removal:
    """F and the probabilities of a few tokens as functions of which tokens of the prompt are kept.

    Units are the tokens of content; control tokens always stay. A removed token is replaced by the baseline's embedding
    at its place, so that the others keep their positions.

    Args:
        adapter: the model; it may be changed (overlaid) only after `measured` has returned.
        ids: the prompt.
        target: F.
        classes: next tokens whose probability is wanted.
        baseline: what stands for a removed token.
    """

    def __init__(
        self,
        adapter: Adapter,
        ids: Int[Tensor, "1 tok"],
        target: Target,
        classes: Sequence[int] = (),
        baseline: BaselineName = "auto",
    ) -> None:
        self.adapter, self.target = adapter, target
        self.classes = list(dict.fromkeys([*target.token_ids, *classes]))
        self._embeds = adapter.embed(ids)
        start = make_baseline(adapter, ids, self._embeds, baseline)
        self._start, self.baseline = start.embeds, start.name
        self.places = (~start.held_fixed).nonzero().flatten().cpu()
        self._answers: dict[bytes, Tensor] = {}
        self._wanted: dict[bytes, Tensor] | None = None

    def measure(self, name: Measure) -> Value:
        """What curves follow, as a function of keep-masks."""
        return {"target": self.target_value, "logprob": self.log_probability, "prob": self.probability}[name]

    @property
    def units(self) -> int:
        """How many tokens can be removed."""
        return len(self.places)

    def target_value(self, keep: Bool[Tensor, "mask unit"]) -> Float64[Tensor, " mask"]:
        """F, in its own units."""
        return self._look(keep)[:, 0]

    def log_probability(self, keep: Bool[Tensor, "mask unit"]) -> Float64[Tensor, " mask"]:
        """The log-probability of the target, nats."""
        return self._look(keep)[:, 1]

    def probability(self, keep: Bool[Tensor, "mask unit"]) -> Float64[Tensor, " mask"]:
        """The probability of the target."""
        return self._look(keep)[:, 1].exp()

    def probabilities(self, keep: Bool[Tensor, "mask unit"]) -> Float64[Tensor, "mask class"]:
        """The probabilities of `classes`, in their order."""
        return self._look(keep)[:, 1:].exp()

    def measured(self, compute: Callable[[], T], note: str) -> Steps[T]:
        """Run a computation that asks for values, with progress while the model answers.

        It is run twice: first to hear what it asks for (it sees zeros then), so that which sets it asks for must not
        depend on the answers.
        """
        self._wanted = {}
        try:
            compute()
            wanted = list(self._wanted.values())
        finally:
            self._wanted = None
        rows = rows_at_once(self.adapter.model, self._embeds.shape[1])
        for done in range(0, len(wanted), rows):
            yield Progress(done, len(wanted), f"{note}: {len(wanted)} prompts with tokens replaced")
            self._answer(torch.stack(wanted[done : done + rows]))
        return compute()

    def _look(self, keep: Bool[Tensor, "mask unit"]) -> Float64[Tensor, "mask answer"]:
        """F and the log-probabilities of each mask; zeros while questions are only collected."""
        keys = [row.numpy().tobytes() for row in keep.contiguous()]
        missing = {key: row for key, row in zip(keys, keep, strict=True) if key not in self._answers}
        if self._wanted is not None:
            self._wanted.update(missing)
            return torch.zeros(len(keep), 1 + len(self.classes), dtype=torch.float64)
        if missing:
            self._answer(torch.stack(list(missing.values())))
        return torch.stack([self._answers[key] for key in keys])

    def _answer(self, keep: Bool[Tensor, "mask unit"]) -> None:
        """Ask the model and remember."""
        stays = torch.ones(len(keep), self._embeds.shape[1], dtype=torch.bool)
        stays[:, self.places] = keep
        inputs = torch.where(stays[..., None].to(self._embeds.device), self._embeds, self._start)
        with self.adapter.steady(), torch.no_grad():
            logits = self.adapter.read_logits(inputs)
            chances = following(logits).log_softmax(-1)[:, self.classes]
            known = torch.cat([self.target.value(logits)[:, None], chances], 1)
        for row, found in zip(keep, known.double().cpu(), strict=True):
            self._answers[row.contiguous().numpy().tobytes()] = found


def read_choice(kind: str, name: str, choices: Any) -> Any:
    """A word out of a `Literal`, checked because specs come from outside.

    Raises:
        WorkbenchError: another word.
    """
    if name not in get_args(choices):
        raise unknown(kind, name, get_args(choices))
    return name


def marked_units(
    offsets: Sequence[tuple[int, int]] | None, text: str, marked: Sequence[str | Sequence[int]], places: Tensor
) -> Bool[Tensor, " unit"]:
    """Which units are marked, by texts (the first occurrence of each) or by tokens (first and one past the last).

    Raises:
        WorkbenchError: a text does not occur, the tokenizer cannot tell where its tokens stand, or there are no such
            tokens.
    """
    count = int(places.max()) + 1 if offsets is None else len(offsets)
    found = torch.zeros(count, dtype=torch.bool)
    for part in marked:
        first, stop = _tokens_of(offsets, text, part) if isinstance(part, str) else _checked(part, count)
        found[first:stop] = True
    return found[places]


def _tokens_of(offsets: Sequence[tuple[int, int]] | None, text: str, part: str) -> tuple[int, int]:
    """The tokens that touch the first occurrence of a text."""
    if offsets is None:
        raise WorkbenchError("this tokenizer cannot tell where its tokens stand in the prompt; leave out marked texts")
    start = text.find(part) if part else -1
    if start < 0:
        raise WorkbenchError(f"the marked text {part[:80]!r} does not occur in the prompt")
    stop = start + len(part)
    touched = [place for place, (first, last) in enumerate(offsets) if first < stop and last > start]
    return (touched[0], touched[-1] + 1) if touched else (0, 0)


def _checked(span: Sequence[int], count: int) -> tuple[int, int]:
    if len(span) != 2 or not 0 <= span[0] < span[1] <= count:
        raise WorkbenchError(f"the marked tokens {list(span)[:4]} are no span; the prompt has tokens 0 to {count - 1}")
    return span[0], span[1]
