"""Layers to score."""

from __future__ import annotations

from collections.abc import Callable

import layers
import pytest
import torch

from workbench.model.sites import SiteStatistics


@pytest.fixture(scope="session")
def statistics_of() -> Callable[[torch.Tensor], SiteStatistics]:
    return layers.site_statistics


@pytest.fixture(scope="session")
def layer_s() -> layers.Layer:
    return layers.layer_s()
