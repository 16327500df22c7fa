"""What every attribution method promises; a new one is tested here as soon as it is registered."""

from __future__ import annotations

import pytest
import quick_options
import torch
from attribution_models import IDS, LOGIT, OTHER

from workbench.attribution.adapter import Adapter
from workbench.registry import Method, attribution

METHODS = attribution.methods()
NAMES = [method.name for method in METHODS]


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_a_method_keeps_its_promises(method: Method, either: Adapter) -> None:
    options = quick_options.ATTRIBUTION.get(method.name, {})
    result = method(either, IDS, LOGIT, **options)
    assert result.scores.shape == (8,)
    assert result.scores.dtype == torch.float64
    assert bool(result.scores.isfinite().all())
    assert result.value == pytest.approx(float(either.predict(IDS)[40]), abs=1e-5)
    assert method.signed or bool((result.scores >= 0).all())
    other = method(either, IDS, OTHER, **options).scores
    assert torch.equal(result.scores, other) != method.traits.get("uses_target", True)


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_a_prompt_of_one_token_is_explained(method: Method, either: Adapter) -> None:
    assert method(either, torch.tensor([[17]]), LOGIT).scores.shape == (1,)


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_the_mode_of_the_caller_does_not_matter(method: Method, llama: Adapter) -> None:
    options = quick_options.ATTRIBUTION.get(method.name, {})
    expected = method(llama, IDS, LOGIT, **options).scores
    with torch.inference_mode():
        inside = method(llama, IDS.clone(), LOGIT, **options).scores
    torch.testing.assert_close(inside, expected)
    assert all(parameter.grad is None for parameter in llama.model.parameters())


def test_the_registry_holds_methods_and_their_options() -> None:
    assert {"attention", "attention_rollout", "gradient", "input_x_gradient", "integrated_gradients"} <= set(NAMES)
    assert not {"flow", "weight_flow"} & set(NAMES)
    options = {option.name: option for option in attribution.get("integrated_gradients").options}
    assert options["baseline"].choices == ("auto", "eos", "unk", "mean", "zero", "mask", "pad")
