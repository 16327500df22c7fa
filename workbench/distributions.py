"""Distributions as histograms: masses that are spread over intervals, counted in bins."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def spread_histogram(
    low: Float[Tensor, " n"], high: Float[Tensor, " n"], edges: Float[Tensor, " edge"]
) -> Float[Tensor, " bin"]:
    """Share of n equal masses, each spread evenly from `low` to `high`, in every bin.

    What lies outside the edges goes into the outer bins. The distribution function is a sum of ramps: at an edge e it
    is sum (e - low) s - sum (e - high) s over the ends that lie before it, s being one over the width.

    Args:
        low: lower ends, float64.
        high: upper ends, each above its lower one.
        edges: of the bins, ascending.
    """
    slope = 1 / (high - low)
    bins = len(edges) - 1
    function = torch.zeros_like(edges)
    for ends, sign in ((low, 1.0), (high, -1.0)):
        place = torch.bucketize(ends, edges)  # the first edge that is not before the end
        weights = edges.new_zeros(2, bins + 2)
        weights[0].index_add_(0, place, slope)
        weights[1].index_add_(0, place, slope * ends)
        total, moment = weights.cumsum(1)[:, :-1]
        function += sign * (edges * total - moment)
    function[0], function[-1] = 0.0, len(low)
    return function.diff().clamp(min=0) / len(low)
