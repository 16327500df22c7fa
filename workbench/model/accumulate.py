"""Sums over the inputs of one site as they pass, and the statistics that they make."""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from workbench.errors import WorkbenchError
from workbench.model.sites import BLOCK, SAMPLE, VECTORS, SiteStatistics


def sum_bytes(columns: Collection[int], needs: Collection[str]) -> int:
    """Memory that collecting takes: sums in float64 and results in float32.

    Args:
        columns: input channels of each site.
        needs: names from `LEVELS`.
    """
    square = sum(width**2 for width in columns) if "gram" in needs else 0
    blocks = sum((width + BLOCK) * BLOCK for width in columns) if "gram_blocks" in needs else 0
    sample = sum(columns) * SAMPLE * 2 if "sample_rows" in needs else 0
    return 12 * (square + blocks + len(VECTORS) * sum(columns)) + sample


class Accumulator:
    """Adds up the inputs of one site in float64 as they pass.

    Args:
        columns: input channels.
        needs: names from `LEVELS`.
        positions: which tokens of the whole sweep are sampled, in the order of the sample.
        device: where the sums are held.
    """

    def __init__(self, columns: int, needs: Collection[str], positions: Int64[Tensor, " rows"], device: torch.device):
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=device)

        self.tokens = 0
        self.needs = needs
        self.total, self.total_abs, self.total_sq, self.max_abs = zeros(4, columns)
        blocks = -(-columns // BLOCK)
        self.gram = zeros(columns, columns) if "gram" in needs else None
        own_blocks = "gram_blocks" in needs and self.gram is None  # else they are cut out of the whole
        self.gram_blocks = zeros(blocks, BLOCK, BLOCK) if own_blocks else None
        self.positions = positions.to(device)
        sampled = "sample_rows" in needs
        self.sample: Tensor | None = zeros(len(positions), columns).half() if sampled else None

    def add(self, inputs: Float[Tensor, "... in"], start: int, tokens: int) -> None:
        """Take in a batch.

        Args:
            inputs: what the site is given; all leading axes are rows.
            start: number of the batch's first token in the sweep.
            tokens: tokens of the batch. A site that sees another number of rows (a part of the tokens, as behind the
                router of a mixture of experts) gets no sample, because its rows cannot be told apart.
        """
        rows = inputs.detach().reshape(-1, inputs.shape[-1])
        wide = rows.double()
        size = wide.abs()
        self.tokens += len(rows)
        self.total += wide.sum(0)
        self.total_abs += size.sum(0)
        self.total_sq += wide.square().sum(0)
        self.max_abs = torch.maximum(self.max_abs, size.amax(0)) if len(rows) else self.max_abs
        if self.gram is not None:
            self.gram.addmm_(wide.T, wide)
        if self.gram_blocks is not None:
            self.gram_blocks += _block_products(wide)
        if len(rows) != tokens:
            self.sample = None
        if self.sample is not None:
            here = (self.positions >= start) & (self.positions < start + tokens)
            limit = torch.finfo(torch.float16).max
            self.sample[here] = rows[self.positions[here] - start].clamp(-limit, limit).half()

    def finish(self) -> SiteStatistics:
        """The statistics of all rows that were added.

        Raises:
            WorkbenchError: there were none.
        """
        if self.tokens == 0:
            raise WorkbenchError("no calibration token reached a site of the model; use more tokens")

        def share(total: Tensor) -> Tensor:
            return (total / self.tokens).float().cpu()

        blocks = (
            diagonal_blocks(self.gram) if self.gram is not None and "gram_blocks" in self.needs else self.gram_blocks
        )
        return SiteStatistics(
            tokens=self.tokens,
            mean=share(self.total),
            mean_abs=share(self.total_abs),
            max_abs=self.max_abs.float().cpu(),
            sum_sq=self.total_sq.float().cpu(),
            gram=None if self.gram is None else self._mean_gram(),
            gram_blocks=None if blocks is None else share(blocks),
            sample_rows=None if self.sample is None else self.sample.cpu(),
        )

    def _mean_gram(self) -> Tensor:
        """The Gram matrix, made in place of its sum: that of a wide site takes half a gigabyte."""
        assert self.gram is not None
        total, self.gram = self.gram, None
        return total.div_(self.tokens).float().cpu()


def _block_products(rows: Float[Tensor, "tok in"]) -> Float[Tensor, "blk 128 128"]:
    """`X_b^T X_b` for each block b of 128 columns."""
    filled = pad(rows, (0, -rows.shape[1] % BLOCK))
    blocks = filled.reshape(len(rows), -1, BLOCK).transpose(0, 1)  # (blk, tok, 128)
    return blocks.transpose(1, 2) @ blocks


def diagonal_blocks(gram: Float[Tensor, "in in"]) -> Float[Tensor, "blk 128 128"]:
    """The blocks of 128 columns on the diagonal of a Gram matrix, the last one filled up with zeros."""
    starts = range(0, len(gram), BLOCK)
    parts = [gram[start : start + BLOCK, start : start + BLOCK] for start in starts]
    return torch.stack([pad(part, (0, BLOCK - len(part), 0, BLOCK - len(part))) for part in parts])
