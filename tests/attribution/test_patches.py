"""What the rules of a pass leave behind: nothing; and that weights laid over a model are what is explained."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from attribution_models import IDS, LOGIT, adapted, explain
from torch import nn

from workbench.attribution.adapter import Adapter
from workbench.attribution.patches import Rules, ruled
from workbench.attribution.rules import DIFFERENCES
from workbench.model.matrices import quantizable_matrices
from workbench.model.overlay import overlay

ROOT = Path(__file__).resolve().parent.parent.parent


def traces(model: nn.Module) -> list[tuple[str, bool, int, bool]]:
    """What a patch could leave on a module."""
    return [
        (name, "forward" in vars(part), len(part._forward_hooks) + len(part._forward_pre_hooks), part.training)
        for name, part in model.named_modules()
    ]


@pytest.mark.parametrize("name", ["deeplift", "linearised"])
def test_the_model_answers_as_before_and_nothing_is_left(name: str, any_family: Adapter) -> None:
    model = any_family.model
    kinds = {type(part): type(part).forward for part in model.modules()}
    before, answer = traces(model), model(IDS).logits
    explain(name, any_family)
    assert traces(model) == before
    assert torch.equal(model(IDS).logits, answer)
    assert {type(part): type(part).forward for part in model.modules()} == kinds
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_everything_comes_back_when_the_pass_raises_also_a_forward_of_the_instance() -> None:
    model = adapted("gpt2").model
    act = model.transformer.h[0].mlp.act
    own = act.forward
    vars(act)["forward"] = own  # as a library that wraps modules leaves it
    before = traces(model)
    seen = []

    def fail() -> None:
        seen.extend(traces(model))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), ruled(model, Rules("test", DIFFERENCES)):
        fail()
    assert seen != before
    assert traces(model) == before
    assert vars(act)["forward"] is own
    assert torch.overrides._len_torch_function_stack() == 0


def test_another_model_of_the_same_class_keeps_its_derivatives() -> None:
    first, second = adapted("gpt2"), adapted("gpt2")
    _, expected = second.gradients(second.embed(IDS), LOGIT.value)
    with ruled(first.model, Rules("test", {})):
        assert any("forward" in vars(part) for part in first.model.modules())
        assert not any("forward" in vars(part) for part in second.model.modules())
    _, after = second.gradients(second.embed(IDS), LOGIT.value)
    assert torch.equal(after, expected)


@pytest.mark.parametrize(
    "name", ["deeplift", "linearised", "smoothgrad", "expected_gradients", "normgrad", "cross_domain_ig"]
)
def test_the_weights_laid_over_a_model_are_the_ones_explained(name: str) -> None:
    """A map of the model under an overlay equals that of a model that owns those weights."""
    adapter, owner = adapted("llama"), adapted("llama")
    weights = {}
    for matrix in quantizable_matrices(owner.model):
        parameter = owner.model.get_parameter(matrix.name)
        step = parameter.detach().abs().max() / 3
        parameter.data = (parameter.detach() / step).round() * step
        weights[matrix.name] = parameter.detach().clone()
    full = explain(name, adapter).scores
    with overlay(adapter.model, weights):
        laid = explain(name, adapter)
    torch.testing.assert_close(laid.scores, explain(name, owner).scores)
    assert laid.value == pytest.approx(float(owner.predict(IDS)[40]), abs=1e-5)
    assert float((laid.scores - full).abs().max()) > 1e-3
    assert torch.equal(explain(name, adapter).scores, full)


def test_the_class_of_captum_with_wrong_numbers_is_used_nowhere() -> None:
    """`LLMAttribution` re-feeds the prefix on top of the cache with transformers 5; its later tokens are wrong."""
    files = [
        path for room in ("workbench", "kernels", "pages", "tools", "tests") for path in (ROOT / room).rglob("*.py")
    ]
    files += [ROOT / "app.py", ROOT / "asgi.py"]
    used = set()
    named = [path for path in files if "LLMAttribution" in path.read_text(encoding="utf-8")]
    for path in named:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [getattr(node, "id", ""), getattr(node, "attr", "")]
            names += [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
            used |= {path.name for name in names if name == "LLMAttribution"}
    assert len(files) > 100
    assert Path(__file__) in named
    assert not used
