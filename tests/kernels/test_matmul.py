"""Products by low-bit weights against float64 of the dequantized weight, and the rule that chooses among them.

The interpreter's time goes by programs and operations: products run here in larger blocks than on a GPU, and in
float32 or float16, because it cannot multiply bfloat16.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import lowbit
from lowbit import configs, rule, torch_matmul, torch_mixed
from lowbit.api_product import device_of, matmul

TOLERANCES = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
BLOCK = {"gemv": {"block_rows": 32}, "matmul": {"block_rows": 32}}


@pytest.fixture(autouse=True)
def _large_blocks(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches for few programs, in the interpreter alone."""
    if device.type == "cuda":
        return
    for name in ("triton_gemv", "triton_matmul"):
        monkeypatch.setattr(_module(name), "launch_shape", _large)


def _large(op: str, **options: Any) -> configs.LaunchShape:
    shape = configs.launch_shape(op, **options)
    return replace(shape, **BLOCK.get(op, {}), split=max(shape.split, 2 if op == "gemv" else 1))


def _module(name: str) -> ModuleType:
    lowbit.choose_backend(torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu"), "triton")
    return importlib.import_module(f"lowbit.{name}")


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _packed(columns: int, bits: int, group_size: int, device: torch.device, rows: int = 40) -> lowbit.PackedWeight:
    w = _random(rows, columns, seed=bits).to(device)
    return lowbit.quantize(w, bits=bits, group_size=group_size, symmetric=bits % 2 == 0, backend="torch")


def _binary(kind: str, columns: int, group_size: int, device: torch.device, rows: int = 40) -> lowbit.BinaryWeight:
    generator = torch.Generator().manual_seed(columns)
    count = lowbit.parts.PLANES[kind]
    size = lowbit.pack.row_bytes(columns, group_size, 1)
    planes = [torch.randint(0, 256, (rows, size), dtype=torch.uint8, generator=generator) for _ in range(count)]
    groups = lowbit.pack.group_count(columns, group_size)
    magnitude = torch.rand(rows, groups, count, generator=generator).half().to(device)
    held = tuple(plane.to(device) for plane in planes)
    return lowbit.BinaryWeight(held, magnitude, (rows, columns), group_size, kind)  # type: ignore[arg-type]


def _dense(weight: lowbit.PackedWeight | lowbit.BinaryWeight | lowbit.MixedWeight) -> Tensor:
    out = torch.full(weight.shape, float("nan"), device=device_of(weight))
    if isinstance(weight, lowbit.MixedWeight):
        torch_mixed.dequantize(weight, out)
    else:
        torch_mixed.decode_part(weight, out)
    return out.cpu().double()


def _assert_product(
    weight: Any, rows: int, backend: str, dtype: torch.dtype = torch.float32, outliers: Any = None, **options: Any
) -> None:
    device = device_of(weight)
    x = _random(rows, weight.shape[1], seed=rows).to(device=device, dtype=dtype)
    y = matmul(x, weight, outliers, backend=backend, **options)
    assert (y.shape, y.dtype) == ((rows, weight.shape[0]), dtype)
    dense = _dense(weight)
    if outliers is not None:
        entries = torch.zeros(weight.shape, dtype=torch.float64)
        of_row = torch.repeat_interleave(torch.arange(weight.shape[0]), outliers.row_start.cpu().diff())
        entries[of_row, outliers.columns.cpu().long()] = outliers.values.cpu().double()
        dense = dense + entries
    expected = x.cpu().double() @ dense.t()
    assert torch.isfinite(y).all()
    error = (y.cpu().double() - expected).norm() / expected.norm()
    assert error < max(TOLERANCES[dtype], TOLERANCES[options.get("compute", dtype)])


@pytest.mark.parametrize("rows", [1, 3, 17])
@pytest.mark.parametrize("bits", lowbit.WIDTHS)
def test_every_width(bits: int, rows: int, backend: str, device: torch.device) -> None:
    _assert_product(_packed(256, bits, 128, device), rows, backend)


@pytest.mark.parametrize("rows", [2, 9])
@pytest.mark.parametrize(("columns", "group_size"), [(160, 32), (192, 64), (256, -1), (172, 64), (100, 44), (43, -1)])
@pytest.mark.parametrize("bits", [1, 3, 4])
def test_groups_of_any_length(
    bits: int, columns: int, group_size: int, rows: int, backend: str, device: torch.device
) -> None:
    _assert_product(_packed(columns, bits, group_size, device, rows=20), rows, backend)


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("columns", [256, 100])
@pytest.mark.parametrize("kind", ["plain", "residual", "split"])
def test_binary_weights(kind: str, columns: int, rows: int, backend: str, device: torch.device) -> None:
    _assert_product(_binary(kind, columns, 64, device), rows, backend)


@pytest.mark.parametrize("rows", [4, 33])
@pytest.mark.parametrize("columns", [7 * 32, 7 * 32 - 10])
def test_several_widths_in_one_product(columns: int, rows: int, backend: str, device: torch.device) -> None:
    w = _random(20, columns).to(device)
    widths = (4, 1, 3, 8, 2, 4, 3)
    _assert_product(lowbit.quantize_mixed(w, widths=widths, group_size=32, backend="torch"), rows, backend)


@pytest.mark.parametrize("rows", [1, 9, 140])
def test_salient_columns_beside_a_binary_rest(rows: int, backend: str, device: torch.device) -> None:
    choice = (torch.rand(200, generator=torch.Generator().manual_seed(1)) < 0.1).to(device=device, dtype=torch.uint8)
    rest = int((choice == 0).sum())
    parts = (_binary("residual", rest, 64, device, rows=20), _packed(200 - rest, 8, -1, device, rows=20))
    _assert_product(lowbit.MixedWeight(parts, choice, 1, (20, 200)), rows, backend)


@pytest.mark.parametrize("rows", [1, 9, 140])
def test_outliers(rows: int, backend: str, device: torch.device) -> None:
    mask = torch.rand(20, 172, generator=torch.Generator().manual_seed(2)) < 0.03
    outliers = lowbit.SparseWeight.from_mask(_random(20, 172, seed=9).to(device) * 5, mask.to(device))
    _assert_product(_packed(172, 2, 64, device, rows=20), rows, backend, outliers=outliers)


@pytest.mark.parametrize("rows", [1, 9, 140])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, rows: int, backend: str, device: torch.device) -> None:
    _assert_product(_packed(256, 4, 64, device), rows, backend, dtype, compute=torch.float16)


