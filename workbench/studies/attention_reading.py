"""What is kept of a prompt's attention while its layers go by: numbers a head and a token, one map, rollout."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from workbench.attribution.heads import AttentionLayer
from workbench.attribution.sinks import Sinks, phi, sink_mass, without_sinks

RESIDUAL = 0.5
"""Share of the residual stream in rollout, as in Abnar and Zuidema 2020."""

Row = dict[str, Any]


@dataclass(eq=False)
class AttentionReading:
    """Visits the layers of one forward pass and keeps a few rows of each.

    Attributes:
        sinks: which tokens count as sinks, and the dimensions of phi.
        layer: the layer whose map is kept, None for no map.
        head: the head of that map; the mean of all when None.
        heads: a row a layer and head.
        looks: a row a layer, head and token, of the last position.
        tokens: a row a layer and token: phi, attention received from later positions, whether it is a sink.
        layers: a row a layer: means over its heads, its largest phi, its limit, its number of sinks.
        map: the map that was asked for.
        rolled: the rollout, and the same with sinks left out.
    """

    sinks: Sinks
    layer: int | None = None
    head: int | None = None
    heads: list[Row] = field(default_factory=list)
    looks: list[Row] = field(default_factory=list)
    tokens: list[Row] = field(default_factory=list)
    layers: list[Row] = field(default_factory=list)
    map: Float[Tensor, "tok tok"] | None = None
    rolled: dict[bool, Float64[Tensor, "tok tok"]] = field(default_factory=dict)

    def visit(self, seen: AttentionLayer) -> None:
        """Take in one layer."""
        maps, flags = seen.probabilities, self.sinks.flags[seen.index].to(seen.maps.device)
        numbers = summaries(maps, sink_mass(maps, flags) if bool(flags.any()) else None)
        last = maps[:, -1].cpu().tolist()
        for head in range(len(maps)):
            place = {"block": seen.index, "head": head}
            self.heads.append(place | {name: values[head] for name, values in numbers.items()})
            self.looks += [place | {"position": p, "attention": share} for p, share in enumerate(last[head])]
        sizes = phi(seen.hidden[0], self.sinks.dimensions).tolist()
        taken = received(maps.mean(0)).tolist()
        for position, (size, share, flag) in enumerate(zip(sizes, taken, flags.tolist(), strict=True)):
            token = {"block": seen.index, "position": position}
            self.tokens.append(token | {"phi": size, "received": share, "sink": flag})
        means = {name: fmean(numbers[name]) for name in ("mean_first_share", "mean_sink_share")}
        limit = {"phi": max(sizes), "limit": float(self.sinks.limits[seen.index]), "count": int(flags.sum())}
        self.layers.append({"block": seen.index, **means, **limit})
        if seen.index == self.layer:
            self.map = (maps.mean(0) if self.head is None else maps[self.head]).cpu()
        for left_out in (False, True):
            self._roll(left_out, without_sinks(maps, flags) if left_out else maps)

    def _roll(self, left_out: bool, maps: Float[Tensor, "head tok tok"]) -> None:
        mixed = maps.double().mean(0)
        mixed = RESIDUAL * torch.eye(len(mixed)).to(mixed) + (1 - RESIDUAL) * mixed
        mixed = mixed / mixed.sum(-1, keepdim=True)  # below 1 where heads saw nothing but sinks
        self.rolled[left_out] = mixed @ self.rolled[left_out] if left_out in self.rolled else mixed

    def rollout(self, *, without_sinks: bool) -> list[float]:
        """The last position's row, which adds up to 1."""
        return self.rolled[without_sinks][-1].tolist()


def summaries(
    maps: Float[Tensor, "head tok tok"], on_sinks: Float[Tensor, "head tok"] | None
) -> dict[str, list[float]]:
    """What each head does, at the last position and as a mean over positions, but for the first, which has no choice.

    Args:
        maps: attention probabilities.
        on_sinks: share of each position's attention on sinks; None without sinks.
    """
    wide = maps.double()
    places = torch.arange(maps.shape[-1], device=maps.device, dtype=torch.float64)
    rows = {
        "spread": torch.special.entr(wide).sum(-1).exp(),
        "distance": places - wide @ places,
        "first_share": wide[..., 0],
        "sink_share": torch.full_like(wide[..., 0], torch.nan) if on_sinks is None else on_sinks.double(),
    }
    found = {name: values[:, -1].tolist() for name, values in rows.items()}
    return found | {f"mean_{name}": values[:, 1:].nanmean(-1).tolist() for name, values in rows.items()}


def received(map_: Float[Tensor, "tok tok"]) -> Float[Tensor, " tok"]:
    """Mean attention that each token gets from the positions behind it; NaN for the last, which has none."""
    return map_.tril(-1).sum(0) / torch.arange(len(map_) - 1, -1, -1, device=map_.device)
