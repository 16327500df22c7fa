"""Binary weights against their definition number by number, closed forms, and Triton against torch bit for bit."""

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
from lowbit import pack, torch_backend, torch_binary
from lowbit.parts import BinaryKind
from lowbit.reference import binarize_group

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
KINDS: tuple[BinaryKind, ...] = ("plain", "residual", "split")
RAGGED = (7, 172, 64)
EVEN = (17, 256, 128)
WHOLE = (5, 100, -1)


@pytest.fixture
def binary(backend: str) -> ModuleType:
    return importlib.import_module(f"lowbit.{backend}_binary")


def _weights(rows: int, columns: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Gaussian weights with zeros of both signs and an outlier."""
    w = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed + rows * columns)) * 0.02
    w[0, : columns // 2] = 0
    w[0, 0] = -0.0
    w[-1, columns // 3] = 3
    return w.to(dtype)


def _random(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _values(weight: lowbit.BinaryWeight, module: ModuleType = torch_binary) -> Tensor:
    out = torch.full(weight.shape, math.nan, device=weight.magnitude.device)
    module.dequantize(weight, out)
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 70),
    st.sampled_from((-1, 1, 6, 16, 64)),
    st.sampled_from(KINDS),
    st.booleans(),
    st.booleans(),
    st.sampled_from(DTYPES),
    st.integers(0, 2**30),
)
def test_every_number_agrees_with_the_definition(
    rows: int,
    columns: int,
    group_size: int,
    kind: BinaryKind,
    weighted: bool,
    kept: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    w = _weights(rows, columns, dtype, seed)
    h = _random(columns, seed=seed) * 3
    keep = _random(rows, columns, seed=seed) > 0.8
    groups = pack.group_count(columns, group_size)
    share = _random(rows, groups, seed=seed)
    weight = torch_binary.binarize(w, group_size, kind, h if weighted else None, keep if kept else None, share)
    counts = (h if weighted else torch.ones(columns)).double() * (~keep if kept else torch.ones(rows, columns))
    step = columns if group_size == -1 else group_size
    values = _values(weight)
    for row in range(rows):
        for group, at in enumerate(range(0, columns, step)):
            part = (row, slice(at, at + step))
            expected = binarize_group(w[part].tolist(), kind, counts[part].tolist(), share[row, group].item())
            assert weight.magnitude[row, group].tolist() == expected.magnitudes
            assert values[part].tolist() == expected.values
            for plane, bits in zip(weight.planes, expected.planes, strict=True):
                codes = pack.unpack((plane,), columns, 1, group_size)
                assert codes[part].bool().tolist() == bits


def test_a_mean_size_is_the_best_magnitude() -> None:
    """The residual has a closed form, and no other magnitude does better."""
    w = _weights(8, 64, torch.float32)[1:].contiguous()
    h = _random(64) + 0.1
    weight = torch_binary.binarize(w, -1)
    square = ((_values(weight) - w).double() ** 2).sum(1)
    closed = (w.double() ** 2).sum(1) - w.double().abs().sum(1) ** 2 / 64
    torch.testing.assert_close(square, closed, rtol=1e-6, atol=0)
    size = torch_binary.binarize(w, -1, h=h).magnitude[:, :, 0].double()
    least = (h * (w.abs() - size) ** 2).sum(1)
    for factor in (0.99, 1.01):
        assert bool(((h * (w.abs() - factor * size) ** 2).sum(1) > least).all())


def test_signs_of_gaussian_weights_leave_one_minus_two_over_pi() -> None:
    w = torch.randn(64, 4096, generator=torch.Generator().manual_seed(0))
    plain, residual = ((_values(torch_binary.binarize(w, -1, kind)) - w).square().mean() for kind in KINDS[:2])
    assert plain.item() == pytest.approx(1 - 2 / math.pi, rel=0.01)
    assert residual < 0.4 * plain
    found = torch_binary.split_search(w, -1, None, torch.linspace(0.1, 0.9, 9))
    assert found.error.sum() / w.numel() < 0.4 * plain


def test_advertised_sizes() -> None:
    w = torch.randn(4, 256)
    bits = [torch_binary.binarize(w, 128, kind, share=torch.ones(4, 2)).stored_bits for kind in KINDS]
    assert bits == [1 + 16 / 128, 2 + 32 / 128, 2 + 32 / 128]


def test_signs_and_what_does_not_count_by_hand(binary: ModuleType, device: torch.device) -> None:
    w = torch.tensor([[0.0, -0.0, -3.0, 5.0, 1.0, 100.0]], device=device)
    keep = torch.tensor([[False, False, False, False, False, True]], device=device)
    h = torch.tensor([0.0, 0.0, 1.0, 3.0, 0.0, 9.0], device=device)
    plain = binary.binarize(w, 4)
    assert _values(plain, binary).tolist() == [[2.0, 2.0, -2.0, 2.0, 50.5, 50.5]]
    assert binary.binarize(w, 4, keep=keep).magnitude.tolist() == [[[2.0], [1.0]]]
    assert binary.binarize(w, 4, h=h, keep=keep).magnitude.tolist() == [[[4.5], [0.0]]]
    residual = binary.binarize(w, 4, "residual")
    assert residual.magnitude.tolist() == [[[2.0, 2.0], [50.5, 49.5]]]
    assert _values(residual, binary).tolist() == [[0.0, 0.0, -4.0, 4.0, 1.0, 100.0]]


def test_two_sizes_of_weight_are_found_and_split_exactly(binary: ModuleType, device: torch.device) -> None:
    w = torch.tensor([[0.5, -0.5, 2.0, 0.5, -2.0, 0.5], [1.0, -4.0, 4.0, 4.0, -1.0, 1.0]], device=device)
    shares = torch.tensor([0.0, 0.2, 0.3, 0.6, 1.0], device=device)
    found = binary.split_search(w, -1, None, shares)
    assert found.best.tolist() == [[2], [2]]
    assert found.error.tolist() == [[0.0], [0.0]]
    assert found.weight.magnitude.tolist() == [[[0.5, 2.0]], [[1.0, 4.0]]]
    assert torch.equal(_values(found.weight, binary), w)


@pytest.mark.parametrize("weighted", [False, True])
def test_split_search_is_the_best_of_all_shares(weighted: bool) -> None:
    rows, columns, group_size = RAGGED
    w, h = _weights(rows, columns, torch.bfloat16), _random(columns)
    shares, groups = torch.linspace(0.05, 0.95, 7), pack.group_count(columns, group_size)
    tried = []
    for share in shares.tolist():
        weight = torch_binary.binarize(
            w, group_size, "split", h if weighted else None, share=torch.full((rows, groups), share)
        )
        square = (_values(weight).double() - w.double()) ** 2 * (h.double() if weighted else 1)
        tried.append(torch.stack([part.sum(1) for part in square.split(group_size, 1)], 1))
    errors = torch.stack(tried)
    found = torch_binary.split_search(w, group_size, h if weighted else None, shares)
    torch.testing.assert_close(found.error.double(), errors.amin(0), rtol=1e-5, atol=0)
    torch.testing.assert_close(errors.gather(0, found.best[None])[0], errors.amin(0), rtol=1e-5, atol=0)
    together = torch_binary.split_search(w, group_size, h if weighted else None, shares, across_rows=True)
    assert torch.equal(together.best, errors.sum(1).argmin(0).expand(rows, groups))
    assert bool((together.error >= found.error).all())


@pytest.mark.parametrize(("shape", "dtype"), [(RAGGED, torch.bfloat16), (EVEN, torch.float32), (WHOLE, torch.float16)])
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_triton_keeps_the_same_bits(
    kind: BinaryKind, counted: bool, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> None:
    from lowbit import triton_binary

    rows, columns, group_size = shape
    w = _weights(rows, columns, dtype).to(device)
    h = _random(columns).to(device) if counted else None
    keep = (_random(rows, columns) > 0.8).to(device) if counted else None
    share = _random(*torch_backend.grid_shape(w, group_size)).to(device)
    weight, expected = (
        module.binarize(w, group_size, kind, h, keep, share) for module in (triton_binary, torch_binary)
    )
    assert torch.equal(weight.magnitude, expected.magnitude)
    assert all(torch.equal(*pair) for pair in zip(weight.planes, expected.planes, strict=True))
    for stored in (torch.float32, torch.float16):
        out, other = (torch.full((rows, columns), math.nan, dtype=stored, device=device) for _ in range(2))
        triton_binary.dequantize(weight, out)
        torch_binary.dequantize(weight, other)
        assert torch.equal(out, other)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("shape", "dtype"), [(RAGGED, torch.bfloat16), (EVEN, torch.float32)])
def test_split_search_on_triton(
    shape: tuple[int, int, int], dtype: torch.dtype, weighted: bool, device: torch.device
) -> None:
    from lowbit import triton_binary

    rows, columns, group_size = shape
    w, shares = _weights(rows, columns, dtype).to(device), torch.linspace(0.1, 0.9, 5, device=device)
    h = _random(columns).to(device) if weighted else None
    found, expected = (module.split_search(w, group_size, h, shares) for module in (triton_binary, torch_binary))
    torch.testing.assert_close(found.error, expected.error, rtol=1e-5, atol=0)
    same = found.best == expected.best
    assert same.float().mean() > 0.99  # another share may be as good to the last digits
    assert torch.equal(found.weight.magnitude[same], expected.weight.magnitude[same])


def test_values_are_rounded_to_the_buffers_dtype(binary: ModuleType, device: torch.device) -> None:
    weight = torch_binary.binarize(_weights(4, 100, torch.float32).to(device), 32, "residual")
    exact = _values(weight)
    out = torch.full((4, 100), math.nan, dtype=torch.float16, device=device)
    binary.dequantize(weight, out)
    assert torch.equal(out, exact.half())


@pytest.mark.parametrize(
    ("bad", "dtype", "sentence"),
    [
        (math.nan, torch.float32, r"^the weight holds nan in row 1, column 9$"),
        (-math.inf, torch.bfloat16, r"^the weight holds -inf in row 1, column 9$"),
        (-70000.0, torch.float32, r"^the weight holds -70000 in row 1, column 9, beyond 65504, the maximum of fp16$"),
        (65536.0, torch.bfloat16, r"^the weight holds 65536 in row 1, column 9, beyond 65504"),
    ],
)
def test_weights_beyond_fp16_are_refused_by_place(
    bad: float, dtype: torch.dtype, sentence: str, binary: ModuleType, device: torch.device
) -> None:
    w = torch.zeros(3, 10, dtype=dtype, device=device)
    w[1, 9] = bad
    with pytest.raises(lowbit.LowbitError, match=sentence):
        binary.binarize(w, 4)
    with pytest.raises(lowbit.LowbitError, match=sentence):
        binary.split_search(w, 4, None, torch.tensor([0.5], device=device))


def test_results_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    w, h, shares = _weights(11, 172, torch.bfloat16), _random(172), torch.linspace(0.1, 0.9, 4)
    kept = w.clone()

    def results() -> list[Tensor]:
        found = torch_binary.split_search(w, 64, h, shares)
        weight = torch_binary.binarize(w, 64, "residual", h)
        return [found.best, found.error, _values(found.weight), weight.magnitude, *weight.planes, _values(weight)]

    whole = results()
    monkeypatch.setitem(torch_backend.CHUNK, "cpu", 172 * 4)
    assert all(torch.equal(*pair) for pair in zip(results(), whole, strict=True))
    assert torch.equal(w, kept)
