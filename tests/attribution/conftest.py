"""The models of `attribution_models` as fixtures, and the two real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attribution_models import FAMILIES, Toy, ToyConfig, adapted, words
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.attribution.adapter import Adapter


@pytest.fixture(scope="module", params=list(FAMILIES))
def any_family(request: pytest.FixtureRequest) -> Adapter:
    return adapted(request.param)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def either(request: pytest.FixtureRequest) -> Adapter:
    """The two kinds of model: RMSNorm, rotary positions, no biases; LayerNorm, learned positions, biases."""
    return adapted(request.param)


@pytest.fixture(scope="module")
def llama() -> Adapter:
    return adapted("llama")


@pytest.fixture(scope="module")
def stories(shared_models: Path) -> Adapter:
    """A trained Llama of 260 000 parameters."""
    folder = shared_models / "stories260K"
    return Adapter(AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder))


@pytest.fixture(params=[1, 2], ids=["linear", "quadratic"])
def toy(request: pytest.FixtureRequest) -> Adapter:
    torch.manual_seed(0)
    return Adapter(Toy(ToyConfig(power=request.param)).double().eval(), words())
