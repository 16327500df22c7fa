"""Products by low-bit weights in Triton: `gemv` for a few rows of x, `matmul` for more, dequantized rows for many.

One launch takes all widths of a weight, one straight loop for each term (see `triton_terms`). Slot j of the bytes of
a group holds neighbouring columns, so a step reads bytes once and multiplies each slot by a neighbouring run of x:
nothing is shuffled. Where one program a block of rows would leave processors idle, several share the columns, and a
second pass adds their parts up in order, without atomics: equal calls give equal bits.
"""

# Triton's annotations describe the compiler's types, not what may be written inside a kernel:
# pyright: reportArgumentType=false, reportAssignmentType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

from __future__ import annotations

from dataclasses import replace

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from lowbit import rule, torch_matmul, triton_gemv, triton_quant, triton_sparse
from lowbit.configs import PROCESSORS, LaunchShape, capability_of, launch_shape
from lowbit.contract import LowbitError
from lowbit.parts import BinaryWeight, MixedWeight, SparseWeight, Weight
from lowbit.torch_mixed import Part
from lowbit.triton_split import add_parts, empty_parts, start
from lowbit.triton_terms import Form, Term, load_codes, load_high, load_scales, share, steps, terms, value, width_of

OPERANDS = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
LEAST_STEPS = 4
"""Steps of a program that shares its columns: fewer do not hide the wait for the first."""


