"""The one place of attribution that touches a Hugging Face causal language model.

The model is seen as a function of the embeddings of one prompt, because token ids cannot be differentiated. Embeddings
come from calling the model's embedding module (some families scale inside it), positions are always passed, nothing is
cached, weights never collect gradients. Left out: padding (prompts are explained one at a time) and encoder models.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.attribution.tap import eager_attention, tap
from workbench.attribution.tokens import Prompt, Vocabulary, encode
from workbench.errors import WorkbenchError

Objective = Callable[[Tensor], Tensor]
"""Logits [batch vocab] of the next token -> one value a row [batch]."""

SAME = 1e-5
"""Two logits count as equal when they differ by less than this share of the largest."""


class Adapter:
    """A causal language model and its tokenizer, for attribution.

    The model is left as it was found after every call: attention implementation, training flags, `requires_grad` and
    hooks.

    Args:
        model: any causal language model of transformers that takes `inputs_embeds`.
        tokenizer: its tokenizer.
        context: the most tokens it reads; the configuration's word when not given.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context: int | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.vocabulary = Vocabulary(tokenizer)
        self.context = context or getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._accepted = frozenset(inspect.signature(model.forward).parameters)

    @property
    def table(self) -> nn.Embedding:
        """The embedding module."""
        return cast(nn.Embedding, self.model.get_input_embeddings())

    @property
    def rows(self) -> int:
        """How many token ids have an embedding."""
        return self.table.weight.shape[0]

    def encode(self, text: str) -> Prompt:
        """The tokens of a prompt.

        Raises:
            WorkbenchError: see `tokens.encode`.
        """
        return encode(self.vocabulary, text, self.context)

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Frozen weights, no dropout, and gradients that work whatever mode the caller is in; flags come back after."""
        thawed = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        training = [module for module in self.model.modules() if module.training]
        try:
            for parameter in thawed:
                parameter.requires_grad_(False)
            for module in training:
                module.training = False
            with torch.inference_mode(False), torch.enable_grad():
                yield
        finally:
            for parameter in thawed:
                parameter.requires_grad_(True)
            for module in training:
                module.training = True

    def embed(self, ids: Int[Tensor, "1 tok"]) -> Float[Tensor, "1 tok hid"]:
        """The embeddings of token ids, by calling the embedding module; no graph.

        Raises:
            WorkbenchError: an id has no embedding (the tokenizer belongs to another model).
        """
        highest = int(ids.max())
        if highest >= self.rows:
            raise WorkbenchError(f"token id {highest} has no embedding; the model knows the ids 0 to {self.rows - 1}")
        with self.steady(), torch.no_grad():
            return self.table(ids.to(self.table.weight.device))

    def forward_embeds(
        self, embeds: Float[Tensor, "batch tok hid"], *, last_only: bool = False
    ) -> Float[Tensor, "batch kept vocab"]:
        """The logits of every position, or of the last one alone, in the caller's gradient mode."""
        batch, length, _ = embeds.shape
        arguments = {
            "position_ids": torch.arange(length, device=embeds.device).expand(batch, -1),
            "use_cache": False,
            "logits_to_keep": 1 if last_only else 0,
        }
        known = {name: value for name, value in arguments.items() if name in self._accepted}
        logits = self.model(inputs_embeds=embeds, **known).logits
        return logits[:, -1:] if last_only else logits

    def next_logits(self, embeds: Float[Tensor, "batch tok hid"]) -> Float[Tensor, "batch vocab"]:
        """The logits of the next token, in single precision or better, in the caller's gradient mode."""
        logits = self.forward_embeds(embeds, last_only=True)[:, 0]
        return logits if logits.dtype == torch.float64 else logits.float()

    def predict(self, ids: Int[Tensor, "1 tok"]) -> Float[Tensor, " vocab"]:
        """The logits of the token that follows the prompt.

        Raises:
            WorkbenchError: some are not numbers.
        """
        with self.steady(), torch.no_grad():
            logits = self.next_logits(self.embed(ids))[0]
        if bool(logits.isnan().any()):
            raise WorkbenchError(f"the model answers this prompt with {int(logits.isnan().sum())} logits that are NaN")
        return logits

    def values(self, embeds: Float[Tensor, "batch tok hid"], objective: Objective) -> Float[Tensor, " batch"]:
        """The objective at each row of embeddings; no graph."""
        with self.steady(), torch.no_grad():
            return objective(self.next_logits(embeds))

    def gradients(
        self, embeds: Float[Tensor, "batch tok hid"], objective: Objective
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch tok hid"]]:
        """The objective at each row of embeddings and its gradient there."""
        with self.steady():
            leaf = embeds.detach().clone().requires_grad_()
            values = objective(self.next_logits(leaf))
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), gradient

    def adds_positions(self) -> bool:
        """Whether the model adds position embeddings to its input, told from its behaviour.

        Two positions of zero embeddings look alike to a model whose positions act inside attention only.
        """
        embeds = torch.zeros_like(self.embed(torch.zeros(1, 2, dtype=torch.int64)))
        with self.steady(), torch.no_grad():
            first, second = self.forward_embeds(embeds)[0]
        return bool((first - second).abs().max() > SAME * first.abs().max())

    def attentions(self, ids: Int[Tensor, "1 tok"], visit: Callable[[int, Tensor], None]) -> Float[Tensor, "1 vocab"]:
        """Show the attention probabilities of each layer to `visit(layer, probabilities [head tok tok])`, in order.

        Returns:
            The logits of the next token.

        Raises:
            WorkbenchError: not every layer gave its probabilities.
        """
        with self.steady(), torch.no_grad(), eager_attention(self.model), tap(self.model, ids.shape[1], visit):
            return self.next_logits(self.embed(ids))
