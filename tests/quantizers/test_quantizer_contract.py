"""What every quantizer of single matrices owes, whichever it is: the registry enrols a new one here by itself."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.quantizers.weight import QuantizedWeight
from workbench.registry import Method, quantizers

FROM_WEIGHTS = [
    method
    for method in quantizers.methods()
    if method.traits["scope"] == "matrix" and not method.needs and not method.traits.get("fixed_width", False)
    if not {"fixed_group", "widths"} & set(method.traits)
]
every_quantizer = pytest.mark.parametrize("quantizer", FROM_WEIGHTS, ids=lambda method: method.name)


def gaussian(rows: int, columns: int) -> torch.Tensor:
    return 0.02 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * columns))


def test_round_to_nearest_is_there():
    assert "rtn" in [method.name for method in FROM_WEIGHTS]


@pytest.mark.parametrize("method", quantizers.methods(), ids=lambda method: method.name)
def test_a_quantizer_says_what_it_is(method: Method):
    assert method.summary.endswith(".")
    assert method.reference
    assert method.cost
    assert method.traits["scope"] in ("matrix", "block", "model")
    assert method.traits["formula"]
    assert isinstance(method.traits["ours"], str)


@every_quantizer
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("shape", "group_size"), [((8, 128), 64), ((5, 172), 64), ((3, 7), -1), ((1, 1), 32)], ids=str)
def test_the_weight_that_comes_back(
    quantizer: Method, bits: int, dtype: torch.dtype, shape: tuple[int, int], group_size: int
):
    weight = gaussian(*shape).to(dtype)
    before = weight.clone()
    held = quantizer(weight, None, bits=bits, group_size=group_size, symmetric=False)
    assert isinstance(held, QuantizedWeight)
    assert held.shape == shape
    dense = held.dequantize()
    assert dense.shape == shape
    assert dense.dtype == torch.float32
    assert torch.isfinite(dense).all()
    assert torch.equal(held.dequantize(torch.bfloat16), dense.to(torch.bfloat16))
    assert torch.equal(weight, before)
    again = quantizer(weight, None, bits=bits, group_size=group_size, symmetric=False)
    assert torch.equal(again.dequantize(), dense)


@every_quantizer
@pytest.mark.parametrize("symmetric", [False, True])
def test_its_size_is_that_of_the_tensors_it_holds(quantizer: Method, symmetric: bool):
    held = quantizer(gaussian(6, 200), None, bits=3, group_size=64, symmetric=symmetric)
    by_hand = sum(tensor.numel() * tensor.element_size() for tensor in held.tensors().values())
    assert held.nbytes == by_hand > 0
    assert held.stored_bits == pytest.approx(8 * by_hand / 1200)
    assert 3 <= held.nominal_bits <= held.stored_bits < 16


@every_quantizer
def test_more_bits_never_do_worse(quantizer: Method):
    weight = gaussian(64, 256)
    errors = [
        float((quantizer(weight, None, bits=bits, group_size=64, symmetric=False).dequantize() - weight).norm())
        for bits in (1, 2, 3, 4, 8)
    ]
    assert all(fine < 0.7 * coarse for coarse, fine in pairwise(errors))


@every_quantizer
@pytest.mark.parametrize(("bits", "group_size"), [(5, 64), (0, 64), (16, 64), (4, 0), (4, -2)])
def test_widths_and_groups_that_no_kernel_has_are_refused(quantizer: Method, bits: int, group_size: int):
    with pytest.raises(WorkbenchError, match="choose"):
        quantizer(gaussian(4, 64), None, bits=bits, group_size=group_size, symmetric=False)
