"""A model as a chain that is worked through part by part: what stands in front of its blocks, each block, what follows.

Each part can be run and differentiated by itself, from hidden states that somebody else has kept. So neither the
weights nor the graph of more than one part need be in memory. Nothing of the model is changed at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import functional_call

from workbench.model.blocks import Call, find_blocks
from workbench.model.calls import Calls, in_place_of, learn_calls
from workbench.model.fit import HEAD_LOGITS
from workbench.model.hidden_file import HiddenFile
from workbench.model.matrices import Matrix, quantizable_matrices
from workbench.model.passage import Arrived, takes_places
from workbench.model.streaming import stream_of
from workbench.progress import Progress, Steps

Enter = Callable[[Tensor], dict[str, Any]]
"""Makes of a batch what the model is called with."""


def by_ids(ids: Int64[Tensor, "window tok"]) -> dict[str, Any]:
    """A batch of token ids as a model takes it."""
    return {"input_ids": ids, "use_cache": False}


class Chain:
    """Batches of windows and the parts of a model that they pass.

    Args:
        model: the model.
        batches: the windows, batch by batch.
        enter: how the model is called with a batch.

    Attributes:
        blocks: its blocks in order.
        outside: matrices that stand in no block; each is used in front of the blocks or behind them.
    """

    def __init__(self, model: Any, batches: Sequence[Int64[Tensor, "window tok"]], enter: Enter = by_ids) -> None:
        self.model, self.batches, self.enter = model, list(batches), enter
        self.blocks = find_blocks(model)
        inside = {matrix.name for block in self.blocks for matrix in block.matrices}
        self.outside = [matrix for matrix in quantizable_matrices(model) if matrix.name not in inside]
        self._calls: dict[int, Calls] = {}
        self._takes_places = takes_places(model)

    def open(self) -> Steps[bool]:
        """Learn how the blocks are called; returns whether the model is such a chain.

        It is none where a block is given more of the text than what the block in front of it returns.
        """
        if not self.blocks:
            return False
        for size in dict.fromkeys(len(ids) for ids in self.batches):
            yield Progress(0, 1, "how the blocks are called")
            alike = [ids for ids in self.batches if len(ids) == size]
            self._calls[size] = learn_calls(self.model, self.blocks, alike[0])
            if self._calls[size].apart or (len(alike) > 1 and not self._is_called_alike(alike[-1], self._calls[size])):
                return False
        return True

    def _is_called_alike(self, ids: Tensor, known: Calls) -> bool:
        """Whether another text brings the blocks the same masks and positions."""
        other = learn_calls(self.model, self.blocks, ids)
        pairs = [(known.of[block.path], other.of[block.path]) for block in self.blocks]
        return all(_alike((a.arguments, a.keywords), (b.arguments, b.keywords)) for a, b in pairs)

    def room(self, places: int) -> HiddenFile:
        """A file for hidden states of all batches in front of so many parts; batch by batch, part after part."""
        first = next(iter(self._calls.values())).first
        shapes = [torch.Size((len(ids), *first.shape[1:])) for ids in self.batches]
        return HiddenFile(shapes * places, first.dtype)

    def fetch(self, place: int) -> None:
        """Have all weights of a block in memory, read at once."""
        block, stream = self.blocks[place], stream_of(self.model)
        if stream is not None:
            stream.values([f"{block.path}.{name}" for name, one in block.module.named_parameters() if one.is_meta])

    def front(self, ids: Int64[Tensor, "window tok"], values: Mapping[str, Tensor]) -> Float[Tensor, "window tok hid"]:
        """Hidden states in front of the first block; `values` as the model stores them."""
        found: list[Tensor] = []

        def arrive(*arguments: Any, **keywords: Any) -> None:
            found.append(Call.split(arguments, keywords)[0])
            raise Arrived

        try:
            with in_place_of({self.blocks[0]: arrive}):
                functional_call(self.model, dict(values), (), self.enter(ids.to(self.model.device)))
        except Arrived:
            pass
        return found[0]

    def run(self, place: int, hidden: Float[Tensor, "window tok hid"], values: Mapping[str, Tensor]) -> Tensor:
        """What a block makes of hidden states; `values` as the model stores them, in place of some of its own."""
        block = self.blocks[place]
        return block.run(self._calls[len(hidden)].of[block.path], hidden, {}, values)

    def logits(
        self,
        ids: Int64[Tensor, "window tok"],
        hidden: Float[Tensor, "window tok hid"],
        values: Mapping[str, Tensor],
        kept: Int64[Tensor, " some"],
    ) -> Float[Tensor, "window some vocab"]:
        """What follows the last block, for some places of the windows."""
        last = self._calls[len(ids)].form(hidden)
        some = {"logits_to_keep": kept} if self._takes_places else {}
        with in_place_of(dict.fromkeys(self.blocks, lambda *arguments, **keywords: last)):
            inputs = self.enter(ids.to(self.model.device)) | some
            output: Any = functional_call(self.model, dict(values), (), inputs)
        logits = output.logits if some else output.logits[:, kept]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def chunks(self, ids: Int64[Tensor, "window tok"], most: int = HEAD_LOGITS) -> Sequence[Int64[Tensor, " some"]]:
        """Places whose next token is predicted, in runs of so many logits at most: 32 MB."""
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        length = max(1, most // (vocabulary * len(ids))) if self._takes_places else ids.shape[1]
        return torch.arange(ids.shape[1] - 1).split(length)

    def home(self) -> dict[str, int]:
        """Matrix name -> place of its block; -1 for those outside."""
        inside = {matrix.name: place for place, block in enumerate(self.blocks) for matrix in block.matrices}
        return {matrix.name: -1 for matrix in self.outside} | inside


def part_of(chain: Chain, place: int) -> Sequence[Matrix]:
    """The matrices of a block, or for -1 those that stand in none."""
    return chain.outside if place < 0 else chain.blocks[place].matrices


def _alike(one: Any, other: Any) -> bool:
    """Whether two arguments of a call are the same, tensors by their values; what is neither is taken to be."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(_alike(*pair) for pair in zip(one, other, strict=True))
    return isinstance(one, Tensor) == isinstance(other, Tensor)
