"""Widths a group: the parts hold what each group would be alone, and go back to their columns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lowbit
from lowbit import torch_backend, torch_mixed

WIDTHS = (4, 1, 3, 8, 2, 4, 3)


def _weight(columns: int) -> Tensor:
    return torch.randn(5, columns, generator=torch.Generator().manual_seed(columns))


def _dequantize(mixed: lowbit.MixedWeight, dtype: torch.dtype = torch.float32) -> Tensor:
    out = torch.full(mixed.shape, float("nan"), dtype=dtype)
    torch_mixed.dequantize(mixed, out)
    return out


@pytest.mark.parametrize("columns", [7 * 16, 7 * 16 - 5])
@pytest.mark.parametrize("symmetric", [False, True])
def test_each_group_is_what_it_would_be_alone(columns: int, symmetric: bool) -> None:
    w = _weight(columns)
    mixed = lowbit.quantize_mixed(w, widths=WIDTHS, group_size=16, symmetric=symmetric)
    assert [part.bits for part in mixed.parts if isinstance(part, lowbit.PackedWeight)] == [1, 2, 3, 4, 8]
    values = _dequantize(mixed)
    for group, bits in enumerate(WIDTHS):
        columns_here = slice(16 * group, 16 * group + 16)
        alone = lowbit.quantize(w[:, columns_here].contiguous(), bits=bits, group_size=16, symmetric=symmetric)
        assert torch.equal(values[:, columns_here], lowbit.dequantize(alone))


def test_values_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = lowbit.quantize_mixed(_weight(107), widths=WIDTHS, group_size=16)
    whole = _dequantize(mixed, torch.float16)
    monkeypatch.setitem(torch_backend.CHUNK, "cpu", 107 * 2)
    assert torch.equal(_dequantize(mixed, torch.float16), whole)


def test_stored_bits_are_the_mean_of_the_widths_and_what_goes_with_them() -> None:
    mixed = lowbit.quantize_mixed(_weight(7 * 16), widths=WIDTHS, group_size=16)
    bits = sum(WIDTHS) / 7 + 32 / 16 + 8 * 7 / (5 * 7 * 16)
    assert mixed.stored_bits == pytest.approx(bits, rel=1e-12)
    assert torch.equal(mixed.order.sort().values, torch.arange(7 * 16))


def test_whole_rows_are_one_group() -> None:
    w = _weight(30)
    mixed = lowbit.quantize_mixed(w, widths=(3,), group_size=-1)
    assert torch.equal(_dequantize(mixed), lowbit.dequantize(lowbit.quantize(w, bits=3, group_size=-1)))


@pytest.mark.parametrize("kind", ["plain", "residual", "split"])
def test_salient_columns_beside_a_binary_rest(kind: str) -> None:
    """Units of one column: what PTQ1.61 and BiLLM store, spelled out column by column."""
    generator = torch.Generator().manual_seed(3)
    choice = (torch.rand(40, generator=generator) < 0.2).to(torch.uint8)
    rest, count = int((choice == 0).sum()), lowbit.parts.PLANES[kind]
    planes = tuple(
        torch.randint(0, 256, (5, -(-rest // 8)), dtype=torch.uint8, generator=generator) for _ in range(count)
    )
    magnitude = torch.rand(5, 1, count, generator=generator).half()
    binary = lowbit.BinaryWeight(planes, magnitude, (5, rest), -1, kind)  # type: ignore[arg-type]
    salient = lowbit.quantize(_weight(40 - rest), bits=4, group_size=-1)
    mixed = lowbit.MixedWeight((binary, salient), choice, 1, (5, 40))
    values, held = _dequantize(mixed), torch.empty(5, rest)
    torch_mixed.decode_part(binary, held)
    assert torch.equal(values[:, choice == 0], held)
    assert torch.equal(values[:, choice == 1], lowbit.dequantize(salient))


@pytest.mark.parametrize(
    ("widths", "group_size", "sentence"),
    [
        ((4, 4), 16, "2 widths were given, but 40 columns are 3 groups of 16"),
        ((4, 5, 4), 16, "bits has value 5"),
        ((4, 4, 4), 0, "group size has value 0"),
        ((), -1, "0 widths were given, but 40 columns are 1 groups of 40"),
    ],
)
def test_widths_that_do_not_fit_are_refused(widths: tuple[int, ...], group_size: int, sentence: str) -> None:
    with pytest.raises(lowbit.LowbitError, match=sentence):
        lowbit.quantize_mixed(_weight(40), widths=widths, group_size=group_size)
