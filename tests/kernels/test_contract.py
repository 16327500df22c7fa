"""The contract by hand: small groups whose grids, codes and values can be worked out on paper, on both backends."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lowbit
from workbench.scheme import affine_stored_bits

TINY = 2.0**-24

# weights of one group, bits, symmetric -> scale, zero point, codes
VECTORS = {
    "exact": ([-1, 0, 1, 2], 2, False, 1.0, 1, [0, 1, 2, 3]),
    "ties go to even": ([0, 0.5, 1.5, 2.5, 3], 2, False, 1.0, 0, [0, 0, 2, 2, 3]),
    "negative ties": ([0, -0.5, -1.5, -2.5, -3], 2, False, 1.0, 3, [3, 3, 1, 1, 0]),
    "tie of the zero point": ([-1.5, 1.5], 2, False, 1.0, 2, [0, 3]),
    "positive only": ([6, 4, 2, 15], 4, False, 1.0, 0, [6, 4, 2, 15]),
    "negative only": ([-6, -4, -2, -15], 4, False, 1.0, 15, [9, 11, 13, 0]),
    "all zero": ([0, 0, 0], 4, False, TINY, 0, [0, 0, 0]),
    "all zero, symmetric": ([0, 0, 0], 4, True, TINY, 8, [8, 8, 8]),
    "below the scale's floor": ([1e-9, -1e-9], 4, False, TINY, 0, [0, 0]),
    "scale rounds to a subnormal fp16": ([4.5 * TINY, 0], 2, False, 2 * TINY, 0, [2, 0]),
    "one huge outlier": ([30000, 0.01, -0.01, 999], 4, False, 2000.0, 0, [15, 0, 0, 0]),
    "scale is rounded before codes": ([0, 2049 * 3, 2048], 2, False, 2048.0, 0, [0, 3, 1]),
    "one bit": ([-1, 2, 1.4, 1.6], 1, False, 3.0, 0, [0, 1, 0, 1]),
    "one bit, even range": ([-1, 1], 1, False, 2.0, 0, [0, 0]),
    "one bit, symmetric": ([-1, 1], 1, True, 2.0, 1, [1, 1]),
    "symmetric clamps above": ([-3.5, 3.5, 1, 0], 3, True, 1.0, 4, [0, 7, 5, 4]),
    "eight bits": ([-128, 127, 0.5, 1.5], 8, False, 1.0, 128, [0, 255, 128, 130]),
}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 300),
    st.sampled_from(lowbit.WIDTHS),
    st.sampled_from((-1, 32, 64, 128)),
    st.booleans(),
)
def test_stored_bits_are_the_bytes_of_all_that_is_held(
    rows: int, columns: int, bits: int, group_size: int, symmetric: bool
) -> None:
    w = torch.randn(rows, columns, generator=torch.Generator().manual_seed(columns))
    packed = lowbit.quantize(w, bits=bits, group_size=group_size, symmetric=symmetric)
    length = columns if group_size == -1 else group_size
    groups = [min(length, columns - start) for start in range(0, columns, length)]
    planes = sum(-(-size * width // 8) for size in groups for width in ((2, 1) if bits == 3 else (bits,)))
    assert packed.nbytes == rows * (planes + len(groups) * (2 if symmetric else 4))
    assert packed.stored_bits == 8 * packed.nbytes / w.numel()


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    weights, bits, symmetric, scale, zero, codes = VECTORS[name]
    w = torch.tensor([weights], dtype=torch.float32)
    packed = lowbit.quantize(w, bits=bits, group_size=-1, symmetric=symmetric, backend="torch")
    assert packed.scale.tolist() == [[scale]]
    assert packed.zero is None if symmetric else packed.zero is not None and packed.zero.tolist() == [[zero]]
    assert packed.codes().tolist() == [codes]
    values = [(code - zero) * scale for code in codes]
    assert lowbit.dequantize(packed, backend="torch").tolist() == [values]
    error = sum((value - weight) ** 2 for value, weight in zip(values, w[0].tolist(), strict=True))
    sums = lowbit.errors(w, bits=bits, group_size=-1, symmetric=symmetric, backend="torch")
    assert sums.squared.item() == pytest.approx(error, rel=1e-6, abs=0)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", lowbit.WIDTHS)
def test_vectors_on_triton(bits: int, symmetric: bool, device: torch.device) -> None:
    """All vectors as rows of one matrix, at every width: padding them with zeros changes no grid."""
    w = torch.zeros(len(VECTORS), 5, device=device)
    for row, (weights, *_) in enumerate(VECTORS.values()):
        w[row, : len(weights)] = torch.tensor(weights, dtype=torch.float32)
    packed, expected = (
        lowbit.quantize(w, bits=bits, group_size=-1, symmetric=symmetric, backend=name) for name in ("triton", "torch")
    )
    assert torch.equal(packed.scale, expected.scale)
    assert torch.equal(packed.codes(), expected.codes())
    assert (packed.zero is None) == (expected.zero is None) == symmetric
    if packed.zero is not None and expected.zero is not None:
        assert torch.equal(packed.zero, expected.zero)


def test_a_short_last_group_has_its_own_grid(backend: str, device: torch.device) -> None:
    w = torch.tensor([[0.0, 3.0, 1.0, 0.0, 6.0]], device=device)
    packed = lowbit.quantize(w, bits=2, group_size=2, backend=backend)
    assert packed.scale.tolist() == [[1.0, pytest.approx(1 / 3, rel=1e-3), 2.0]]
    assert packed.codes().tolist() == [[0, 3, 3, 0, 3]]
    assert packed.planes[0].tolist() == [[0b1100, 0b0011, 0b11]]


def test_column_weights_scale_each_error(backend: str, device: torch.device) -> None:
    w = torch.tensor([[0.0, 0.25, 3.0, 0.5]], device=device)
    h = torch.tensor([7.0, 2.0, 5.0, 4.0], device=device)
    sums = lowbit.errors(w, bits=2, group_size=2, h=h, backend=backend)
    exact = lowbit.errors(w, bits=2, group_size=-1, h=h, backend=backend)
    assert exact.weighted is not None
    assert sums.weighted is not None
    assert exact.squared.tolist() == [[0.25**2 + 0.5**2]]
    assert exact.weighted.tolist() == [[2 * 0.25**2 + 4 * 0.5**2]]
    assert sums.squared.shape == (1, 2)


def test_advertised_sizes() -> None:
    w = torch.randn(4, 128)
    assert lowbit.quantize(w, bits=3, group_size=64).stored_bits == 3.5
    assert lowbit.quantize(w, bits=3, group_size=64, symmetric=True).stored_bits == 3.25
    assert lowbit.quantize(w, bits=4, group_size=-1).stored_bits == 4 + 32 / 128


@pytest.mark.parametrize("columns", [1, 7, 64, 172, 257])
@pytest.mark.parametrize("group_size", [32, 64, 128, -1])
@pytest.mark.parametrize("symmetric", [False, True])
def test_stored_bits_agree_with_the_sizes_shown_beforehand(columns: int, group_size: int, symmetric: bool) -> None:
    w = torch.randn(3, columns)
    for bits in lowbit.WIDTHS:
        packed = lowbit.quantize(w, bits=bits, group_size=group_size, symmetric=symmetric)
        assert packed.stored_bits == affine_stored_bits(3, columns, bits, group_size, symmetric)
        held = [*packed.planes, packed.scale] + ([] if packed.zero is None else [packed.zero])
        assert packed.stored_bits == 8 * sum(part.numel() * part.element_size() for part in held) / w.numel()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_not_finite_is_refused_by_place(bad: float, dtype: torch.dtype, backend: str, device: torch.device) -> None:
    w = torch.zeros(3, 10, dtype=dtype, device=device)
    w[1, 9] = bad
    with pytest.raises(lowbit.LowbitError, match=f"^the weight holds {bad} in row 1, column 9$"):
        lowbit.quantize(w, bits=4, group_size=4, backend=backend)
    with pytest.raises(lowbit.LowbitError, match="row 1, column 9"):
        lowbit.errors(w, bits=4, group_size=4, backend=backend)
    with pytest.raises(lowbit.LowbitError, match="row 1, column 9"):
        lowbit.error_table(w, widths=(2, 4), group_sizes=(4,), backend=backend)


def test_a_scale_beyond_fp16_is_refused_by_place(backend: str, device: torch.device) -> None:
    w = torch.zeros(3, 8, device=device)
    w[2, 4], w[2, 5] = 5e4, -5e4
    with pytest.raises(
        lowbit.LowbitError, match="in row 2, columns 4 to 7, the weight reaches 50000, so its 1 bit scale"
    ):
        lowbit.quantize(w, bits=1, group_size=4, backend=backend)
    assert lowbit.quantize(w, bits=2, group_size=4, backend=backend).scale.max().isfinite()


def test_only_the_span_of_one_group_counts(backend: str, device: torch.device) -> None:
    w = torch.tensor([[49152.0, 0.0, -49152.0, 0.0]], device=device)
    assert lowbit.quantize(w, bits=1, group_size=2, backend=backend).scale.tolist() == [[49152.0, 49152.0]]


@pytest.mark.parametrize(
    ("w", "sentence"),
    [
        (torch.zeros(4), r"not a tensor of shape \(4,\)"),
        (torch.zeros(2, 2, 2), r"not a tensor of shape \(2, 2, 2\)"),
        (torch.zeros(0, 4), r"not a tensor of shape \(0, 4\)"),
        (torch.zeros(4, 4, dtype=torch.float64), "dtype float64; choose one of: float32, float16, bfloat16"),
        (torch.zeros(4, 4, dtype=torch.int8), "dtype int8"),
        (torch.zeros(4, 6).t(), "is not contiguous"),
        (torch.zeros(4, 6)[:, ::2], "is not contiguous"),
    ],
)
def test_unreadable_weights_are_refused(w: Tensor, sentence: str, backend: str, device: torch.device) -> None:
    for call in (lowbit.quantize, lowbit.errors):
        with pytest.raises(lowbit.LowbitError, match=sentence):
            call(w.to(device), bits=4, group_size=2, backend=backend)
    with pytest.raises(lowbit.LowbitError, match=sentence):
        lowbit.group_grid(w, bits=4, group_size=2)
    with pytest.raises(lowbit.LowbitError, match=sentence):
        lowbit.error_table(w.to(device), widths=(4,), group_sizes=(2,), backend=backend)


@pytest.mark.parametrize(("bits", "group_size"), [(5, 64), (0, 64), (16, 64), (4, 0), (4, -2), (4, True), (4, 64.0)])
def test_unknown_options_are_refused(bits: int, group_size: int) -> None:
    with pytest.raises(lowbit.LowbitError, match=r"bits has value .*: 1, 2, 3, 4, 8$|group size has value"):
        lowbit.quantize(torch.zeros(2, 64), bits=bits, group_size=group_size)
    with pytest.raises(lowbit.LowbitError, match="has value"):
        lowbit.error_table(torch.zeros(2, 64), widths=(4, bits), group_sizes=(group_size,))


def test_an_empty_table_is_refused() -> None:
    for widths, group_sizes in (((), (64,)), ((4,), ())):
        with pytest.raises(lowbit.LowbitError, match="at least one width and one group size"):
            lowbit.error_table(torch.zeros(2, 64), widths=widths, group_sizes=group_sizes)


@pytest.mark.parametrize(
    ("h", "sentence"),
    [
        (torch.ones(3), r"h has shape \(3,\), but the weight has 4 columns"),
        (torch.ones(2, 4), r"h has shape \(2, 4\)"),
        (torch.tensor([1.0, -1.0, 1.0, 1.0]), "negative"),
        (torch.tensor([1.0, math.nan, 1.0, 1.0]), "non-finite"),
    ],
)
def test_bad_column_weights_are_refused(h: Tensor, sentence: str) -> None:
    with pytest.raises(lowbit.LowbitError, match=sentence):
        lowbit.errors(torch.zeros(2, 4), bits=4, group_size=4, h=h)


@pytest.mark.parametrize(
    ("dtype", "out", "sentence"),
    [
        (torch.float64, None, "dtype has value float64"),
        (torch.float32, torch.zeros(2, 4, dtype=torch.float16), "out is float16"),
        (torch.float32, torch.zeros(4, 2), r"out is float32 of shape \(4, 2\)"),
        (torch.float32, torch.zeros(4, 2).t(), "not contiguous"),
    ],
)
def test_bad_buffers_are_refused(dtype: torch.dtype, out: Tensor | None, sentence: str) -> None:
    packed = lowbit.quantize(torch.randn(2, 4), bits=4, group_size=4)
    with pytest.raises(lowbit.LowbitError, match=sentence):
        lowbit.dequantize(packed, dtype=dtype, out=out)


def test_parts_that_do_not_fit_are_refused() -> None:
    packed = lowbit.quantize(torch.randn(2, 8), bits=3, group_size=4)
    low, high = packed.planes
    whole: dict[str, Any] = {"planes": (low, high), "scale": packed.scale, "zero": packed.zero, "symmetric": False}
    changes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"planes": (low,)}, "have 2 plane"),
        ({"planes": (high, high[:, :1])}, "plane is uint8"),
        ({"scale": packed.scale.float()}, "scale is float32"),
        ({"zero": None}, "symmetric weight has no zero points"),
        ({"symmetric": True}, "symmetric weight has no zero points"),
        ({"zero": packed.scale}, "zero point is float16"),
        ({"planes": (low.to("meta"), high)}, "different devices"),
    )
    for change, sentence in changes:
        with pytest.raises(lowbit.LowbitError, match=sentence):
            lowbit.PackedWeight(**(whole | change), shape=(2, 8), bits=3, group_size=4)


def test_codes_made_elsewhere() -> None:
    w = torch.randn(3, 10)
    packed = lowbit.quantize(w, bits=3, group_size=4)
    grid = lowbit.group_grid(w, bits=3, group_size=4)
    again = lowbit.PackedWeight.from_codes(packed.codes(), grid, bits=3, group_size=4)
    assert torch.equal(lowbit.dequantize(again), lowbit.dequantize(packed))
    assert again.stored_bits == packed.stored_bits
    with pytest.raises(lowbit.LowbitError, match="code 7 does not fit in 2 bit"):
        lowbit.PackedWeight.from_codes(torch.full((3, 10), 7, dtype=torch.uint8), grid, bits=2, group_size=4)
    with pytest.raises(lowbit.LowbitError, match="filled uint8 matrix"):
        lowbit.PackedWeight.from_codes(packed.codes().int(), grid, bits=3, group_size=4)
    with pytest.raises(lowbit.LowbitError, match="scale is float16 of shape"):
        lowbit.PackedWeight.from_codes(packed.codes(), grid, bits=3, group_size=5)
