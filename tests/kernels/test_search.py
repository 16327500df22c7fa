"""Clipped grids, and the searches for the best clip and the best column scales, against brute force and by hand."""

from __future__ import annotations

import importlib
import math
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lowbit
from lowbit import torch_backend, torch_search
from lowbit.reference import quantize_group

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
RAGGED = (7, 172, 64)
EVEN = (33, 256, 128)


@pytest.fixture
def search(backend: str) -> ModuleType:
    return importlib.import_module(f"lowbit.{backend}_search")


def _weights(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Gaussian weights with an all-zero group and an outlier."""
    w = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * columns)) * 0.02
    w[1, : columns // 2] = 0
    w[2, 3] = 3.0
    return w.to(device=device, dtype=dtype)


def _random(*shape: int, device: torch.device | str = "cpu") -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))).to(device) * 0.9 + 0.1


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from(lowbit.WIDTHS),
    st.booleans(),
    st.sampled_from(DTYPES),
    st.sampled_from((1.0, 0.9, 0.5, 0.01, 1e-7)),
    st.integers(0, 2**30),
)
def test_a_clipped_grid_agrees_with_the_definition(
    rows: int, bits: int, symmetric: bool, dtype: torch.dtype, ratio: float, seed: int
) -> None:
    w = (torch.randn(rows, 40, generator=torch.Generator().manual_seed(seed)) * 0.02).to(dtype)
    clip = torch.full((rows, 3), ratio)
    options = {"bits": bits, "group_size": 16, "symmetric": symmetric, "clip": clip}
    packed = lowbit.quantize(w, **options, backend="torch")
    expected = [
        quantize_group(row[at : at + 16], bits, symmetric, clip[0, 0].item())
        for row in w.tolist()
        for at in (0, 16, 32)
    ]
    assert packed.scale.flatten().tolist() == [group.scale for group in expected]
    assert packed.codes().flatten().tolist() == [code for group in expected for code in group.codes]
    assert torch.equal(lowbit.group_grid(w, **options).scale, packed.scale)
    square = (lowbit.dequantize(packed).double() - w.double()) ** 2
    sums = lowbit.errors(w, **options, backend="torch").squared.double().sum(1)
    torch.testing.assert_close(sums, square.sum(1), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("shape", "dtype"), [(RAGGED, torch.bfloat16), (EVEN, torch.float32)])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_triton_clips_as_torch_does(
    bits: int, symmetric: bool, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> None:
    rows, columns, group_size = shape
    w = _weights(rows, columns, dtype, device)
    clip = _random(*torch_backend.grid_shape(w, group_size), device=device)
    clip[0, 0], clip[2, 0] = 1.0, 1e-7
    options = {"bits": bits, "group_size": group_size, "symmetric": symmetric, "clip": clip}
    packed, expected = (lowbit.quantize(w, **options, backend=name) for name in ("triton", "torch"))
    assert torch.equal(packed.scale, expected.scale)
    assert all(torch.equal(*pair) for pair in zip(packed.planes, expected.planes, strict=True))
    sums, others = (lowbit.errors(w, **options, backend=name).squared for name in ("triton", "torch"))
    torch.testing.assert_close(sums, others, rtol=1e-5, atol=0)


def test_no_clip_and_the_whole_range_are_the_same(backend: str, device: torch.device) -> None:
    w = _weights(5, 64, torch.float32, device)
    whole = lowbit.quantize(w, bits=3, group_size=32, clip=torch.ones(5, 2, device=device), backend=backend)
    assert torch.equal(whole.codes(), lowbit.quantize(w, bits=3, group_size=32, backend=backend).codes())


@pytest.mark.parametrize(
    ("clip", "sentence"),
    [
        (torch.ones(2, 3), r"clip is float32 of shape \(2, 3\)"),
        (torch.ones(2, 2).double(), "clip is float64"),
        (torch.tensor([[1.0, 0.0], [1.0, 1.0]]), "not above 0 and at most 1"),
        (torch.tensor([[1.0, 1.0], [1.0, 1.5]]), "not above 0 and at most 1"),
        (torch.tensor([[1.0, math.nan], [1.0, 1.0]]), "not above 0 and at most 1"),
    ],
)
def test_bad_clips_are_refused(clip: Tensor, sentence: str) -> None:
    for call in (lowbit.quantize, lowbit.errors, lowbit.group_grid):
        with pytest.raises(lowbit.LowbitError, match=sentence):
            call(torch.zeros(2, 8), bits=4, group_size=4, clip=clip)


def test_a_clip_can_bring_a_scale_back_within_fp16(backend: str, device: torch.device) -> None:
    w = torch.tensor([[5e4, -5e4]], device=device)
    with pytest.raises(lowbit.LowbitError, match="1 bit scale would exceed 65504"):
        lowbit.quantize(w, bits=1, group_size=2, backend=backend)
    halved = lowbit.quantize(w, bits=1, group_size=2, clip=torch.full((1, 1), 0.5, device=device), backend=backend)
    assert halved.scale.tolist() == [[49984.0]]  # the fp16 number next to 50000


def test_the_best_clip_by_hand(search: ModuleType, device: torch.device) -> None:
    """At 3/4 of the range the scale is 1 and only the 4 is off, by 1; over the whole range it is 4/3."""
    w = torch.tensor([[0.0, 1.0, 2.0, 3.0, 1.0, 2.0, 4.0]], device=device)
    ratios = torch.tensor([1.0, 0.75, 0.5, 0.75], device=device)
    found = search.clip_search(w, 2, -1, False, None, ratios)
    assert (found.best.tolist(), found.error.tolist()) == ([[1]], [[1.0]])
    h = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9.0], device=device)
    assert search.clip_search(w, 2, -1, False, h, ratios).best.tolist() == [[0]]
    assert search.clip_search(torch.zeros_like(w), 2, -1, False, h, ratios).best.tolist() == [[0]]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_search_is_the_best_of_all_clips(dtype: torch.dtype, symmetric: bool) -> None:
    rows, columns, group_size = RAGGED
    w, h = _weights(rows, columns, dtype, torch.device("cpu")), _random(columns)
    ratios = torch.linspace(1, 0.4, 7)
    options = {"bits": 3, "group_size": group_size, "symmetric": symmetric, "h": h, "backend": "torch"}
    tried = [lowbit.errors(w, **options, clip=ratio.expand(rows, 3).contiguous()).weighted for ratio in ratios]
    errors = torch.stack([error for error in tried if error is not None])
    found = torch_search.clip_search(w, 3, group_size, symmetric, h, ratios)
    assert torch.equal(found.best, errors.argmin(0))
    assert torch.equal(found.error, errors.amin(0))
    best = lowbit.errors(w, **options, clip=ratios[found.best]).weighted
    assert best is not None
    assert torch.equal(best, found.error)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("shape", "dtype"), [(RAGGED, torch.bfloat16), (EVEN, torch.float32)])
def test_clip_search_on_triton(
    shape: tuple[int, int, int], dtype: torch.dtype, symmetric: bool, weighted: bool, device: torch.device
) -> None:
    from lowbit import triton_search

    rows, columns, group_size = shape
    w, ratios = _weights(rows, columns, dtype, device), torch.linspace(1, 0.5, 5, device=device)
    arguments = (w, 3, group_size, symmetric, _random(columns, device=device) if weighted else None, ratios)
    found, expected = triton_search.clip_search(*arguments), torch_search.clip_search(*arguments)
    torch.testing.assert_close(found.error, expected.error, rtol=1e-5, atol=0)
    assert (found.best == expected.best).float().mean() > 0.99  # another one may be as good to the last digits


@pytest.mark.parametrize("symmetric", [False, True])
def test_alpha_search_agrees_with_the_definition(symmetric: bool) -> None:
    rows, columns, group_size = 3, 40, 16
    w, h = _weights(rows, columns, torch.bfloat16, torch.device("cpu")).float(), _random(columns)
    column_scales = _random(4, columns) * 3
    found = torch_search.alpha_search(w, 3, group_size, symmetric, h, column_scales)
    for place, scales in enumerate(column_scales):
        total = 0.0
        for row in w:
            for at in range(0, columns, group_size):
                part = slice(at, at + group_size)
                values = quantize_group((row[part] * scales[part]).tolist(), 3, symmetric).values
                exact = torch.tensor(values, dtype=torch.float64) / scales[part].double() - row[part].double()
                total += (exact**2 * h[part].double()).sum().item()
        assert found[place].item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_equal_scales_change_nothing(weighted: bool, search: ModuleType, device: torch.device) -> None:
    rows, columns, group_size = RAGGED
    w = _weights(rows, columns, torch.float32, device)
    h = _random(columns, device=device) if weighted else None
    sums = lowbit.errors(w, bits=4, group_size=group_size, h=h, backend="torch")
    total = (sums.squared if sums.weighted is None else sums.weighted).sum(dtype=torch.float64)
    column_scales = torch.tensor([1.0, 2.0, 0.5], device=device).unsqueeze(1).repeat(1, columns)
    found = search.alpha_search(w, 4, group_size, False, h, column_scales)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, total.expand(3), rtol=1e-5, atol=0)


def test_scaling_a_salient_column_up_saves_its_error(search: ModuleType, device: torch.device) -> None:
    w = _weights(16, 64, torch.float32, device)
    h = torch.ones(64, device=device)
    h[5] = 1000
    column_scales = torch.ones(2, 64, device=device)
    column_scales[1, 5] = 2
    plain, scaled = search.alpha_search(w, 3, 32, False, h, column_scales).tolist()
    assert scaled < 0.6 * plain


@pytest.mark.parametrize(("shape", "dtype"), [(RAGGED, torch.bfloat16), (EVEN, torch.float16)])
def test_alpha_search_on_triton(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> None:
    from lowbit import triton_search

    rows, columns, group_size = shape
    w, h = _weights(rows, columns, dtype, device), _random(columns, device=device)
    column_scales = _random(3, columns, device=device) * 2
    for symmetric, weights in ((False, h), (True, None)):
        arguments = (w, 3, group_size, symmetric, weights, column_scales)
        expected = torch_search.alpha_search(*arguments)
        torch.testing.assert_close(triton_search.alpha_search(*arguments), expected, rtol=1e-5, atol=0)


def test_searches_refuse_what_quantize_refuses(search: ModuleType, device: torch.device) -> None:
    ratios, column_scales = torch.tensor([0.5, 1.0], device=device), torch.ones(2, 8, device=device)
    w = torch.zeros(3, 8, dtype=torch.float32, device=device)
    w[1, 6] = math.nan
    with pytest.raises(lowbit.LowbitError, match=r"^the weight holds nan in row 1, column 6$"):
        search.clip_search(w, 4, 4, False, None, ratios)
    with pytest.raises(lowbit.LowbitError, match=r"^the weight holds nan in row 1, column 6$"):
        search.alpha_search(w, 4, 4, False, None, column_scales)
    w[1, 6] = 5e4
    column_scales[1, 6] = 3
    with pytest.raises(lowbit.LowbitError, match="in row 1, columns 4 to 7, the weight reaches 150000"):
        search.alpha_search(w, 1, 4, False, None, column_scales)
    w[1, 5] = -5e4
    with pytest.raises(lowbit.LowbitError, match="in row 1, columns 4 to 7, the weight reaches 50000"):
        search.clip_search(w, 1, 4, False, None, ratios)


def test_results_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    w, h = _weights(11, 172, torch.bfloat16, torch.device("cpu")), _random(172)
    kept = w.clone()
    ratios, column_scales = torch.linspace(1, 0.5, 4), _random(3, 172)
    whole = torch_search.clip_search(w, 3, 64, False, h, ratios)
    alpha = torch_search.alpha_search(w, 3, 64, False, h, column_scales)
    monkeypatch.setitem(torch_backend.CHUNK, "cpu", 172 * 4)
    again = torch_search.clip_search(w, 3, 64, False, h, ratios)
    assert torch.equal(again.best, whole.best)
    assert torch.equal(again.error, whole.error)
    torch.testing.assert_close(torch_search.alpha_search(w, 3, 64, False, h, column_scales), alpha, rtol=1e-12, atol=0)
    assert torch.equal(w, kept)
