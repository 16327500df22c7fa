"""Prompts that begin alike, without computing the beginning again: a causal model cannot tell there what comes after.

The keys and values of the whole prompt are kept once; a row that differs from it from some token on runs from that
token. Left out, and computed in full: continuations behind the prompt, models that see what follows, and models whose
layers remember otherwise than by all keys and values (sliding windows, recurrent states).
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from workbench.attribution.adapter import SAME, Adapter, Objective
from workbench.attribution.layout import Layout

WORTH = 512
"""Tokens that have to be saved before keys and values are kept,"""
SHARE = 0.25
"""and the part of all tokens that they have to be: fewer rows run together than otherwise."""
ROWS = 12
"""Rows that run together, at most: the later one differs from the prompt, the less of it has to be run, alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """The keys and values of a prompt.

    Attributes:
        adapter: the model.
        layers: keys and values [1 head tok dim] of each layer.
        length: tokens of the prompt.
    """

    adapter: Adapter
    layers: tuple[tuple[Tensor, Tensor], ...]
    length: int

    def values(self, embeds: Float[Tensor, "row tok hid"], start: int, objective: Objective) -> Float[Tensor, " row"]:
        """The objective at rows that are the prompt up to token `start`; call it in a steady model, without a graph."""
        cache = DynamicCache()
        for index, parts in enumerate(self.layers):
            keys, values = (part[:, :, :start].expand(len(embeds), -1, -1, -1) for part in parts)
            cache.update(keys, values, index)
        return objective(_run(self.adapter, embeds[:, start:], start, cache))


def keep_prefix(adapter: Adapter, embeds: Float[Tensor, "1 tok hid"], starts: Int64[Tensor, " row"]) -> Prefix | None:
    """The keys and values of a prompt, or None where they would save little or do not give what the model gives.

    Args:
        adapter: the model.
        embeds: the prompt.
        starts: the first token at which each row will differ from it.
    """
    plain = type(adapter.layout) is Layout and not adapter.layout.lengths
    known = "past_key_values" in inspect.signature(adapter.model.forward).parameters
    least = max(WORTH, SHARE * embeds.shape[1] * len(starts))
    if not (plain and known) or float(starts.sum()) < least:
        return None
    cache = DynamicCache(config=adapter.model.config)
    with adapter.steady(), torch.no_grad():
        expected = _run(adapter, embeds, 0, cache)
        layers = [(layer.keys, layer.values) for layer in cache.layers if type(layer) is DynamicLayer]
        kept = tuple((keys, values) for keys, values in layers if keys is not None and values is not None)
        if len(kept) < len(cache.layers):
            return None
        found = Prefix(adapter, kept, embeds.shape[1])
        gap = found.values(embeds, found.length // 2, lambda logits: (logits - expected).abs().amax(1))
    return found if float(gap) <= SAME * float(expected.abs().max()) else None


def _run(
    adapter: Adapter, embeds: Float[Tensor, "row tok hid"], start: int, cache: Cache
) -> Float[Tensor, "row vocab"]:
    """The logits of the next token, as the adapter reads them, behind what the cache holds."""
    places = torch.arange(start, start + embeds.shape[1], device=embeds.device).expand(len(embeds), -1)
    arguments = {"position_ids": places, "logits_to_keep": 1}
    accepted = inspect.signature(adapter.model.forward).parameters
    known = {name: value for name, value in arguments.items() if name in accepted}
    logits = adapter.model(inputs_embeds=embeds, past_key_values=cache, use_cache=True, **known).logits[:, -1]
    return logits if logits.dtype == torch.float64 else logits.float()
