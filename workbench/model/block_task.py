"""What a quantizer that looks at a whole block is given: the block, what goes into it, and a way to run it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from workbench.model.blocks import Block
from workbench.model.matrices import Matrix
from workbench.model.sites import SiteStatistics
from workbench.model.walk import BlockWalk, Stream
from workbench.progress import Steps


@dataclass(frozen=True, eq=False)
class BlockTask:
    """One block to be quantized.

    Attributes:
        walk: stands before the block.
        block: the block.
        matrices: those of its matrices that are to be quantized by this method, in the model's order.
        weights: their full weights `[out, in]`, float32; not to be written to.
    """

    walk: BlockWalk
    block: Block
    matrices: tuple[Matrix, ...]
    weights: Mapping[str, Float[Tensor, "out in"]]

    @property
    def sites(self) -> dict[str, tuple[Matrix, ...]]:
        """Site -> those of the matrices that read it, in the model's order."""
        paths = dict.fromkeys(matrix.site for matrix in self.matrices)
        return {path: tuple(one for one in self.matrices if one.site == path) for path in paths}

    def inputs(self, stream: Stream = "full") -> Sequence[Float[Tensor, "window tok hid"]]:
        """Hidden states in front of the block, batch by batch: of the full model, or behind the quantized blocks.

        They are handed over on the CPU, as weights and statistics are; the block runs where it lies.
        """
        states = self.walk.stream(stream)
        return states if self.walk.model.device.type in ("cpu", "meta") else [one.cpu() for one in states]

    def run(
        self,
        batch: int,
        hidden: Float[Tensor, "window tok hid"],
        weights: Mapping[str, Tensor],
        others: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """What the block makes of the hidden states of a batch, with other weights `[out, in]` in place of its own.

        A gradient flows to the weights and the hidden states, if one is asked for. `others` are norms and biases by
        parameter name, as the model stores them.
        """
        return self.block.run(self.walk.call(self.block, batch), hidden, weights, others)

    def statistics(self, site: str, needs: Collection[str], stream: Stream = "full") -> Steps[SiteStatistics]:
        """Statistics of the inputs of a site, the block in full precision."""
        return self.walk.statistics(self.block, site, needs, stream=stream, weights={})
