"""A packed copy generates what the dense values would, in fewer bytes, and leaves the model as it was."""

from __future__ import annotations

import pytest
import torch

import lowbit
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.overlay import overlay
from workbench.model.packed import packed_copy

IDS = torch.tensor([[0, 5, 9, 200, 31]])


@pytest.fixture(params=["tiny_llama", "tiny_gpt2"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return request.getfixturevalue(request.param)


def quantized(loaded: LoadedModel, bits: int) -> dict[str, lowbit.PackedWeight]:
    weights = {m.name: read_weight(loaded.model, m).contiguous() for m in quantizable_matrices(loaded.model)}
    return {name: lowbit.quantize(weight, bits=bits, group_size=32) for name, weight in weights.items()}


def size(model: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def generated(model: torch.nn.Module) -> torch.Tensor:
    return model.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=12, do_sample=False, pad_token_id=1)


def test_it_generates_as_the_overlay_does_from_fewer_bytes(loaded: LoadedModel) -> None:
    weights = quantized(loaded, 3)
    packed = packed_copy(loaded.model, weights)
    with overlay(loaded.model, {name: lowbit.dequantize(weight) for name, weight in weights.items()}):
        expected, logits = generated(loaded.model), loaded.model(input_ids=IDS).logits
    assert torch.equal(generated(packed), expected)
    torch.testing.assert_close(packed(input_ids=IDS).logits, logits, rtol=1e-4, atol=1e-4)
    saved = size(loaded.model) - size(packed)
    dense = sum(4 * matrix.parameters for matrix in quantizable_matrices(loaded.model))
    assert saved == dense - sum(weight.nbytes for weight in weights.values())


def test_outliers_are_added(tiny_llama: LoadedModel) -> None:
    weights = quantized(tiny_llama, 2)
    name = next(iter(weights))
    matrix = next(m for m in quantizable_matrices(tiny_llama.model) if m.name == name)
    error = read_weight(tiny_llama.model, matrix) - lowbit.dequantize(weights[name])
    sparse = lowbit.SparseWeight.from_mask(error, error.abs() > error.abs().quantile(0.99))
    packed = packed_copy(tiny_llama.model, {name: weights[name]}, {name: sparse})
    dense = lowbit.merge_sparse(lowbit.dequantize(weights[name]), sparse)
    with overlay(tiny_llama.model, {name: dense}):
        expected = tiny_llama.model(input_ids=IDS).logits
    torch.testing.assert_close(packed(input_ids=IDS).logits, expected, rtol=1e-4, atol=1e-4)


def test_refusals(tiny_llama: LoadedModel) -> None:
    weights = quantized(tiny_llama, 4)
    first = next(iter(weights.values()))
    with pytest.raises(WorkbenchError, match="no quantizable matrix 'nothing'"):
        packed_copy(tiny_llama.model, {"nothing": first})
    wrong = lowbit.quantize(torch.randn(3, 32), bits=4, group_size=32)
    with pytest.raises(WorkbenchError, match="the packed weight"):
        packed_copy(tiny_llama.model, {next(iter(weights)): wrong})
    with overlay(tiny_llama.model, {}), pytest.raises(WorkbenchError, match="laid over the model"):
        packed_copy(tiny_llama.model, weights)
