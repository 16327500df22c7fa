"""Raw attention and rollout, against the maps that transformers gives."""

from __future__ import annotations

import pytest
import torch
from attribution_models import IDS, explain

from workbench.attribution.adapter import Adapter
from workbench.attribution.attention_rollout import rollout
from workbench.errors import WorkbenchError


def reference_maps(adapter: Adapter) -> torch.Tensor:
    """Attention probabilities [layer head tok tok] by transformers itself."""
    former = adapter.model.config._attn_implementation
    adapter.model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = torch.cat(adapter.model(IDS, output_attentions=True).attentions)
    adapter.model.set_attn_implementation(former)
    return maps.double()


def test_attention_is_the_last_row_of_the_maps(either: Adapter) -> None:
    rows = reference_maps(either)[:, :, -1]
    close = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(explain("attention", either).scores, rows.mean((0, 1)), **close)
    torch.testing.assert_close(explain("attention", either, reduce="max").scores, rows.amax((0, 1)), **close)
    torch.testing.assert_close(explain("attention", either, layer=1).scores, rows[1].mean(0), **close)
    assert float(explain("attention", either).scores.sum()) == pytest.approx(1.0, abs=1e-5)


def test_attention_of_a_layer_that_is_not_there_is_refused(llama: Adapter) -> None:
    with pytest.raises(WorkbenchError, match="has value 2; the layers are 0 to 1, or -1 for all"):
        explain("attention", llama, layer=2)


@pytest.mark.parametrize("residual", [0.0, 0.5, 1.0])
def test_rollout_is_the_dense_product_and_its_rows_add_up_to_one(either: Adapter, residual: float) -> None:
    rolled, _ = rollout(either, IDS, residual)
    identity = torch.eye(8, dtype=torch.float64)
    layers = [residual * identity + (1 - residual) * maps.mean(0) for maps in reference_maps(either)]
    torch.testing.assert_close(rolled.double(), torch.linalg.multi_dot(layers[::-1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(8), atol=1e-6, rtol=0)
    assert rolled.triu(1).abs().max() == 0
    torch.testing.assert_close(explain("attention_rollout", either, residual=residual).scores, rolled[-1].double())
