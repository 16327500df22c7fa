"""Attention sinks: tokens that draw attention by a few huge entries of their hidden state, whatever they mean.

After Kang et al. 2025, arXiv:2503.03321, and the massive activations of Sun et al. 2024, arXiv:2402.17762. Phi is the
largest entry, among a few dimensions, of a token's hidden state divided by its root mean square; a token is a sink of a
layer where phi is above a limit. The paper looks the dimensions up for each model; here they are those that stand out
on the prompt at hand, at whichever token, in the middle layers. Its limit of 20 presumes wide states (no entry can
exceed the root of the width), so that five times the layer's median phi is used unless a number is given, and at least
five times the root mean square. Left out: handing the attention of sinks on to other tokens, which changes the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from workbench.attribution.adapter import Adapter
from workbench.attribution.heads import AttentionLayer, watch_attention

TIMES_TYPICAL = 5.0
"""Above the median phi of a layer's tokens, and above the root mean square of a state's entries, which is 1 here."""

EPSILON = 1e-6
"""Added to the mean square, as norms do."""


@dataclass(frozen=True, slots=True)
class Sinks:
    """The sinks of a prompt. All on the CPU.

    Attributes:
        dimensions: entries of the hidden state that phi looks at.
        phi: of every layer (what its block is given) and token.
        limits: above which a token is a sink, one a layer.
    """

    dimensions: tuple[int, ...]
    phi: Float64[Tensor, "layer tok"]
    limits: Float64[Tensor, " layer"]

    @property
    def flags(self) -> Bool[Tensor, "layer tok"]:
        """Which tokens are sinks of which layers."""
        return self.phi > self.limits[:, None]

    @property
    def positions(self) -> list[int]:
        """Tokens that are a sink in at least one layer."""
        return self.flags.any(0).nonzero()[:, 0].tolist()


def find_sinks(adapter: Adapter, ids: Int[Tensor, "1 tok"], *, count: int = 1, limit: float | None = None) -> Sinks:
    """The sinks of a prompt, by two forward passes that keep a row a layer.

    Args:
        adapter: the model.
        ids: the prompt.
        count: how many dimensions phi looks at.
        limit: for phi; five times the median of each layer's tokens, at least 5, when not given.

    Raises:
        WorkbenchError: the model does not show its attention.
    """
    dimensions = sink_dimensions(adapter, ids, count)
    rows = phi_of(adapter, ids, dimensions)
    usual = TIMES_TYPICAL * rows.median(-1).values.clamp_min(1.0)
    limits = usual if limit is None else torch.full_like(usual, limit)
    return Sinks(dimensions, rows, limits)


def sink_dimensions(adapter: Adapter, ids: Int[Tensor, "1 tok"], count: int = 1) -> tuple[int, ...]:
    """The dimensions with the largest normalised entry at any token, averaged over layers 2 to L - 2.

    Models of fewer than four layers give all their layers but the first.
    """
    layers = adapter.model.config.get_text_config().num_hidden_layers
    middle = range(2, layers - 1) if layers > 3 else range(min(1, layers - 1), layers)
    total = torch.zeros(1, 1, dtype=torch.float64)

    def add(seen: AttentionLayer) -> None:
        nonlocal total
        if seen.index in middle:
            total = total + normalised(seen.hidden[0]).cpu()

    watch_attention(adapter, ids, add)
    return tuple(total.amax(0).topk(count).indices.tolist())


def phi_of(adapter: Adapter, ids: Int[Tensor, "1 tok"], dimensions: tuple[int, ...]) -> Float64[Tensor, "layer tok"]:
    """Phi of every layer and token, by one forward pass."""
    rows: list[Tensor] = []
    watch_attention(adapter, ids, lambda seen: rows.append(phi(seen.hidden[0], dimensions).cpu()))
    return torch.stack(rows)


def phi(hidden: Float[Tensor, "tok hid"], dimensions: tuple[int, ...]) -> Float64[Tensor, " tok"]:
    """The largest normalised entry among the dimensions; at most the root of the width."""
    return normalised(hidden)[:, list(dimensions)].amax(-1)


def normalised(hidden: Float[Tensor, "tok hid"]) -> Float64[Tensor, "tok hid"]:
    """Sizes of the entries as shares of the state's root mean square."""
    wide = hidden.double()
    return wide.abs() / (wide.square().mean(-1, keepdim=True) + EPSILON).sqrt()


def without_sinks(maps: Float[Tensor, "*head row tok"], sinks: Bool[Tensor, " tok"]) -> Float[Tensor, "*head row tok"]:
    """Attention with nothing on sinks and rows that add up to 1 again; a row that saw nothing else is zero."""
    kept = maps.masked_fill(sinks, 0.0)
    total = kept.sum(-1, keepdim=True)
    return torch.where(total > 0, kept / total.clamp_min(torch.finfo(kept.dtype).tiny), 0.0)


def sink_mass(maps: Float[Tensor, "head tok tok"], sinks: Bool[Tensor, " tok"]) -> Float[Tensor, "head tok"]:
    """Share of each position's attention that goes to sinks; NaN for sinks themselves and where none is to be seen."""
    looking = (sinks.cumsum(0) > 0) & ~sinks
    return maps[..., sinks].sum(-1).masked_fill(~looking, torch.nan)