@triton.jit
def _dots(acc, x_ptr, rm, rn, M, N, K, split, term, FORM: tl.constexpr, SPLITS: tl.constexpr, OPERAND: tl.constexpr):
    """Add the product of rows `rm` of x and rows `rn` of one term of the weight."""
    STEPS: tl.constexpr = (FORM.size + FORM.wide - 1) // FORM.wide
    row = rn.to(tl.int64)[None, :]
    low_rows, high_rows = term.low + row * term.low_bytes, term.high + row * term.high_bytes
    x_rows = x_ptr + rm[:, None] * K + term.first
    i = tl.arange(0, FORM.together * FORM.wide)
    begin, end = share(term.here, split, SPLITS, FORM)
    for step in range(begin, end):
        c = (step % STEPS) * FORM.wide + i % FORM.wide
        if FORM.together > 1:
            g = (step // STEPS) * FORM.together + i // FORM.wide
            group = g[:, None]
            within = (g < term.here) & (c < FORM.size)
            known = (rn < N)[None, :] & (g < term.here)[:, None]
        else:
            g = step // STEPS
            group = g
            within = c < FORM.size
            known = (rn < N)[None, :]
        inside = (rn < N)[None, :] if FORM.exact else (rn < N)[None, :] & within[:, None]
        first, second = load_scales(term.scale, term.zero, rn[None, :] * term.groups + group, known, FORM)
        for slot in tl.static_range(8 // FORM.width):
            code = load_codes(low_rows, group, c[:, None], slot, inside, FORM)
            high = load_high(high_rows, group, c[:, None], slot, inside, FORM)
            column = slot * FORM.size + c
            held = (rm < M)[:, None]
            if not FORM.exact:
                held &= (within & (column < FORM.length))[None, :]
            x = tl.load(x_rows + (g * FORM.length + column)[None, :], mask=held, other=0.0)
            w = value(code, high, first, second, FORM)
            acc = tl.dot(x.to(OPERAND), w.to(OPERAND), acc, input_precision="ieee")
    return acc


@triton.jit
def _matmul_kernel(
    x_ptr, y_ptr, M, N, K, terms, FORMS: tl.constexpr, SPLITS: tl.constexpr, OPERAND: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """A block of y, or this program's part of it; neighbouring programs share rows of the weight."""
    blocks = tl.cdiv(M, BLOCK_M)
    rm = (tl.program_id(0) % blocks) * BLOCK_M + tl.arange(0, BLOCK_M)
    rn = (tl.program_id(0) // blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(1)
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for index in tl.static_range(len(FORMS)):
        acc = _dots(acc, x_ptr, rm, rn, M, N, K, split, terms[index], FORMS[index], SPLITS, OPERAND)
    address = y_ptr + (split * M + rm).to(tl.int64)[:, None] * N + rn[None, :]
    tl.store(address, acc.to(y_ptr.dtype.element_ty), mask=(rm < M)[:, None] & (rn < N)[None, :])


def matmul(
    x: Float[Tensor, "rows in"], weight: Weight, outliers: SparseWeight | None, compute: torch.dtype
) -> Float[Tensor, "rows out"]:
    """See `torch_matmul.matmul`; which kernel multiplies is `rule.choose_product`'s choice.

    Raises:
        LowbitError: bfloat16 operands on CPU tensors, where the interpreter multiplies bit patterns.
    """
    name = rule.choose_product(x.shape[0], "triton").name
    if name == "dequantize":
        return torch_matmul.dense_product(x, weight, outliers, compute, decode_part)
    held = x.index_select(1, weight.order) if isinstance(weight, MixedWeight) else x
    dtype = x.dtype if outliers is None else torch.float32
    y = triton_gemv.gemv(held, weight, dtype) if name == "gemv" else fused(held, weight, compute, dtype)
    if outliers is not None:
        triton_sparse.add_sparse(y, x, outliers)
    return y.to(x.dtype)


def fused(
    x: Float[Tensor, "rows in"], weight: Weight, compute: torch.dtype, dtype: torch.dtype
) -> Float[Tensor, "rows out"]:
    """The product on tensor cores, rounded to `dtype`; columns of x are in the order in which parts are stored."""
    if compute == torch.bfloat16 and not x.is_cuda:
        raise LowbitError("triton's interpreter cannot multiply bfloat16; choose compute float32, or backend torch")
    rows, out = x.shape[0], weight.shape[0]
    held, forms = terms(weight)
    shape = shape_for(forms, rows, capability_of(x.device))
    blocks = triton.cdiv(rows, shape.block_inputs) * triton.cdiv(out, shape.block_rows)
    parts = empty_parts(x, out, _splits(shape, blocks, held, forms), dtype)
    start(
        _matmul_kernel, (blocks, parts.shape[0]), shape, x, parts, rows, out, x.shape[1], held, FORMS=forms,
        SPLITS=parts.shape[0], OPERAND=OPERANDS[compute], BLOCK_M=shape.block_inputs, BLOCK_N=shape.block_rows,
    )  # fmt: skip
    return add_parts(parts, dtype)


def shape_for(forms: tuple[Form, ...], rows: int, capability: int | None) -> LaunchShape:
    """The launch of `fused`, made smaller where it would need more registers than there are.

    Before sm_90 no more than 32 rows of x fit beside a tile of the weight. Where loads are masked byte by byte, there
    are fewer rows of the weight and nothing is read ahead.
    """
    shape = launch_shape("matmul", bits=width_of(forms), rows=rows, capability=capability)
    if capability is not None and capability < 90:
        shape = replace(shape, block_inputs=min(shape.block_inputs, 32))
    if all(form.exact for form in forms):
        return shape
    return replace(shape, block_rows=min(shape.block_rows, 32), num_stages=1)


def decode_part(part: Part, out: Float[Tensor, "out in"]) -> None:
    """The Triton backend's values of a part."""
    if isinstance(part, BinaryWeight):
        from lowbit import triton_binary

        triton_binary.dequantize(part, out)
    else:
        triton_quant.dequantize(part, out)


def _splits(shape: LaunchShape, blocks: int, held: tuple[Term, ...], forms: tuple[Form, ...]) -> int:
    """Programs that share the columns of a block: enough to fill the processors, each with a few steps."""
    longest = max(steps(*pair) for pair in zip(held, forms, strict=True))
    return max(1, min(max(shape.split, -(-2 * PROCESSORS // blocks)), longest // LEAST_STEPS))
