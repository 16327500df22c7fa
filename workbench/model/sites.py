"""What is known of one input site: vectors over its channels, Gram matrices, a sample of its rows.

A site is a place where linear layers read their input `X` `[tok, in]`; q, k and v share one. Levels by memory: L0
vectors and the sample, L1 the Gram matrix in blocks on the diagonal, L2 the whole Gram matrix.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from workbench.errors import unknown

BLOCK = 128
"""Columns of a diagonal block of the Gram matrix; the last block is filled up with zeros."""

SAMPLE = 512
"""Rows of the sample."""

VECTORS = ("mean", "mean_abs", "max_abs", "sum_sq")
LEVELS = {**dict.fromkeys(VECTORS, 0), "sample_rows": 0, "gram_blocks": 1, "gram": 2}
"""Names that `needs` may hold -> level of memory. The vectors are always collected."""


@dataclass(eq=False)
class SiteStatistics:
    """Statistics of the inputs `X` of one site over `tokens` rows, float32 (accumulated in float64).

    Attributes:
        tokens: rows seen.
        mean: mean of x a channel.
        mean_abs: mean of |x| (AWQ).
        max_abs: largest |x| (PTQ1.61).
        sum_sq: sum of x^2 over the rows, so that the diagonal of the Gram matrix is `sum_sq / tokens` (Wanda, OBD).
        gram: `X^T X / tokens` (GPTQ's Hessian is twice this, whatever constant that method puts before it).
        gram_blocks: its blocks of 128 columns on the diagonal.
        sample_rows: at most 512 rows of X in float16, the same tokens at every site.
    """

    tokens: int
    mean: Float[Tensor, "in"]
    mean_abs: Float[Tensor, "in"]
    max_abs: Float[Tensor, "in"]
    sum_sq: Float[Tensor, "in"]
    gram: Float[Tensor, "in in"] | None = None
    gram_blocks: Float[Tensor, "blk 128 128"] | None = None
    sample_rows: Float[Tensor, "rows in"] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """What is held, by name."""
        return {name: getattr(self, name) for name in LEVELS if getattr(self, name) is not None}


def check_needs(needs: Collection[str]) -> set[str]:
    """The needs, all vectors among them.

    Raises:
        WorkbenchError: a name that is not in `LEVELS`.
    """
    for name in needs:
        if name not in LEVELS:
            raise unknown("statistic", name, list(LEVELS))
    return {*needs, *VECTORS}


def merge_sites(one: SiteStatistics, other: SiteStatistics, kept: Int64[Tensor, " rows"]) -> SiteStatistics:
    """Statistics of all rows of both: sums add, means are weighted by tokens, the maximum takes the larger.

    Args:
        one: a site.
        other: the same site over other tokens.
        kept: which rows of both samples, one behind the other, make the new sample.
    """
    tokens = one.tokens + other.tokens

    def weigh(a: Tensor, b: Tensor) -> Tensor:
        return ((a.double() * one.tokens + b.double() * other.tokens) / tokens).float()

    def weigh_if_held(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return None if a is None or b is None else weigh(a, b)

    samples = [site.sample_rows for site in (one, other) if site.sample_rows is not None]
    return SiteStatistics(
        tokens=tokens,
        mean=weigh(one.mean, other.mean),
        mean_abs=weigh(one.mean_abs, other.mean_abs),
        max_abs=torch.maximum(one.max_abs, other.max_abs),
        sum_sq=(one.sum_sq.double() + other.sum_sq.double()).float(),
        gram=weigh_if_held(one.gram, other.gram),
        gram_blocks=weigh_if_held(one.gram_blocks, other.gram_blocks),
        sample_rows=torch.cat(samples)[kept] if len(samples) == 2 else None,
    )