def test_bfloat16_operands(device: torch.device) -> None:
    weight = _packed(256, 4, 64, device)
    _assert_product(weight, 9, "torch", torch.bfloat16)
    if device.type == "cuda":
        _assert_product(weight, 9, "triton", torch.bfloat16)
    else:
        with pytest.raises(lowbit.LowbitError, match="cannot multiply bfloat16; choose compute float32"):
            _assert_product(weight, 9, "triton", torch.bfloat16)


@pytest.mark.parametrize("rows", [1, 20])
def test_programs_that_share_columns_add_their_parts_in_order(rows: int, device: torch.device) -> None:
    module = _module("triton_matmul")
    weight = _packed(32 * 16, 4, 32, device, rows=8)
    x = _random(rows, 32 * 16).to(device)
    held, forms = module.terms(weight)
    assert module._splits(module.shape_for(forms, 20, None), 1, held, forms) > 1
    once, again = (matmul(x, weight, backend="triton") for _ in range(2))
    assert torch.equal(once, again)
    _assert_product(weight, rows, "triton")


def test_products_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = _packed(172, 3, 64, torch.device("cpu"))
    mask = torch.rand(40, 172) < 0.02
    outliers = lowbit.SparseWeight.from_mask(_random(40, 172), mask)
    x = _random(5, 172)
    whole = matmul(x, weight, outliers, backend="torch")
    monkeypatch.setitem(torch_matmul.CHUNK, "cpu", 172 * 7)
    chunks = matmul(x, weight, outliers, backend="torch")
    torch.testing.assert_close(chunks, whole, rtol=1e-5, atol=1e-5)


def test_leading_axes_layout_and_empty_inputs(backend: str, device: torch.device) -> None:
    weight = _packed(64, 4, 32, device, rows=8)
    x = _random(64, 3, 2).to(device).permute(2, 1, 0)
    assert not x.is_contiguous()
    y = matmul(x, weight, backend=backend)
    expected = x.cpu().double() @ _dense(weight).t()
    torch.testing.assert_close(y.cpu().double(), expected, rtol=1e-5, atol=1e-5)
    assert matmul(x[0, 0], weight, backend=backend).shape == (8,)
    assert matmul(x[:0], weight, backend=backend).shape == (0, 3, 8)


def test_not_finite_inputs_reach_the_result_as_in_a_dense_product(backend: str, device: torch.device) -> None:
    weight = _packed(172, 4, 64, device, rows=8)
    x = _random(2, 172).to(device)
    x[1, 171] = float("nan")
    y = matmul(x, weight, backend=backend)
    assert y[0].isfinite().all()
    assert y[1].isnan().all()


@pytest.mark.parametrize(
    ("rows", "backend", "name"),
    [
        (1, "triton", "gemv"), (4, "triton", "gemv"), (5, "triton", "matmul"), (128, "triton", "matmul"),
        (129, "triton", "dequantize"), (1, "torch", "dequantize"), (500, "torch", "dequantize"),
    ],
)  # fmt: skip
def test_the_rule_is_static_and_says_why(rows: int, backend: Any, name: str) -> None:
    choice = rule.choose_product(rows, backend)
    assert choice.name == name
    assert choice.reason.startswith(f"{name}: ")


def test_what_does_not_fit_is_refused(device: torch.device) -> None:
    weight = _packed(64, 4, 32, device, rows=8)
    x = torch.zeros(2, 64, device=device)
    outliers = lowbit.SparseWeight.from_mask(torch.zeros(8, 32), torch.zeros(8, 32, dtype=torch.bool))
    for arguments, options, sentence in (
        ((x[:, :32],), {}, r"x has shape \(2, 32\), but the weight takes 64 columns"),
        ((x.double(),), {}, "x has dtype float64; choose one of: float32, float16, bfloat16"),
        ((x,), {"compute": torch.int8}, "compute has dtype int8"),
        ((x,), {"backend": "cuda"}, "the argument backend has value 'cuda'"),
        ((x.to("meta"),), {}, "x is on meta, but the weight is on"),
    ):
        with pytest.raises(lowbit.LowbitError, match=sentence):
            matmul(*arguments, weight, **options)
    with pytest.raises(lowbit.LowbitError, match=r"the outliers have shape \(8, 32\)"):
        matmul(x, weight, outliers)
