"""What an attribution of an encoder explains: a class, one class rather than another, or the closeness to a text.

A class is written by its name, by its number as `id:2`, or not at all (the model's own answer), with `logit:` (when
nothing stands there), `logprob:` or `prob:` in front. Closeness is the cosine of two texts' vectors; a contrast is a
third text, and the difference of the two cosines is explained. Left out: sets of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from workbench.attribution.encoder_adapter import EncoderAdapter
from workbench.attribution.encoder_similarity import SimilarityAdapter
from workbench.attribution.questions import Posed
from workbench.attribution.target_kinds import Kind
from workbench.attribution.target_texts import split_kind
from workbench.attribution.targets import Target
from workbench.attribution.tokens import Prompt
from workbench.errors import WorkbenchError, shown, unknown

OF_CLASSES: tuple[Kind, ...] = ("logit", "logprob", "prob")
MOST_SHOWN = 40
"""Characters of a text that stand in the label of a target."""


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a classifier.

    Attributes:
        labels: their names in the order of the logits.
        exclusive: whether exactly one is right, so that the logits have a softmax.
    """

    labels: tuple[str, ...]
    exclusive: bool = True

    def find(self, name: str, text: str) -> int:
        """The number of the class that a text means.

        Raises:
            WorkbenchError: there is none.
        """
        digits = text.removeprefix("id:").strip()
        if text.startswith("id:") and digits.isascii() and digits.isdigit() and int(digits) < len(self.labels):
            return int(digits)
        alike = [place for place, label in enumerate(self.labels) if label.casefold() == text.strip().casefold()]
        exact = [place for place in alike if self.labels[place] == text]
        if exact or len(alike) == 1:
            return (exact or alike)[0]
        raise unknown(name, text, (*self.labels[:20], "id: and a number"))


@dataclass(frozen=True, slots=True)
class Closeness(Target):
    """The cosine with a text, or with one rather than with another; a sum of outputs, as logits are."""

    @property
    def label(self) -> str:
        """In words, such as `cosine with 'a cat'`."""
        return " minus ".join(f"cosine with {text!r}" for text in self.texts)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; the numbers are those of the texts that are held fixed, not of tokens."""
        return {
            "kind": "cosine",
            "ids": list(self.token_ids),
            "texts": list(self.texts),
            "label": self.label,
            "sides": [list(side) for side in self.parts],
        }


def pose_class(
    adapter: EncoderAdapter,
    classes: Classes,
    prompt: Prompt,
    target: str = "",
    contrast: str | None = None,
) -> Posed:
    """The question why a classifier answers a prompt with a class, or with one rather than another.

    Raises:
        WorkbenchError: no such class, a class against itself, or a measure that its logits do not have.
    """
    kind, text = split_kind(target)
    if kind not in OF_CLASSES:
        raise unknown("measure of a class", kind, OF_CLASSES)
    if kind != "logit" and not classes.exclusive:
        raise WorkbenchError(
            f"the target {shown(target)} needs classes of which exactly one is right; this model's logits have no"
            " softmax, explain a logit"
        )
    laid = adapter.laid_for(prompt)
    logits = laid.predict(prompt.ids)
    chosen = [classes.find("target", text) if text else int(logits.argmax())]
    if contrast:
        chosen.append(classes.find("contrast", contrast))
    if len(set(chosen)) < len(chosen):
        label = classes.labels[chosen[0]]
        raise WorkbenchError(f"target and contrast are the same class {label!r}; choose two that differ")
    measured: Kind = "contrast" if contrast and kind != "prob" else kind
    texts = tuple(classes.labels[place] for place in chosen)
    return Posed(laid, prompt, Target(measured, tuple(chosen), texts, adapter.notes + prompt.notes))


def pose_closeness(adapter: SimilarityAdapter, prompt: Prompt, texts: Sequence[str]) -> Posed:
    """The question why a prompt is close to the first fixed text, or closer to it than to the second."""
    laid = adapter.laid_for(prompt)
    laid.predict(prompt.ids)  # refuses vectors that are not numbers
    how = "the mean over all tokens" if adapter.pooling == "mean" else "the state of the first token"
    note = f"a text's vector is {how}; the other text is held fixed, and its own tokens get no scores"
    written = tuple(text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..." for text in texts)
    places = tuple(range(len(texts)))
    kind: Kind = "contrast" if len(texts) > 1 else "logit"
    return Posed(laid, prompt, Closeness(kind, places, written, (*adapter.notes, *prompt.notes, note)))


def top_outputs(
    names: Sequence[str], outputs: Float[Tensor, " output"], exclusive: bool | None
) -> list[dict[str, Any]]:
    """The outputs, largest first, in the form of `targets.top_tokens`.

    Args:
        names: of the outputs.
        outputs: logits or cosines.
        exclusive: whether log-probabilities (nats) are those of a softmax, of a sigmoid each (False), or nothing of
            the kind (None), where they are null.
    """
    logs = outputs.log_softmax(0) if exclusive else logsigmoid(outputs)
    order = outputs.argsort(descending=True).tolist()
    return [
        {
            "token": names[place],
            "id": place,
            "logit": float(outputs[place]),
            "logprob": None if exclusive is None else float(logs[place]),
        }
        for place in order
    ]


def with_second(prompt: Prompt, second: str) -> Prompt:
    """A prompt with the note that says what its second text is."""
    note = f"the prompt and a second text, {shown(second)}, are read as one sequence, and both have scores"
    return replace(prompt, notes=(*prompt.notes, note))
