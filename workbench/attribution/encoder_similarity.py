"""A bare encoder seen as one function of one text: how close it is to other texts, which are held fixed.

What Reimers and Gurevych 2019 (arXiv:1908.10084) compare: one vector of each text, and their cosine. Left out: poolings
other than the mean and the first token, and layers behind the pooling.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.attribution.encoder_adapter import EncoderAdapter
from workbench.attribution.tokens import check_text, tokenize
from workbench.errors import WorkbenchError


class SimilarityAdapter(EncoderAdapter):
    """A bare encoder and texts that are held fixed: its outputs [batch text] are cosines with each of them.

    The fixed texts are read by the model as it is at the time, quantized or not, and no gradient goes through them.

    Args:
        model: a model of transformers that takes `inputs_embeds` and gives hidden states.
        tokenizer: its tokenizer.
        fixed: the texts.
        pooling: one vector of a text is the mean over all its tokens, or the first token's.
        context: the most tokens it reads; the configuration's word when not given.

    Raises:
        WorkbenchError: a text is empty or longer than the model reads.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        fixed: tuple[str, ...],
        pooling: Literal["mean", "cls"] = "mean",
        context: int | None = None,
    ) -> None:
        super().__init__(model, tokenizer, context)
        self.pooling = pooling
        self._fixed = [self._read_fixed(text) for text in fixed]
        self._anchors: Tensor | None = None

    @contextmanager
    def steady(self) -> Iterator[None]:
        """As of `Adapter`; the fixed texts are read here, before whatever watches the model inside."""
        with super().steady():
            outermost = self._anchors is None
            if outermost:
                self._anchors = self._read_anchors()
            try:
                yield
            finally:
                if outermost:
                    self._anchors = None

    def places(self, ids: Int[Tensor, "1 tok"]) -> tuple[int, ...]:
        """The positions that the vector of the text is made of."""
        return tuple(range(ids.shape[1])) if self.pooling == "mean" else (0,)

    def vector(self, embeds: Float[Tensor, "batch tok hid"]) -> Float[Tensor, "batch state"]:
        """The vector of each text."""
        states = self.hidden(embeds)
        return states.mean(1) if self.pooling == "mean" else states[:, 0]

    def _logits(self, embeds: Float[Tensor, "batch tok hid"], count: int) -> Float[Tensor, "batch 1 text"]:
        """The cosines, written with operations that DeepLIFT has a rule for."""
        if self._anchors is None:
            with self.steady():
                return self._logits(embeds, count)
        vectors = self.vector(embeds)
        lengths = (vectors * vectors).sum(-1, keepdim=True)
        return ((vectors @ self._anchors.T) * lengths.rsqrt())[:, None]

    def _read_fixed(self, text: str) -> Int[Tensor, "1 tok"]:
        check_text("second text", text)
        prompt = tokenize(self.vocabulary, text)
        if all(prompt.special):
            raise WorkbenchError("the second text is empty; at least 1 token of content is needed")
        if self.context is not None and len(prompt.special) > self.context:
            raise WorkbenchError(
                f"the second text has {len(prompt.special)} tokens; the model reads at most {self.context}"
            )
        return prompt.ids

    @torch.no_grad()
    def _read_anchors(self) -> Float[Tensor, "text state"]:
        device = self.table.weight.device
        vectors = [self.vector(self.table(ids.to(device))) for ids in self._fixed]
        return nn.functional.normalize(torch.cat(vectors), dim=-1)
