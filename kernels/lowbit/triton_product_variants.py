"""The product kernels as launches compile them (see `variants`): every width and kind, several of them, odd groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import triton.language as tl

from lowbit import pack, triton_gemv, triton_matmul, triton_sparse, triton_split
from lowbit.configs import LaunchShape, launch_shape
from lowbit.contract import WIDTHS, PackedWeight
from lowbit.parts import PLANES, BinaryWeight
from lowbit.triton_terms import Form, Term, terms, width_of
from lowbit.variants import Variant

COLUMNS = 4096
Part = PackedWeight | BinaryWeight


def variants(capability: int) -> Iterator[Variant]:
    """Both products by low-bit weights, the sum of their parts, and the product by outliers."""
    cases = [(f"{bits} bit", [_packed(bits)]) for bits in WIDTHS]
    cases += [(f"binary {kind}", [_binary(kind)]) for kind in PLANES]
    cases += [(f"{bits} bit, group {group}", [_packed(bits, group)]) for bits in (1, 4) for group in (32, 64, COLUMNS)]
    cases += [
        ("4 bit symmetric", [_packed(4, symmetric=True)]),
        *((f"{bits} bit, group 100", [_packed(bits, 100)]) for bits in (1, 3, 4)),
        ("2, 3 and 4 bit", [_packed(2), _packed(3), _packed(4)]),
        ("binary residual and 4 bit", [_binary("residual"), _packed(4)]),
    ]
    for config, parts in cases:
        yield _gemv(capability, config, parts, 1)
        yield _matmul(capability, config, parts, 16)
    for bits in WIDTHS:
        yield _gemv(capability, f"{bits} bit", [_packed(bits)], 4)
        yield _matmul(capability, f"{bits} bit", [_packed(bits)], 128)
    yield _matmul(capability, "4 bit, group 100", [_packed(4, 100)], 128)
    yield _matmul(capability, "all widths", [_packed(bits) for bits in WIDTHS], 128)
    yield _matmul(capability, "binary residual and 4 bit", [_binary("residual"), _packed(4)], 128)
    yield _sum_splits()
    for rows in (1, 128):
        yield _add_sparse(capability, rows)


def _packed(bits: int, group: int = 128, symmetric: bool = False) -> PackedWeight:
    planes = pack.empty_planes(1, COLUMNS, bits, group, torch.device("cpu"))
    scale = torch.empty((1, pack.group_count(COLUMNS, group)), dtype=torch.float16)
    zero = None if symmetric else scale.to(torch.int16)
    return PackedWeight(planes, scale, zero, (1, COLUMNS), bits, group, symmetric)


def _binary(kind: str) -> BinaryWeight:
    count = PLANES[kind]
    planes = pack.empty_planes(1, COLUMNS, 1, 128, torch.device("cpu")) * count
    magnitude = torch.empty((1, COLUMNS // 128, count), dtype=torch.float16)
    return BinaryWeight(planes, magnitude, (1, COLUMNS), 128, kind)  # type: ignore[arg-type]


def _gemv(capability: int, config: str, parts: Sequence[Part], rows: int) -> Variant:
    forms = _forms(parts, None)
    shape = launch_shape("gemv", bits=width_of(forms), rows=rows, capability=capability)
    forms = _forms(parts, triton_gemv.step_bytes(shape, forms))
    return _product("gemv", config, triton_gemv._gemv_kernel, shape, parts, forms, rows)


def _matmul(capability: int, config: str, parts: Sequence[Part], rows: int) -> Variant:
    forms = _forms(parts, None)
    shape = triton_matmul.shape_for(forms, rows, capability)
    return _product("matmul", config, triton_matmul._matmul_kernel, shape, parts, forms, rows)


def _product(
    name: str, config: str, kernel: object, shape: LaunchShape, parts: Sequence[Part], forms: tuple[Form, ...],
    rows: int,
) -> Variant:  # fmt: skip
    types = {"x_ptr": "*bf16", "y_ptr": "*bf16", "M": "i32", "N": "i32", "K": "i32", "terms": _types(parts)}
    constants = {"FORMS": forms, "SPLITS": 1, "BLOCK_M": shape.block_inputs, "BLOCK_N": shape.block_rows}
    if name == "matmul":
        constants["OPERAND"] = tl.bfloat16
    even = all(form.exact for form in forms)
    options = {"num_warps": shape.num_warps, "num_stages": shape.num_stages, "enable_fp_fusion": True}
    return Variant(
        name, f"{config}, {rows} row(s)", kernel, types, constants, options,
        aligned=("N", "K", "terms") if even else ("N", "K"), matrix=name == "matmul",
    )  # fmt: skip


def _forms(parts: Sequence[Part], step_bytes: int | None) -> tuple[Form, ...]:
    return tuple(form for part in parts for form in terms(part, step_bytes)[1])


def _types(parts: Sequence[Part]) -> tuple[Term, ...]:
    """The types of the terms, in place of their tensors and numbers."""
    return tuple(Term(*map(_type, term)) for part in parts for term in terms(part)[0])  # type: ignore[arg-type]


def _type(argument: object) -> str:
    names = {torch.uint8: "*u8", torch.float16: "*fp16", torch.int16: "*i16"}
    return names[argument.dtype] if isinstance(argument, torch.Tensor) else "i32"


def _sum_splits() -> Variant:
    shape = launch_shape("sum_splits", bits=1, rows=1)
    types = {"parts_ptr": "*fp32", "y_ptr": "*bf16", "total": "i32"}
    constants = {"SPLITS": 4, "BLOCK": shape.block_rows}
    options = {"num_warps": shape.num_warps, "num_stages": shape.num_stages, "enable_fp_fusion": True}
    return Variant("sum_splits", "4 parts", triton_split._add_parts_kernel, types, constants, options, ("total",))


def _add_sparse(capability: int, rows: int) -> Variant:
    shape = launch_shape("add_sparse", bits=1, rows=rows, capability=capability)
    types = {
        "y_ptr": "*fp32", "x_ptr": "*bf16", "M": "i32", "N": "i32", "K": "i32", "value_ptr": "*fp16",
        "column_ptr": "*i32", "start_ptr": "*i32",
    }  # fmt: skip
    constants = {"BLOCK_M": shape.block_inputs, "BLOCK_N": shape.block_rows, "BLOCK_ENTRIES": shape.block_columns}
    options = {"num_warps": shape.num_warps, "num_stages": shape.num_stages, "enable_fp_fusion": True}
    kernel = triton_sparse._add_sparse_kernel
    return Variant("add_sparse", f"{rows} row(s)", kernel, types, constants, options, ("N", "K"))
