"""No metric brings tensors of two devices together: each gives on another device what it gives on the CPU."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from layers import site_statistics
from second_device import SecondDevice, There, moved

from workbench.model.weightstats import WeightStatistics, only_of_inputs
from workbench.registry import Method, salience


@pytest.mark.parametrize("metric", salience.methods(), ids=lambda metric: metric.name)
def test_a_matrix_that_lies_elsewhere(metric: Method) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, inputs = 0.05 * torch.randn(12, 40, generator=generator), torch.randn(160, 40, generator=generator)
    stats: Any = site_statistics(inputs)
    if not only_of_inputs(metric.needs):
        names = [field.name for field in fields(WeightStatistics) if field.name not in ("site", "windows", "nodes")]
        found = {name: 0.01 * torch.randn(weight.shape, generator=generator) for name in names}
        found |= {name: found[name].abs() for name in ("grad_sq", "path_abs")}
        stats = WeightStatistics(site=stats, windows=4, nodes=4, **found)
        stats.quantized = weight + found["grad"]
    here = metric(weight, stats)
    with SecondDevice():
        there = metric(moved(weight), moved(stats))
        assert isinstance(there, There)
        assert torch.equal(there.cpu(), here)
