"""Encoders seen as language models are: a function of the embeddings of one text, whose outputs a target is made of.

The outputs of a classifier are the logits of its classes; those of a bare encoder are cosines with other texts
(`encoder_similarity`). Positions and segments stay inside the function: the model numbers positions itself (some
begin at two), segments are those that the tokenizer gives two texts. Methods that look at a row of attention look at
the positions that the answer is made of. Left out: padding, and masked language models.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.attribution.adapter import SAME, Adapter
from workbench.attribution.layout import Layout
from workbench.attribution.pieces import Vocabulary
from workbench.attribution.tokens import Prompt, check_text
from workbench.errors import WorkbenchError

CONTINUING = "##"
"""How WordPiece writes that a token goes on with the word before it."""


class WordPieces(Vocabulary):
    """A vocabulary that shows the pieces of a word without the marks that join them."""

    def data(self, index: int) -> bytes:
        """The bytes that a token stands for."""
        whole, mark = super().data(index), CONTINUING.encode()
        joined = whole.startswith(mark) and len(whole) > len(mark) and index not in self.special_ids
        decoder = repr(getattr(getattr(self.tokenizer, "backend_tokenizer", None), "decoder", None))
        return whole.removeprefix(mark) if joined and decoder.startswith("WordPiece") else whole


@dataclass(frozen=True, slots=True)
class EncoderLayout(Layout):
    """A text or two as an encoder reads them.

    Attributes:
        looking: the positions that the answer is made of.
        segments: the number of each token's text; empty where the model is not told.
    """

    looking: tuple[int, ...] = (0,)
    segments: tuple[int, ...] = ()

    @property
    def rows(self) -> tuple[int, ...]:
        """The positions that look at the tokens on behalf of the target."""
        return self.looking

    def first(self, length: int) -> int:
        """The position that a head computed once a text stands at."""
        return self.looking[0]


class EncoderAdapter(Adapter):
    """A classifier of texts and its tokenizer: its outputs [batch class] take the place of the next token's logits.

    Args:
        model: a model of transformers that takes `inputs_embeds` and gives one row of logits a text.
        tokenizer: its tokenizer.
        context: the most tokens it reads; the configuration's word when not given.
    """

    blanks = ("mask", "pad", "unk")

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context: int | None = None) -> None:
        super().__init__(model, tokenizer, context)
        self.vocabulary = WordPieces(tokenizer)

    def encode_pair(self, text: str, second: str) -> Prompt:
        """Two texts as one sequence; its text has the second one on a line of its own.

        Raises:
            WorkbenchError: one of them is empty, no text, or both are longer than the model reads.
        """
        for name, one in (("prompt", text), ("second text", second)):
            check_text(name, one)
            if not one.strip():
                raise WorkbenchError(f"the {name} is empty; at least 1 token of content is needed")
        held: Any = self._tokenized(text, second)
        ids = [int(index) for index in held["input_ids"]]
        if self.context is not None and len(ids) > self.context:
            raise WorkbenchError(f"the two texts have {len(ids)} tokens; the model reads at most {self.context}")
        return Prompt(
            f"{text}\n{second}",
            torch.tensor([ids], dtype=torch.int64),
            tuple(map(self.vocabulary.text, ids)),
            _pair_offsets(held, len(text) + 1),
            tuple(index in self.vocabulary.special_ids for index in ids),
        )

    def told(self, text: str, second: str | None = None) -> EncoderAdapter:
        """The same model for the sequence of these texts: with their segments, and where its answer is read.

        Raises:
            WorkbenchError: the tokenizer numbers more segments than the model knows.
        """
        segments = self._segments(text, second) if second is not None else ()
        other = copy.copy(self)
        other.layout = EncoderLayout(segments=segments)
        return other

    def laid_for(self, prompt: Prompt) -> EncoderAdapter:
        """The same model, with the positions known that its answer to this prompt is made of."""
        other = copy.copy(self)
        layout = self.layout if isinstance(self.layout, EncoderLayout) else EncoderLayout()
        other.layout = replace(layout, looking=self.places(prompt.ids))
        return other

    def places(self, ids: Int[Tensor, "1 tok"]) -> tuple[int, ...]:
        """The positions whose last hidden state the outputs depend on, told from their gradient."""
        states: list[Tensor] = []
        handle = self.model.base_model.register_forward_hook(lambda _, __, given: states.append(given[0]))
        try:
            with self.steady():
                outputs = self.read_logits(self.embed(ids).requires_grad_())
                weights = torch.arange(1, outputs.shape[-1] + 1).to(outputs)
                (slope,) = torch.autograd.grad((outputs * weights).sum(), states[-1])
        finally:
            handle.remove()
        return tuple(slope[0].abs().sum(-1).nonzero()[:, 0].tolist()) or (0,)

    def adds_positions(self) -> bool:
        """Whether the model adds position embeddings to its input, told from its behaviour; see `Adapter`."""
        embeds = torch.zeros_like(self.embed(torch.zeros(1, 2, dtype=torch.int64)))
        with self.steady(), torch.no_grad():
            first, second = self.hidden(embeds)[0]
        return bool((first - second).abs().max() > SAME * first.abs().max())

    def hidden(self, embeds: Float[Tensor, "batch tok hid"]) -> Float[Tensor, "batch tok state"]:
        """The last hidden state of every token."""
        return self.model.base_model(inputs_embeds=embeds, **self._arguments(embeds))[0]

    def _logits(self, embeds: Float[Tensor, "batch tok hid"], count: int) -> Float[Tensor, "batch 1 output"]:
        return self.model(inputs_embeds=embeds, **self._arguments(embeds)).logits[:, None]

    def _arguments(self, embeds: Float[Tensor, "batch tok hid"]) -> dict[str, Tensor]:
        """The segments of a sequence of the layout's length; another one is a single text."""
        segments = getattr(self.layout, "segments", ())
        if len(segments) != embeds.shape[1]:
            return {}
        return {"token_type_ids": torch.tensor(segments, device=embeds.device).expand(embeds.shape[0], -1)}

    def _tokenized(self, text: str, second: str) -> Any:
        fast = bool(self.tokenizer.is_fast)
        return self.tokenizer(text, second, return_offsets_mapping=fast, return_token_type_ids=True)

    def _segments(self, text: str, second: str) -> tuple[int, ...]:
        known = getattr(self.model.config, "type_vocab_size", None)
        if "token_type_ids" not in self._accepted or not known:
            return ()
        segments = tuple(int(number) for number in self._tokenized(text, second)["token_type_ids"])
        if max(segments) >= known:
            raise WorkbenchError(
                f"the tokenizer numbers the segments of two texts up to {max(segments)}; the model knows {known}"
            )
        return segments


def _pair_offsets(held: Any, shift: int) -> tuple[tuple[int, int], ...] | None:
    """First and one-past-last character of each token, those of the second text moved behind the first."""
    if "offset_mapping" not in held:
        return None
    moved = [shift if text == 1 else 0 for text in held.sequence_ids(0)]
    return tuple((start + by, stop + by) for (start, stop), by in zip(held["offset_mapping"], moved, strict=True))
