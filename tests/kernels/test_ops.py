"""The operators of torch.library, their fakes, and the calls that put arguments and results together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lowbit
from lowbit import ops, ops_products
from lowbit.api_search import RATIOS
from lowbit.layout import layout_of, tensors_in_order, weight_from
from lowbit.tensors import tensors_of

W = torch.randn(6, 80, generator=torch.Generator().manual_seed(1))
H = torch.rand(80, generator=torch.Generator().manual_seed(2))
PACKED = lowbit.quantize(W, bits=3, group_size=32)
MIXED = lowbit.quantize_mixed(W, widths=[4, 2, 3], group_size=32)
SPARSE = lowbit.SparseWeight.from_mask(W, W.abs() > 2)
X = torch.randn(3, 80)

CALLS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "quantize": (ops.quantize, (W, 3, 32, False, None, "torch")),
    "quantize symmetric, clipped": (ops.quantize, (W, 4, 32, True, torch.full((6, 3), 0.9), "torch")),
    "errors": (ops.errors, (W, 2, 32, False, H, None, "torch")),
    "error_table": (ops.error_table, (W, [2, 4], [32, -1], False, H, "torch")),
    "dequantize_into": (
        ops.dequantize_into,
        (list(PACKED.planes), PACKED.scale, PACKED.zero, 3, 32, torch.empty(6, 80), "torch"),
    ),
    "matmul": (ops_products.matmul, (X, tensors_in_order(MIXED), layout_of(MIXED), 6, [], torch.float32, "torch")),
    "add_sparse_into": (
        ops_products.add_sparse_into,
        (torch.zeros(3, 6), X, SPARSE.values, SPARSE.columns, SPARSE.row_start, "torch"),
    ),
    "clip_search": (ops_products.clip_search, (W, 3, 32, False, H, torch.tensor([1.0, 0.8]), "torch")),
    "alpha_search": (ops_products.alpha_search, (W, 3, 32, False, H, torch.ones(2, 80), "torch")),
    "binarize": (ops_products.binarize, (W, 32, "residual", H, None, "torch")),
    "split_search": (ops_products.split_search, (W, 32, None, torch.tensor([0.3, 0.6]), False, "torch")),
}


@pytest.mark.parametrize("name", CALLS)
def test_schema_and_fake(name: str) -> None:
    operator, arguments = CALLS[name]
    torch.library.opcheck(
        operator, arguments, test_utils=("test_schema", "test_autograd_registration", "test_faketensor")
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_under_a_compiler_with_shapes_unknown(name: str) -> None:
    operator, arguments = CALLS[name]
    torch.library.opcheck(operator, arguments, test_utils="test_aot_dispatch_dynamic")


def test_an_operator_is_one_opaque_step_of_a_compiled_graph() -> None:
    compiled = torch.compile(
        lambda w: ops.errors(w, 3, 32, False, None, None, "torch")[0] * 2, backend="eager", fullgraph=True
    )
    torch.testing.assert_close(compiled(W), 2 * lowbit.errors(W, bits=3, group_size=32).squared, rtol=0, atol=0)


@pytest.mark.parametrize(
    "weight", [PACKED, MIXED, lowbit.binarize(W, group_size=32, kind="residual")], ids=lambda w: type(w).__name__
)
def test_a_weight_is_the_same_after_its_layout_and_tensors(weight: Any) -> None:
    again = weight_from(layout_of(weight), tensors_in_order(weight))
    assert type(again) is type(weight)
    assert layout_of(again) == layout_of(weight)
    assert all(a is b for a, b in zip(tensors_of(again).values(), tensors_of(weight).values(), strict=True))


def test_the_best_clip_has_the_error_that_was_promised() -> None:
    found = lowbit.clip_search(W, bits=3, group_size=32, h=H)
    clip = torch.tensor(RATIOS, dtype=torch.float32)[found.best]
    errors = lowbit.errors(W, bits=3, group_size=32, h=H, clip=clip)
    torch.testing.assert_close(errors.weighted, found.error, rtol=1e-6, atol=0)
    plain = lowbit.errors(W, bits=3, group_size=32, h=H)
    assert bool((errors.weighted <= plain.weighted).all())
    assert float(errors.weighted.sum()) < float(plain.weighted.sum())


def test_one_pass_gives_the_values_and_the_errors() -> None:
    values, sums = lowbit.requantize(W, bits=3, group_size=32, h=H)
    assert torch.equal(values, lowbit.dequantize(lowbit.quantize(W, bits=3, group_size=32)))
    torch.testing.assert_close(sums.weighted, lowbit.errors(W, bits=3, group_size=32, h=H).weighted, rtol=1e-5, atol=0)
    with pytest.raises(lowbit.LowbitError, match="only torch can be compiled"):
        lowbit.errors(W, bits=3, group_size=32, backend="triton", compiled=True)


@pytest.mark.slow
def test_compiled_calls_give_the_same() -> None:
    values, sums = lowbit.requantize(W, bits=3, group_size=32, compiled=True)
    assert torch.equal(values, lowbit.dequantize(lowbit.quantize(W, bits=3, group_size=32)))
    plain = lowbit.errors(W, bits=3, group_size=32)
    torch.testing.assert_close(sums.squared, plain.squared, rtol=1e-5, atol=0)
    compiled = lowbit.errors(W, bits=3, group_size=32, compiled=True)
    torch.testing.assert_close(compiled.squared, plain.squared, rtol=1e-5, atol=0)
    table = lowbit.error_table(W, widths=(3,), group_sizes=(32,), compiled=True)
    torch.testing.assert_close(table.flatten(), plain.squared.sum(1, dtype=torch.float64), rtol=1e-5, atol=0)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_every_call_takes_its_backend(backend: str, device: torch.device) -> None:
    w, h = W.to(device), H.to(device)
    found = lowbit.clip_search(w, bits=2, group_size=32, h=h, ratios=(1.0, 0.7), backend=backend)
    assert torch.equal(found.best, lowbit.clip_search(w, bits=2, group_size=32, h=h, ratios=(1.0, 0.7)).best)
    binary = lowbit.binarize(w, group_size=32, backend=backend)
    assert torch.equal(binary.planes[0], lowbit.binarize(w, group_size=32).planes[0])
    product = lowbit.matmul(X.to(device), lowbit.quantize(w, bits=4, group_size=32), backend=backend)
    dense = X.double() @ lowbit.dequantize(lowbit.quantize(W, bits=4, group_size=32)).double().T
    assert float((product.cpu().double() - dense).norm() / dense.norm()) < 1e-6


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: lowbit.clip_search(W, bits=3, group_size=32, ratios=()), "ratios are"),
        (lambda: lowbit.clip_search(W, bits=3, group_size=32, ratios=(1.5,)), "above 0 and at most 1"),
        (lambda: lowbit.alpha_search(W, bits=3, group_size=32, column_scales=torch.ones(2, 3)), "candidates of 80"),
        (lambda: lowbit.alpha_search(W, bits=3, group_size=32, column_scales=-torch.ones(1, 80)), "not finite and pos"),
        (lambda: lowbit.binarize(W, group_size=32, kind="split"), "choose one of: plain, residual"),
        (lambda: lowbit.binarize(W, group_size=32, keep=torch.ones(2, 2, dtype=torch.bool)), "keep is bool of shape"),
        (lambda: lowbit.split_search(W, group_size=0), "group size has value 0"),
        (lambda: lowbit.quantize(W, bits=3, group_size=32, clip=torch.ones(1, 1)), "clip is float32 of shape"),
        (lambda: lowbit.quantize(W, bits=3, group_size=32, clip=torch.zeros(6, 3)), "not above 0 and at most 1"),
        (lambda: lowbit.binarize(W.clone().fill_(torch.nan), group_size=32), "holds nan"),
    ],
)
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises(lowbit.LowbitError, match=sentence):
        call()
