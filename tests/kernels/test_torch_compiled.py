"""The compiled and the one-pass forms of the torch backend: the same codes and values, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lowbit import torch_backend, torch_compiled, torch_requantize
from lowbit.contract import WIDTHS, LowbitError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SHAPES = ((7, 172, 64), (1, 128, -1), (33, 256, 128))


def _weights(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Gaussian weights with a row of zeros, an outlier and, in 16-bit dtypes, many ties."""
    w = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)) * 0.02
    w[0, columns // 2 :] = 0
    w[-1, 3] = 3
    return w.to(dtype)


def _close(sums: torch.Tensor | None, expected: torch.Tensor | None) -> None:
    assert sums is not None
    assert expected is not None
    torch.testing.assert_close(sums, expected, rtol=1e-5, atol=0)


def _values(w: Tensor, bits: int, group_size: int, symmetric: bool, clip: Tensor | None, dtype: torch.dtype) -> Tensor:
    out = torch.empty(w.shape, dtype=dtype)
    torch_backend.dequantize(torch_backend.quantize(w, bits, group_size, symmetric, clip), out)
    return out


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_of_one_pass_are_those_of_two(shape: tuple[int, int, int], dtype: torch.dtype, symmetric: bool) -> None:
    rows, columns, group_size = shape
    w, h = _weights(rows, columns, dtype), torch.rand(columns)
    clip = torch.rand(torch_backend.grid_shape(w, group_size)) * 0.5 + 0.5
    for bits in WIDTHS:
        for given in (None, clip):
            for kept in (torch.float32, torch.bfloat16):
                out = torch.full_like(w, torch.nan, dtype=kept)
                sums = torch_requantize.requantize(w, bits, group_size, symmetric, h, out, given)
                assert torch.equal(out, _values(w, bits, group_size, symmetric, given, kept))
                expected = torch_backend.errors(w, bits, group_size, symmetric, h, given)
                assert torch.equal(sums.squared, expected.squared)
                _close(sums.weighted, expected.weighted)
    assert torch_requantize.requantize(w, 4, group_size, symmetric, None, out).weighted is None


def test_one_pass_refuses_what_quantize_refuses() -> None:
    w = torch.zeros(2, 8)
    w[1, 2] = torch.nan
    with pytest.raises(LowbitError, match="holds nan in row 1, column 2"):
        torch_requantize.requantize(w, 4, 8, False, None, torch.empty(2, 8))


def test_nothing_is_compiled_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(LowbitError, match=r"there is no C.. compiler no-such-compiler .* choose torch"):
        torch_compiled.errors(torch.zeros(2, 8), 4, 8, False, None)
    assert "cuda" in str(torch_compiled.obstacle(torch.device("cuda")))


@pytest.mark.slow
@pytest.mark.skipif(torch_compiled.obstacle(torch.device("cpu")) is not None, reason="no C++ compiler")
@pytest.mark.parametrize(("dtype", "symmetric"), [(torch.float32, False), (torch.bfloat16, True)])
def test_compiled_code_gives_the_same_bits(dtype: torch.dtype, symmetric: bool) -> None:
    rows, columns, group_size = SHAPES[0]
    w, h = _weights(rows, columns, dtype), torch.rand(columns)
    clip = torch.rand(torch_backend.grid_shape(w, group_size)) * 0.5 + 0.5
    for bits in WIDTHS:
        out = torch.full_like(w, torch.nan, dtype=torch.float32)
        sums = torch_compiled.requantize(w, bits, group_size, symmetric, h, out, clip)
        assert torch.equal(out, _values(w, bits, group_size, symmetric, clip, torch.float32))
        _close(sums.squared, torch_backend.errors(w, bits, group_size, symmetric, h, clip).squared)
        plain = torch_compiled.errors(w, bits, group_size, symmetric, None)
        assert plain.weighted is None
        _close(plain.squared, torch_backend.errors(w, bits, group_size, symmetric, None).squared)
    table = torch_compiled.error_table(w, WIDTHS, (group_size,), symmetric, h)
    _close(table, torch_backend.error_table(w, WIDTHS, (group_size,), symmetric, h))


@pytest.mark.slow
@pytest.mark.skipif(torch_compiled.obstacle(torch.device("cpu")) is not None, reason="no C++ compiler")
def test_compiled_code_refuses_the_same_weights() -> None:
    rows, columns, group_size = SHAPES[0]
    for bad, sentence in ((torch.inf, "holds inf in row 1, column 2"), (1e7, "4 bit scale would exceed 65504")):
        w = _weights(rows, columns, torch.float32)
        w[1, 2] = bad
        with pytest.raises(LowbitError, match=sentence):
            torch_compiled.errors(w, 4, group_size, False, None)
        with pytest.raises(LowbitError, match=sentence.replace("4 bit", "1 bit")):
            torch_compiled.error_table(w, WIDTHS, (group_size,), False, None)
