"""The low-bit layer: as the dense layer it stands for, in a model, when moved, cast, copied, saved and loaded."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lowbit
from lowbit import tensors, torch_mixed
from lowbit.linear import LowbitLinear

OUT, IN = 12, 75


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _packed(symmetric: bool = False) -> lowbit.PackedWeight:
    return lowbit.quantize(_random(OUT, IN), bits=3, group_size=32, symmetric=symmetric)


def _binary() -> lowbit.BinaryWeight:
    planes = tuple(_random(OUT, 10, seed=place).to(torch.uint8) for place in range(2))
    return lowbit.BinaryWeight(planes, _random(OUT, 3, 2).abs().half(), (OUT, IN), 32, "residual")


def _mixed() -> lowbit.MixedWeight:
    return lowbit.quantize_mixed(_random(OUT, IN), widths=(4, 2, 4), group_size=32)


def _outliers() -> lowbit.SparseWeight:
    return lowbit.SparseWeight.from_mask(_random(OUT, IN, seed=4) * 3, _random(OUT, IN, seed=5) > 2)


def _layer(**options: Any) -> LowbitLinear:
    chosen = {"outliers": _outliers(), "bias": _random(OUT, seed=6), "column_scale": _random(IN, seed=7).abs() + 0.5}
    return LowbitLinear(options.pop("weight", None) or _packed(), **(chosen | options))


def _dense(weight: lowbit.parts.Weight) -> Tensor:
    out = torch.empty(weight.shape)
    if isinstance(weight, lowbit.MixedWeight):
        torch_mixed.dequantize(weight, out)
    else:
        torch_mixed.decode_part(weight, out)
    return out


WEIGHTS = {"packed": _packed, "symmetric": lambda: _packed(True), "binary": _binary, "mixed": _mixed}


@pytest.mark.parametrize("name", WEIGHTS)
def test_as_the_dense_layer_it_stands_for(name: str, backend: str, device: torch.device) -> None:
    layer = _layer(weight=WEIGHTS[name](), backend=backend).to(device)
    assert isinstance(layer.bias, Tensor)
    assert isinstance(layer.column_scale, Tensor)
    outliers = torch.where(_random(OUT, IN, seed=5) > 2, (_random(OUT, IN, seed=4) * 3).half().float(), 0.0)
    x = _random(2, 3, IN, seed=8)
    expected = (x / layer.column_scale.cpu()).double() @ (_dense(WEIGHTS[name]()) + outliers).double().t()
    y = layer(x.to(device)).cpu().double()
    torch.testing.assert_close(y, expected + layer.bias.cpu().double(), rtol=1e-5, atol=1e-5)


def test_bare_layer() -> None:
    layer = LowbitLinear(_packed())
    assert torch.equal(layer(torch.eye(IN)), _dense(_packed()).t())
    assert layer.nbytes == _packed().nbytes
    assert f"stored_bits={_packed().stored_bits:.3g}" in repr(layer)
    assert not list(layer.parameters())


@pytest.mark.parametrize("name", WEIGHTS)
def test_saved_and_loaded(name: str) -> None:
    layer, other = _layer(weight=WEIGHTS[name]()), _layer(weight=WEIGHTS[name](), bias=torch.zeros(OUT))
    for name, buffer in other.named_buffers():
        if name not in ("weight_choice", "outlier_row_start", "outlier_columns"):
            buffer.zero_()
    x = _random(4, IN, seed=9)
    assert not torch.equal(other(x), layer(x))
    for assign in (False, True):
        other.load_state_dict(copy.deepcopy(layer.state_dict()), assign=assign)
        assert torch.equal(other(x), layer(x))
    assert all(tensor is other.get_buffer(f"weight_{key}") for key, tensor in tensors.tensors_of(other.weight).items())


def test_a_mixed_layer_takes_the_order_of_the_state_it_loads() -> None:
    one, two = (
        LowbitLinear(lowbit.quantize_mixed(_random(OUT, 96), widths=widths, group_size=32))
        for widths in ((4, 2, 4), (2, 4, 4))
    )
    x = _random(4, 96, seed=9)
    before = two(x)
    two.load_state_dict(one.state_dict())
    assert torch.equal(two(x), one(x))
    assert not torch.equal(two(x), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_casting_a_model_leaves_the_stored_weight_as_it_is(dtype: torch.dtype) -> None:
    layer = _layer(weight=_mixed())
    kept = {name: tensor.clone() for name, tensor in layer.named_buffers()}
    cast = nn.Sequential(layer).to(dtype)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in layer.named_buffers())
    assert layer.bias is not None
    assert layer.bias.dtype == dtype
    y = cast(_random(2, IN).to(dtype))
    assert y.dtype == dtype
    assert y.isfinite().all()


def test_a_copy_has_tensors_of_its_own() -> None:
    layer = _layer()
    held = copy.deepcopy(layer)
    for module in (held, layer, layer._apply(torch.clone)):
        stored = tensors.tensors_of(module.weight)
        assert all(tensor is module.get_buffer(f"weight_{name}") for name, tensor in stored.items())
    x = _random(2, IN)
    expected = held(x)
    layer.weight.planes[0].zero_()  # type: ignore[union-attr]
    assert torch.equal(held(x), expected)
    assert not torch.equal(layer(x), expected)


def test_what_does_not_fit_is_refused() -> None:
    for options, sentence in (
        ({"bias": torch.zeros(IN)}, r"bias has shape \(75,\), but the layer has 12"),
        ({"column_scale": torch.ones(OUT)}, r"column_scale has shape \(12,\), but the layer has 75"),
        ({"column_scale": torch.zeros(IN)}, "not finite and positive"),
        ({"outliers": lowbit.SparseWeight.from_mask(torch.ones(2, 2), torch.ones(2, 2) > 0)}, "outliers have shape"),
    ):
        with pytest.raises(lowbit.LowbitError, match=sentence):
            _layer(**options)


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def _bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def test_a_model_generates_from_packed_weights_what_it_generates_from_their_values() -> None:
    dense = _llama()
    packed = copy.deepcopy(dense)
    saved = 0
    for name, module in list(dense.named_modules()):
        if isinstance(module, nn.Linear):
            weight = lowbit.quantize(module.weight.detach(), bits=4, group_size=32)
            layer = LowbitLinear(weight)
            saved += module.weight.nbytes - layer.nbytes
            packed.set_submodule(name, layer)
            module.weight.data.copy_(lowbit.dequantize(weight))
    prompt = torch.randint(0, 97, (2, 7), generator=torch.Generator().manual_seed(1))
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    expected = dense.generate(prompt, attention_mask=torch.ones_like(prompt), **options)  # type: ignore[operator]
    tokens = packed.generate(prompt, attention_mask=torch.ones_like(prompt), **options)  # type: ignore[operator]
    assert torch.equal(tokens, expected)
    assert tokens.shape == (2, 19)
    assert _bytes(dense) - _bytes(packed) == saved
    assert _bytes(packed) < 0.35 * _bytes(dense)


@pytest.mark.parametrize("outliers", [False, True])
def test_a_compiled_layer_is_one_operator_and_gives_the_same(outliers: bool) -> None:
    w = _random(OUT, IN)
    sparse = lowbit.SparseWeight.from_mask(w, w.abs() > 2) if outliers else None
    layer = LowbitLinear(lowbit.quantize_mixed(w, widths=(4, 2, 4), group_size=32), outliers=sparse, bias=w[:, 0])
    x = _random(2, 3, IN, seed=1)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=0, atol=0)
