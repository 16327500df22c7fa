"""Where Captum is wrong for transformers, shown, and kept out of the product.

That `LLMAttribution` stands nowhere in the project is tested in `test_patches`.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from attribution_models import IDS, LOGIT, adapted, explain
from captum.attr import DeepLift, InputXGradient, IntegratedGradients
from torch import nn

from workbench.attribution.adapter import Adapter
from workbench.attribution.baselines import make_baseline

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("workbench", "kernels", "pages")
pytestmark = pytest.mark.filterwarnings(
    "ignore:Input Tensor 0 did not already require gradients", "ignore:Setting forward, backward hooks"
)


class Logits(nn.Module):
    """A model as Captum's DeepLift wants one: a module from embeddings to one number a row."""

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.model = adapter.model

    def forward(self, embeds: torch.Tensor) -> torch.Tensor:
        return LOGIT.value(self.model(inputs_embeds=embeds, use_cache=False).logits[:, -1])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_deeplift_of_captum_is_gradient_times_difference_and_ours_adds_up(family: str) -> None:
    adapter = adapted(family)
    embeds = adapter.embed(IDS)
    start = make_baseline(adapter, IDS, embeds, "eos").embeds
    theirs = DeepLift(Logits(adapter)).attribute(embeds, baselines=start)[0].detach()
    slope = InputXGradient(Logits(adapter)).attribute(embeds)[0].detach() / embeds[0]
    torch.testing.assert_close(theirs, slope * (embeds - start)[0], atol=1e-4, rtol=1e-3)
    found = explain("deeplift", adapter, baseline="eos")
    assert found.baseline_value is not None
    change = found.value - found.baseline_value
    assert float(found.scores.sum()) == pytest.approx(change, rel=2e-4)
    assert abs(float(theirs.sum()) - change) > 0.1 * abs(change)


def test_the_default_baseline_of_captum_does_not_converge_on_a_llama() -> None:
    """Zero, which ours refuses there: the gap stays where it is with eight times the nodes."""
    adapter = adapted("llama")
    embeds = adapter.embed(IDS)
    for nodes in (32, 256):
        _, gap = IntegratedGradients(Logits(adapter)).attribute(
            embeds, n_steps=nodes, method="gausslegendre", return_convergence_delta=True
        )
        with torch.no_grad():
            change = Logits(adapter)(embeds) - Logits(adapter)(torch.zeros_like(embeds))
        assert float((gap / change).abs()) > 0.01


def test_the_product_computes_without_captum() -> None:
    """It is the yardstick of tests and benchmarks; nothing that a user sees comes from it."""
    files = [path for room in PRODUCT for path in (ROOT / room).rglob("*.py")] + [ROOT / "app.py", ROOT / "asgi.py"]
    users = set()
    for path in (path for path in files if "captum" in path.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[Any] = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            users |= {path.name for name in names if name.split(".")[0] == "captum"}
    assert len(files) > 100
    assert users == set()
