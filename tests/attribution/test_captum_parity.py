"""Captum where it is right, on a trained model, asked as it asks: through ids and layers, for every kind of target.

The tests of each method hold it against Captum on random models of six families; these hold what those leave out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import (
    FeatureAblation,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    NoiseTunnel,
    Saliency,
    ShapleyValueSampling,
)

from tools import rank_attribution, train_planted
from workbench.attribution.adapter import Adapter
from workbench.attribution.smoothgrad import noisy_copies
from workbench.attribution.targets import Target
from workbench.registry import attribution

CLOSE = {"atol": 1e-5, "rtol": 1e-4}
IDS = torch.tensor([[1, 12, 20, 6, 33, 15, 38, 12, 27, 11, 30, 2]])
ANSWER, FOIL = 42, 40
TARGETS = (
    Target("logit", (ANSWER,), ("answer3",)),
    Target("logprob", (ANSWER,), ("answer3",)),
    Target("contrast", (ANSWER, FOIL), ("answer3", "answer1")),
)
PAIRS = 3
targets = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    found = rank_attribution.planted()
    assert int(found.predict(IDS).argmax()) == ANSWER
    return found


@pytest.fixture
def erased() -> torch.Tensor:
    """The prompt of end marks, begin and end in their places."""
    ids = torch.full_like(IDS, train_planted.QUERY)
    ids[0, 0] = train_planted.BEGIN
    return ids


def of_ids(adapter: Adapter, target: Target) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda ids: target.value(adapter.model(input_ids=ids, use_cache=False).logits[:, -1])


def ours(name: str, adapter: Adapter, target: Target, **options: Any) -> torch.Tensor:
    return attribution.get(name)(adapter, IDS, target, **options).scores


@targets
def test_integrated_gradients_of_the_embedding_layer(adapter: Adapter, erased: torch.Tensor, target: Target) -> None:
    method = LayerIntegratedGradients(of_ids(adapter, target), adapter.table)
    theirs = method.attribute(IDS, baselines=erased, n_steps=32, method="gausslegendre")[0].double().sum(-1)
    torch.testing.assert_close(ours("integrated_gradients", adapter, target, nodes=32, max_nodes=32), theirs, **CLOSE)


@targets
def test_gradient_times_the_activation_of_the_embedding_layer(adapter: Adapter, target: Target) -> None:
    theirs = LayerGradientXActivation(of_ids(adapter, target), adapter.table).attribute(IDS)[0].double().sum(-1)
    torch.testing.assert_close(ours("input_x_gradient", adapter, target), theirs, **CLOSE)


@targets
def test_ablation_of_ids(adapter: Adapter, erased: torch.Tensor, target: Target) -> None:
    with torch.no_grad():
        theirs = FeatureAblation(of_ids(adapter, target)).attribute(IDS, baselines=erased, perturbations_per_eval=5)
    torch.testing.assert_close(ours("occlusion", adapter, target), theirs[0].double(), **CLOSE)


@targets
def test_shapley_values_over_the_same_orders(adapter: Adapter, erased: torch.Tensor, target: Target) -> None:
    """Captum is made to draw our orders, each and its reverse; control tokens are one feature that comes last."""
    draws, orders = torch.Generator().manual_seed(0), []
    words = IDS.shape[1] - 2
    for _ in range(PAIRS):
        order = torch.randperm(words, generator=draws)
        orders += [order, order.flip(0)]
    features = torch.tensor([[words, *range(words), words]])
    method = ShapleyValueSampling(of_ids(adapter, target))
    method.permutation_generator = lambda count, samples: ([*order.tolist(), words] for order in orders)
    with torch.no_grad():
        theirs = method.attribute(IDS, baselines=erased, feature_mask=features, n_samples=len(orders))[0].double()
    found = ours("shapley", adapter, target, pairs=PAIRS)
    torch.testing.assert_close(found[1:-1], theirs[1:-1], **CLOSE)
    assert float(found.abs().max()) > 0.1


@targets
def test_smoothgrad_over_the_same_noise(adapter: Adapter, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captum draws by `torch.normal`, which is made to give the noise that ours draws."""
    embeds = adapter.embed(IDS)
    spread = 0.15 * float(embeds.double().std(correction=0))
    noise = torch.cat(list(noisy_copies(torch.zeros_like(embeds), spread, 6, seed=4, rows=6)))
    monkeypatch.setattr(torch, "normal", lambda mean, spread: noise)
    method = NoiseTunnel(Saliency(lambda inputs: target.value(adapter.next_logits(inputs))))
    theirs = method.attribute(embeds, nt_type="smoothgrad", nt_samples=6, stdevs=spread, abs=False)
    monkeypatch.undo()
    found = ours("smoothgrad", adapter, target, samples=6, seed=4)
    torch.testing.assert_close(found, theirs[0].double().norm(dim=-1), **CLOSE)
