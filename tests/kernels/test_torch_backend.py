"""The torch backend against the contract number by number, torch's own fake quantizer and a closed form."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

import lowbit
from lowbit import torch_backend
from lowbit.reference import quantize_row

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def _weights(rows: int, columns: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Gaussian weights with a row of zeros, an outlier and, in 16-bit dtypes, many ties."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(rows, columns, generator=generator) * 0.02
    w[0] = 0
    w[-1, columns // 2] = 3
    return w.to(dtype)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 80),
    st.sampled_from((-1, 1, 6, 16, 64)),
    st.sampled_from(lowbit.WIDTHS),
    st.booleans(),
    st.sampled_from(DTYPES),
    st.integers(0, 2**30),
)
def test_every_number_agrees_with_the_definition(
    rows: int, columns: int, group_size: int, bits: int, symmetric: bool, dtype: torch.dtype, seed: int
) -> None:
    w = _weights(rows, columns, dtype, seed)
    h = torch.rand(columns, generator=torch.Generator().manual_seed(seed)) * 3
    packed = lowbit.quantize(w, bits=bits, group_size=group_size, symmetric=symmetric, backend="torch")
    sums = lowbit.errors(w, bits=bits, group_size=group_size, symmetric=symmetric, h=h, backend="torch")
    expected = [quantize_row(row, bits, group_size, symmetric) for row in w.tolist()]
    assert packed.scale.tolist() == [[group.scale for group in row] for row in expected]
    if packed.zero is not None:
        assert packed.zero.tolist() == [[group.zero for group in row] for row in expected]
    assert packed.codes().tolist() == [[code for group in row for code in group.codes] for row in expected]
    values = torch.tensor([[value for group in row for value in group.values] for row in expected], dtype=torch.float64)
    assert torch.equal(lowbit.dequantize(packed, backend="torch").double(), values)
    square = (values - w.double()) ** 2
    torch.testing.assert_close(sums.squared.double().sum(1), square.sum(1), rtol=1e-5, atol=0)
    assert sums.weighted is not None
    torch.testing.assert_close(sums.weighted.double().sum(1), (square * h).sum(1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_values_agree_with_torchs_own_fake_quantizer(bits: int) -> None:
    w = torch.randn(64, 128, generator=torch.Generator().manual_seed(bits))
    packed = lowbit.quantize(w, bits=bits, group_size=32)
    assert packed.zero is not None
    groups = w.view(-1, 32)
    scale, zero = packed.scale.float().flatten(), packed.zero.int().flatten()
    expected = torch.fake_quantize_per_channel_affine(groups, scale, zero, 0, 0, 2**bits - 1)
    assert torch.equal(lowbit.dequantize(packed).view(-1, 32), expected)


def test_error_of_evenly_spread_weights_is_a_twelfth_of_the_step_squared() -> None:
    w = torch.rand(200, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean = lowbit.errors(w, bits=8, group_size=-1).squared.double().sum() / w.numel()
    assert mean.item() == pytest.approx((2 / 255) ** 2 / 12, rel=0.02)


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_do_not_depend_on_the_chunks(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    w = _weights(11, 172, dtype, 1)
    kept = w.clone()
    calls = (
        lambda: lowbit.quantize(w, bits=3, group_size=64).planes[0],
        lambda: lowbit.dequantize(lowbit.quantize(w, bits=3, group_size=64)),
        lambda: lowbit.errors(w, bits=3, group_size=64).squared,
    )
    whole = [call() for call in calls]
    for chunk in (1, 172 * 4):
        monkeypatch.setitem(torch_backend.CHUNK, "cpu", chunk)
        assert all(torch.equal(call(), expected) for call, expected in zip(calls, whole, strict=True))
    assert torch.equal(w, kept)


class _LargestTensor(TorchFunctionMode):
    """Elements of the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numel = max(self.numel, result.numel())
        return result


def test_errors_need_no_more_memory_than_two_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(torch_backend.CHUNK, "cpu", 1024)
    w = torch.randn(400, 128, dtype=torch.bfloat16)
    with _LargestTensor() as seen:
        lowbit.errors(w, bits=4, group_size=64, h=torch.ones(128))
    assert seen.numel == w.numel()  # the weight itself, detached
    with _LargestTensor() as seen:
        torch_backend.errors(w, 4, 64, False, torch.ones(128))
    assert seen.numel <= 2 * 1024


def test_error_table_is_the_errors_of_every_cell() -> None:
    w = _weights(5, 172, torch.float16, 2)
    h = torch.rand(172)
    table = lowbit.error_table(w, widths=(8, 2, 3), group_sizes=(64, -1), h=h)
    plain = lowbit.error_table(w, widths=(8, 2, 3), group_sizes=(64, -1))
    assert table.dtype == torch.float64
    for i, bits in enumerate((8, 2, 3)):
        for j, group_size in enumerate((64, -1)):
            sums = lowbit.errors(w, bits=bits, group_size=group_size, h=h)
            assert sums.weighted is not None
            torch.testing.assert_close(table[:, i, j], sums.weighted.double().sum(1), rtol=1e-12, atol=0)
            torch.testing.assert_close(plain[:, i, j], sums.squared.double().sum(1), rtol=1e-12, atol=0)


def test_dequantized_values_are_rounded_to_the_asked_dtype_and_buffer() -> None:
    w = _weights(4, 100, torch.float32, 3)
    packed = lowbit.quantize(w, bits=8, group_size=32)
    exact = lowbit.dequantize(packed)
    for dtype in DTYPES:
        buffer = torch.full((4, 100), float("nan"), dtype=dtype)
        assert lowbit.dequantize(packed, dtype=dtype, out=buffer) is buffer
        assert torch.equal(buffer, exact.to(dtype))


def test_parameters_with_gradients_are_read_and_left_alone() -> None:
    w = torch.nn.Parameter(torch.randn(3, 8))
    out = torch.nn.Parameter(torch.zeros(3, 8))
    packed = lowbit.quantize(w, bits=4, group_size=4)
    assert not lowbit.dequantize(packed).requires_grad
    assert lowbit.dequantize(packed, out=out) is out
    assert torch.equal(out.detach(), lowbit.dequantize(packed))
    assert w.grad is None
