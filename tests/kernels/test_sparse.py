"""Outliers: added to a product or merged into a dense weight, against a dense matrix of them in float64."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
import torch
from torch import Tensor

import lowbit
from lowbit import torch_sparse


@pytest.fixture
def sparse_module(backend: str, device: torch.device) -> ModuleType:
    lowbit.choose_backend(torch.zeros(1, device=device), backend)
    return importlib.import_module(f"lowbit.{backend}_sparse")


def _outliers(rows: int, columns: int, device: torch.device) -> tuple[lowbit.SparseWeight, Tensor]:
    """Rows with no entry, one full row, few entries elsewhere; and the same as a dense float64 matrix."""
    generator = torch.Generator().manual_seed(rows)
    w = torch.randn(rows, columns, generator=generator).half()
    mask = torch.rand(rows, columns, generator=generator) < 0.05
    mask[0], mask[2], mask[-1] = False, True, False
    sparse = lowbit.SparseWeight.from_mask(w.to(device), mask.to(device))
    return sparse, torch.where(mask, w, torch.zeros_like(w)).double()


@pytest.mark.parametrize("rows", [1, 7])
def test_added_to_a_product(rows: int, sparse_module: ModuleType, device: torch.device) -> None:
    sparse, dense = _outliers(9, 75, device)
    x = torch.randn(rows, 75).half()
    y = torch.randn(rows, 9)
    result = sparse_module.add_sparse(y.clone().to(device), x.to(device), sparse)
    expected = y.double() + x.double() @ dense.t()
    error = (result.cpu().double() - expected).norm() / expected.norm()
    assert error < 1e-6
    assert torch.equal(result.cpu()[:, 0], y[:, 0])
    again = sparse_module.add_sparse(y.clone().to(device), x.to(device), sparse)
    assert torch.equal(again, result)


def test_the_sum_is_rounded_once(sparse_module: ModuleType, device: torch.device) -> None:
    """In fp16, 2048 + 1 + 1 is 2048 if each entry is rounded by itself."""
    mask = torch.tensor([[True, True]], device=device)
    sparse = lowbit.SparseWeight.from_mask(torch.ones(1, 2, device=device), mask)
    y = torch.full((1, 1), 2048.0, dtype=torch.float16, device=device)
    x = torch.ones(1, 2, dtype=torch.float16, device=device)
    assert sparse_module.add_sparse(y, x, sparse).item() == 2050


def test_no_entries_change_nothing(sparse_module: ModuleType, device: torch.device) -> None:
    mask = torch.zeros(3, 4, dtype=torch.bool, device=device)
    sparse = lowbit.SparseWeight.from_mask(torch.ones(3, 4, device=device), mask)
    y = torch.randn(2, 3, device=device)
    assert torch.equal(sparse_module.add_sparse(y.clone(), torch.randn(2, 4, device=device), sparse), y)


def test_products_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    sparse, _ = _outliers(9, 75, torch.device("cpu"))
    x, y = torch.randn(5, 75), torch.zeros(5, 9)
    whole = torch_sparse.add_sparse(y.clone(), x, sparse)
    monkeypatch.setitem(torch_sparse.CHUNK, "cpu", 1)
    assert torch.equal(torch_sparse.add_sparse(y.clone(), x, sparse), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_merged_into_a_dense_weight(dtype: torch.dtype) -> None:
    sparse, dense = _outliers(9, 75, torch.device("cpu"))
    w = torch.randn(9, 75, dtype=dtype)
    merged = torch_sparse.merge_sparse(w.clone(), sparse)
    assert torch.equal(merged, (w + dense.to(dtype)))


def test_all_entries_lie_in_their_rows() -> None:
    sparse, dense = _outliers(9, 75, torch.device("cpu"))
    assert torch.equal(torch_sparse.entry_rows(sparse), dense.nonzero()[:, 0])
