"""The one place of attribution that touches a Hugging Face causal language model.

The model is seen as a function of the embeddings of one prompt, because token ids cannot be differentiated. Embeddings
come from calling the model's embedding module (some families scale inside it), positions are always passed, nothing is
cached, weights never collect gradients. Where what is explained are several tokens, they stand behind the prompt and
the layout says so (`laid_out`). Left out: padding (prompts are explained one at a time; the rows of a batch are always
of one length) and encoder models.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.attribution.layout import Layout, additive
from workbench.attribution.tap import eager_attention, tap
from workbench.attribution.tokens import Prompt, Vocabulary, encode
from workbench.attribution.unpacked import dense_copy
from workbench.errors import WorkbenchError
from workbench.model.work_room import check_maps, prompts_that_fit

Objective = Callable[[Tensor], Tensor]
"""Logits [batch vocab] of the next token, or [batch read vocab] of all that is read -> one value a row [batch]."""

SAME = 1e-5
"""Two logits count as equal when they differ by less than this share of the largest."""


class Adapter:
    """A causal language model and its tokenizer, for attribution.

    The model is left as it was found after every call: attention implementation, training flags, `requires_grad` and
    hooks. A model of packed weights, whose products have no gradient, is copied with dense ones; `notes` says so.

    Args:
        model: any causal language model of transformers that takes `inputs_embeds`.
        tokenizer: its tokenizer.
        context: the most tokens it reads; the configuration's word when not given.
    """

    blanks: tuple[Literal["eos", "unk", "mask", "pad"], ...] = ("eos", "unk")
    """Tokens that may stand for nothing, by their names in a tokenizer, the first to be tried first."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context: int | None = None) -> None:
        self.model, self.notes = dense_copy(model)
        self.layout = Layout()
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

    def encode(self, text: str, *, cut: bool = False) -> Prompt:
        """The tokens of a prompt; `cut` leaves out the beginning of one that is too long.

        Raises:
            WorkbenchError: see `tokens.encode`.
        """
        return encode(self.vocabulary, text, self.context, cut=cut)

    def laid_out(self, layout: Layout) -> Adapter:
        """The same model for sequences of this layout: its fixed tokens are held, its positions are read."""
        other = copy.copy(self)
        other.layout = layout
        return other

    def held(self, ids: Int[Tensor, "1 tok"]) -> Bool[Tensor, " tok"]:
        """Which tokens are held fixed: control tokens and those that the layout fixes."""
        control = torch.tensor([index in self.vocabulary.special_ids for index in ids[0].tolist()], dtype=torch.bool)
        return control | torch.tensor(self.layout.fixed) if self.layout.fixed else control

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

    @contextmanager
    def recording(self, length: int) -> Iterator[None]:
        """As `steady`, for a pass over a prompt of so many tokens whose activations stay for a gradient.

        Raises:
            WorkbenchError: a model that is read block by block, under a limit that the prompt does not fit in.
        """
        prompts_that_fit(self.model, length, 1)
        with self.steady():
            yield

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
        return self._logits(embeds, 1 if last_only else embeds.shape[1])

    def _logits(self, embeds: Float[Tensor, "batch tok hid"], count: int) -> Float[Tensor, "batch kept vocab"]:
        """The logits of the last `count` positions."""
        batch, length, _ = embeds.shape
        sight = self.layout.sight(length)
        arguments = {
            "position_ids": self.layout.positions(length).to(embeds.device).expand(batch, -1),
            "use_cache": False,
            "logits_to_keep": count,
            "attention_mask": None if sight is None else additive(sight, embeds),
        }
        known = {name: value for name, value in arguments.items() if name in self._accepted}
        return self.model(inputs_embeds=embeds, **known).logits[:, -count:]

    def read_logits(self, embeds: Float[Tensor, "batch tok hid"]) -> Float[Tensor, "batch *read vocab"]:
        """The logits that targets read: the next token's, or all that the layout reads; single precision or better."""
        reads = self.layout.reads
        logits = self._logits(embeds, self.layout.kept(embeds.shape[1]))
        chosen = logits[:, [place - reads[0] for place in reads]] if reads else logits[:, 0]
        return chosen if chosen.dtype == torch.float64 else chosen.float()

    def next_logits(self, embeds: Float[Tensor, "batch tok hid"]) -> Float[Tensor, "batch vocab"]:
        """The logits of the token that follows the prompt, as `read_logits` gives them."""
        logits = self.read_logits(embeds)
        return logits[:, 0] if self.layout.reads else logits

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
            return objective(self.read_logits(embeds))

    def gradients(
        self, embeds: Float[Tensor, "batch tok hid"], objective: Objective
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch tok hid"]]:
        """The objective at each row of embeddings and its gradient there."""
        with self.recording(embeds.shape[1]):
            leaf = embeds.detach().clone().requires_grad_()
            values = objective(self.read_logits(leaf))
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

    def attentions(
        self, ids: Int[Tensor, "1 tok"], visit: Callable[[int, Tensor], None]
    ) -> Float[Tensor, "1 *read vocab"]:
        """Show the attention probabilities of each layer to `visit(layer, probabilities [head tok tok])`, in order.

        Returns:
            What `read_logits` gives.

        Raises:
            WorkbenchError: not every layer gave its probabilities, or a memory limit leaves no room for them.
        """
        check_maps(self.model, ids.shape[1])
        with self.steady(), torch.no_grad(), eager_attention(self.model), tap(self.model, ids.shape[1], visit):
            return self.read_logits(self.embed(ids))
