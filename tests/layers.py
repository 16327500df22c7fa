"""Layers to score and to quantize: statistics made from inputs by definition, and the layer of the design's figures."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from workbench.model.sites import SiteStatistics


def site_statistics(inputs: torch.Tensor) -> SiteStatistics:
    """All statistics of inputs [tok, in], written out in float64."""
    x = inputs.double()
    tokens, columns = x.shape
    gram = x.T @ x / tokens
    blocks = [gram[start : start + 128, start : start + 128] for start in range(0, columns, 128)]
    padded = [torch.nn.functional.pad(block, (0, 128 - len(block)) * 2) for block in blocks]
    return SiteStatistics(
        tokens=tokens,
        mean=x.mean(0).float(),
        mean_abs=x.abs().mean(0).float(),
        max_abs=x.abs().amax(0).float(),
        sum_sq=x.square().sum(0).float(),
        gram=gram.float(),
        gram_blocks=torch.stack(padded).float(),
        sample_rows=inputs[:512].half(),
    )


@dataclass(frozen=True)
class Layer:
    weight: torch.Tensor
    inputs: torch.Tensor
    statistics: SiteStatistics


def layer_s() -> Layer:
    """Layer S of the design, to the letter and the seed: six outlier channels, heavy-tailed weights."""
    rows, columns, tokens = 256, 512, 4096
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mixing = torch.eye(columns) + torch.randn(columns, columns) / columns**0.5
        inputs = torch.randn(tokens, columns) @ mixing
        scale = torch.exp(0.7 * torch.randn(columns))
        scale[torch.randperm(columns)[:6]] *= 15
        weight = 0.02 * torch.distributions.StudentT(5.0).sample(torch.Size((rows, columns)))
    return Layer(weight, inputs * scale, site_statistics(inputs * scale))
