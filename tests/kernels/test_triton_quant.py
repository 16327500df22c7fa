"""Triton against torch: the same planes, scales and zero points bit for bit, error sums within 1e-5.

The interpreter's time goes by programs and operations, not by elements, so shapes are chosen for few, large programs.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lowbit

RAGGED = (7, 172, 64)
EVEN = (33, 256, 128)
TOO_LONG = 2**16 + 8


def _weights(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Gaussian weights with an all-zero group, an outlier and exact ties (common in 16-bit dtypes)."""
    w = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * columns)) * 0.02
    w[1, : columns // 2] = 0
    w[2, 3] = 3.0
    w[3, :8] = torch.tensor([0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 15.0, -2.5])
    return w.to(device=device, dtype=dtype)


def _assert_same(packed: lowbit.PackedWeight, expected: lowbit.PackedWeight) -> None:
    assert all(torch.equal(*pair) for pair in zip(packed.planes, expected.planes, strict=True))
    assert torch.equal(packed.scale, expected.scale)
    assert (packed.zero is None) == (expected.zero is None)
    if packed.zero is not None and expected.zero is not None:
        assert torch.equal(packed.zero, expected.zero)


def _close(sums: Tensor | None, expected: Tensor | None) -> None:
    assert sums is not None
    assert expected is not None
    torch.testing.assert_close(sums, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", lowbit.WIDTHS)
def test_ragged_groups(bits: int, symmetric: bool, dtype: torch.dtype, device: torch.device) -> None:
    rows, columns, group_size = RAGGED
    w = _weights(rows, columns, dtype, device)
    options = {"bits": bits, "group_size": group_size, "symmetric": symmetric}
    _assert_same(lowbit.quantize(w, **options, backend="triton"), lowbit.quantize(w, **options, backend="torch"))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", lowbit.WIDTHS)
def test_even_groups_with_a_part_block_of_rows(bits: int, symmetric: bool, device: torch.device) -> None:
    rows, columns, group_size = EVEN
    w = _weights(rows, columns, torch.bfloat16, device)
    options = {"bits": bits, "group_size": group_size, "symmetric": symmetric}
    _assert_same(lowbit.quantize(w, **options, backend="triton"), lowbit.quantize(w, **options, backend="torch"))


@pytest.mark.parametrize("columns", [100, 64])
@pytest.mark.parametrize("bits", [3, 4])
def test_whole_rows(bits: int, columns: int, device: torch.device) -> None:
    w = _weights(5, columns, torch.float16, device)
    packed = lowbit.quantize(w, bits=bits, group_size=-1, backend="triton")
    _assert_same(packed, lowbit.quantize(w, bits=bits, group_size=-1, backend="torch"))
    assert torch.equal(lowbit.dequantize(packed, backend="triton"), lowbit.dequantize(packed, backend="torch"))


@pytest.mark.parametrize("shape", [RAGGED, EVEN])
@pytest.mark.parametrize("bits", lowbit.WIDTHS)
def test_dequantize(bits: int, shape: tuple[int, int, int], device: torch.device) -> None:
    rows, columns, group_size = shape
    symmetric = bits in (2, 4)
    w = _weights(rows, columns, torch.float32, device)
    packed = lowbit.quantize(w, bits=bits, group_size=group_size, symmetric=symmetric, backend="torch")
    for dtype in (torch.float32, torch.float16):
        buffer = torch.full((rows, columns), float("nan"), dtype=dtype, device=device)
        lowbit.dequantize(packed, dtype=dtype, out=buffer, backend="triton")
        assert torch.equal(buffer, lowbit.dequantize(packed, dtype=dtype, backend="torch"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("symmetric", [False, True])
def test_errors(symmetric: bool, dtype: torch.dtype, device: torch.device) -> None:
    rows, columns, group_size = RAGGED
    w = _weights(rows, columns, dtype, device)
    h = torch.rand(columns, device=device)
    for bits in lowbit.WIDTHS:
        options = {"bits": bits, "group_size": group_size, "symmetric": symmetric, "h": h}
        sums, expected = (lowbit.errors(w, **options, backend=name) for name in ("triton", "torch"))
        _close(sums.squared, expected.squared)
        _close(sums.weighted, expected.weighted)
    assert lowbit.errors(w, bits=4, group_size=group_size, backend="triton").weighted is None


@pytest.mark.parametrize("weighted", [False, True])
def test_error_table(weighted: bool, device: torch.device) -> None:
    w = _weights(33, 172, torch.bfloat16, device)
    h = torch.rand(172, device=device) if weighted else None
    options = {"widths": (4, 1, 8, 2, 3), "group_sizes": (128, -1), "h": h}
    table = lowbit.error_table(w, **options, backend="triton")
    assert table.shape == (33, 5, 2)
    _close(table, lowbit.error_table(w, **options, backend="torch"))


def test_a_group_beyond_the_registers_is_refused(device: torch.device) -> None:
    w = torch.zeros(1, TOO_LONG, device=device)
    with pytest.raises(lowbit.LowbitError, match=f"group of {TOO_LONG} columns is longer than .* choose torch"):
        lowbit.quantize(w, bits=4, group_size=-1, backend="triton")
