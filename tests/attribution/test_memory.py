"""What attention methods hold at once, counted in maps of all tokens by all tokens."""

from __future__ import annotations

import pytest
import torch
from attribution_models import GROUPED, LOGIT, words
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.live_tensors import LiveTensors
from workbench.attribution.adapter import Adapter
from workbench.registry import attribution


def test_the_yardstick_counts_what_is_alive() -> None:
    with LiveTensors() as live:
        first = torch.zeros(1000)
        second = first + 1
        del first
        third = second * 2  # in the place of the first
        view = third.view(10, 100)[2:]
        del second, third
        assert view.sum() == 1600
    assert live.peak == 8000


@pytest.mark.parametrize(
    "name", ["attention", "attention_rollout", "norm_attention", "value_zeroing", "grad_attention"]
)
def test_memory_of_attention_methods_is_flat_in_depth(name: str) -> None:
    """Only the one that needs gradients of all maps holds all maps; it shows that the yardstick sees them."""
    peaks = []
    for layers in (2, 6):
        torch.manual_seed(0)
        shape = GROUPED | {"num_hidden_layers": layers, "max_position_embeddings": 256}
        adapter = Adapter(LlamaForCausalLM(LlamaConfig(**shape)).eval(), words())
        with LiveTensors() as live:
            attribution.get(name)(adapter, torch.arange(4, 94).repeat(3)[None, :256], LOGIT)
        peaks.append(live.peak / (4 * 256**2))
    if name == "grad_attention":
        assert peaks[1] > peaks[0] + 4 * 4  # four heads of four further layers
    else:
        assert peaks[1] < peaks[0] + 1
        assert peaks[0] < 24
