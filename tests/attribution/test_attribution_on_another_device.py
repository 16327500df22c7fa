"""No attribution method brings tensors of two devices together: each gives on another device what it does here."""

from __future__ import annotations

from typing import Any

import pytest
import quick_options
import torch
from attribution_models import IDS, LOGIT, adapted
from second_device import SecondDevice, send

from workbench.attribution.adapter import Adapter
from workbench.registry import Method, attribution


@pytest.fixture(scope="module")
def sent() -> Adapter:
    """The random Llama on the second device."""
    adapter: Any = adapted("llama")
    with SecondDevice():
        return send(adapter)


@pytest.mark.parametrize("method", attribution.methods(), ids=lambda method: method.name)
def test_a_model_that_lies_elsewhere(method: Method, llama: Adapter, sent: Adapter) -> None:
    options = quick_options.ATTRIBUTION.get(method.name, {})
    ids = IDS[:, :4]
    here = method(llama, ids, LOGIT, **options).scores
    with SecondDevice():
        there = method(sent, ids, LOGIT, **options).scores
    assert there.device == here.device
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4 * float(here.abs().max()))
