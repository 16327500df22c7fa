"""The sizes of a model that its costs are made of. Importing this imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.model.load import LoadedModel

OWN_BLOCK = 0.65
"""Part of a block that runs again when one of its matrices changes, on average: all behind attention's projections and
the products themselves, less in front of later ones (`model.noted`)."""


@dataclass(frozen=True)
class Shape:
    """Sizes.

    Attributes:
        parameters: all weights, shared ones once.
        matrices: `(out, in)` of every quantizable matrix.
        sites: input channels of every place that matrices read from.
        blocks: layers.
        vocabulary: rows of the head.
        hidden: channels between the layers.
        heads: query heads of a layer.
        bytes: of a weight as it is held.
    """

    parameters: int
    matrices: tuple[tuple[int, int], ...]
    sites: tuple[int, ...]
    blocks: int
    vocabulary: int
    hidden: int
    heads: int
    bytes: int = 4

    @property
    def weights(self) -> int:
        """Weights in quantizable matrices."""
        return sum(rows * columns for rows, columns in self.matrices)

    @property
    def activations(self) -> int:
        """Numbers that go into and come out of the matrices for one token."""
        return sum(rows + columns for rows, columns in self.matrices)

    @property
    def head_share(self) -> float:
        """Part of a forward pass that is the head."""
        head = self.vocabulary * self.hidden
        return head / (self.weights + head)

    @property
    def behind(self) -> float:
        """Part of a forward pass that lies behind a matrix, on average over the matrices: its block's rest, the blocks
        that follow, the head."""
        return self.head_share + (1 - self.head_share) * (OWN_BLOCK + (self.blocks - 1) / 2) / self.blocks


def shape_of(loaded: LoadedModel) -> Shape:
    """The sizes of a model.

    Raises:
        WorkbenchError: it has no matrix that can be quantized.
    """
    from workbench.studies.choice import find_matrices

    matrices = find_matrices(loaded)
    config: Any = loaded.model.config.get_text_config()
    sites = {one.site: one.columns for one in matrices}
    blocks = {one.block for one in matrices if one.block is not None}
    return Shape(
        parameters=loaded.identity.parameters,
        matrices=tuple((one.rows, one.columns) for one in matrices),
        sites=tuple(sites.values()),
        blocks=max(1, len(blocks)),
        vocabulary=int(config.vocab_size),
        hidden=int(config.hidden_size),
        heads=int(getattr(config, "num_attention_heads", 1)),
        bytes=next(loaded.model.parameters()).element_size(),
    )
