"""Gradient x weight per matrix and token, against autograd on the weights."""

from __future__ import annotations

import pytest
import torch
from attribution_models import FAMILIES, IDS, adapted
from torch import nn
from transformers.pytorch_utils import Conv1D

from workbench.attribution.adapter import Adapter
from workbench.attribution.flow import weight_flow
from workbench.attribution.targets import Target, parse_target
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices

TARGET = Target("contrast", (40, 70), ("w40", "w70"))


def linears(adapter: Adapter) -> dict[str, nn.Module]:
    """The linear modules of the blocks, by the name of their weight."""
    head = adapter.model.get_output_embeddings()
    found = adapter.model.named_modules()
    return {f"{n}.weight": m for n, m in found if isinstance(m, (nn.Linear, Conv1D)) and m is not head}


def transposed(modules: dict[str, nn.Module]) -> set[str]:
    return {name for name, module in modules.items() if isinstance(module, Conv1D)}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_tokens_add_up_to_the_gradient_of_the_weights(family: str) -> None:
    adapter = adapted(family, torch.float64)
    modules = linears(adapter)
    signed, magnitude = weight_flow(adapter, IDS, TARGET, modules, transposed(modules))
    weights = [module.weight for module in modules.values()]
    value = TARGET.value(adapter.model(IDS).logits[:, -1]).sum()
    expected = [(w * g).sum() for w, g in zip(weights, torch.autograd.grad(value, weights), strict=True)]
    assert signed.shape == magnitude.shape == (len(modules), 8)
    assert len(modules) >= 8
    torch.testing.assert_close(signed.sum(-1), torch.stack(expected).detach(), atol=1e-9, rtol=1e-7)
    assert bool((magnitude >= signed.abs()).all())


def test_magnitude_equals_a_loop_over_one_matrix() -> None:
    adapter = adapted("gpt2", torch.float64)
    modules = {"c_fc": adapter.model.transformer.h[1].mlp.c_fc}
    held = {}
    handle = modules["c_fc"].register_forward_hook(lambda m, given, out: held.update(x=given[0], y=out))
    value = TARGET.value(adapter.model(IDS).logits[:, -1]).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(value, held["y"])
    weight = modules["c_fc"].weight.detach()  # [in out]
    expected = [
        sum(abs(float(g)) * float((weight[:, o].abs() * x.abs()).sum()) for o, g in enumerate(row))
        for x, row in zip(held["x"][0].detach(), gradient[0], strict=True)
    ]
    _, magnitude = weight_flow(adapter, IDS, TARGET, modules, {"c_fc"})
    assert magnitude[0].tolist() == pytest.approx(expected, rel=1e-10)


def test_matrices_of_one_product_carry_the_same_sum() -> None:
    """Without biases and per-head norms, q and k, v and o, up and down scale F alike (Euler's theorem)."""
    adapter = adapted("llama", torch.float64)
    modules = linears(adapter)
    sums = dict(zip(modules, weight_flow(adapter, IDS, TARGET, modules)[0].sum(-1).tolist(), strict=True))
    for layer in range(2):
        for first, second in (("self_attn.q", "self_attn.k"), ("self_attn.v", "self_attn.o"), ("mlp.up", "mlp.down")):
            left, right = (sums[f"model.layers.{layer}.{name}_proj.weight"] for name in (first, second))
            assert left == pytest.approx(right, rel=1e-9, abs=1e-12)


def test_the_mode_of_the_caller_does_not_matter(llama: Adapter) -> None:
    modules = linears(llama)
    expected, _ = weight_flow(llama, IDS, TARGET, modules)
    with torch.inference_mode():
        inside, _ = weight_flow(llama, IDS.clone(), TARGET, modules)
    torch.testing.assert_close(inside, expected)


def test_nothing_is_left_behind_also_when_it_fails(llama: Adapter) -> None:
    modules = {**linears(llama), "stranger": nn.Linear(2, 2)}
    with pytest.raises(
        WorkbenchError, match="matrix 'stranger' was called 0 times; its flow needs one call with all 8"
    ):
        weight_flow(llama, IDS, TARGET, modules)
    assert not any(module._forward_hooks for module in llama.model.modules())
    assert all(parameter.grad is None for parameter in llama.model.parameters())


def test_the_matrices_of_a_loaded_model_fit(tiny_gpt2: LoadedModel) -> None:
    adapter = Adapter(tiny_gpt2.model, tiny_gpt2.tokenizer, tiny_gpt2.context)
    prompt = adapter.encode("one two")
    matrices = quantizable_matrices(tiny_gpt2.model)
    modules = {matrix.name: adapter.model.get_submodule(matrix.module) for matrix in matrices}
    stored = {matrix.name for matrix in matrices if matrix.transposed}
    signed, _ = weight_flow(adapter, prompt.ids, parse_target(adapter, prompt), modules, stored)
    assert signed.shape == (len(matrices), len(prompt.tokens))
    assert stored == set(modules)
