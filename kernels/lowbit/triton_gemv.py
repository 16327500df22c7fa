"""Products of a few rows of x by low-bit weights in Triton: plain float32 sums, paced by the bytes of the weight.

A program takes a few rows of the weight and reads long runs of their bytes. Partial sums stay in registers, one for
each byte of a step, and are added up once at the end of a term.
"""

# Triton's annotations describe the compiler's types, not what may be written inside a kernel:
# pyright: reportArgumentType=false, reportAssignmentType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from lowbit.configs import LaunchShape, capability_of, launch_shape
from lowbit.parts import Weight
from lowbit.triton_split import add_parts, empty_parts, start
from lowbit.triton_terms import Form, load_codes, load_high, load_scales, share, steps, terms, width_of


@triton.jit
def _sums(x_ptr, rm, rn, M, N, K, split, term, FORM: tl.constexpr, SPLITS: tl.constexpr):
    """The product of rows `rm` of x and rows `rn` of one term, float32 `[rm, rn]`.

    Sums of codes times x are kept apart from sums of x, so that a zero point costs one product a byte, not a weight.
    """
    STEPS: tl.constexpr = (FORM.size + FORM.wide - 1) // FORM.wide
    row = rn.to(tl.int64)[:, None, None]
    low_rows, high_rows = term.low + row * term.low_bytes, term.high + row * term.high_bytes
    x_rows = x_ptr + rm[:, None, None] * K + term.first
    cells = rn.to(tl.int64)[:, None] * term.groups
    acc = tl.zeros((rm.shape[0], rn.shape[0], FORM.together, FORM.wide), tl.float32)
    begin, end = share(term.here, split, SPLITS, FORM)
    for step in range(begin, end):
        g = (step // STEPS) * FORM.together + tl.arange(0, FORM.together)
        c = (step % STEPS) * FORM.wide + tl.arange(0, FORM.wide)
        within = (g < term.here)[:, None] & (c < FORM.size)[None, :]
        inside = (rn < N)[:, None, None] if FORM.exact else (rn < N)[:, None, None] & within[None]
        ones = tl.zeros_like(acc)
        twos = tl.zeros_like(acc)
        plain = tl.zeros((rm.shape[0], FORM.together, FORM.wide), tl.float32)
        for slot in tl.static_range(8 // FORM.width):
            code = load_codes(low_rows, g[None, :, None], c[None, None, :], slot, inside, FORM)
            high = load_high(high_rows, g[None, :, None], c[None, None, :], slot, inside, FORM)
            column = slot * FORM.size + c
            held = (rm < M)[:, None, None]
            if not FORM.exact:
                held &= (within & (column < FORM.length)[None, :])[None]
            place = g[:, None] * FORM.length + column[None, :]
            x = tl.load(x_rows + place[None], mask=held, other=0.0).to(tl.float32)
            plain += x
            if FORM.bits == 3:
                code |= high << 2
            ones += code.to(tl.float32)[None] * x[:, None]
            if FORM.kind == "residual":
                twos += high.to(tl.float32)[None] * x[:, None]
            elif FORM.kind == "split":
                twos += (high * (2 * code - 1)).to(tl.float32)[None] * x[:, None]
        known = (rn < N)[:, None] & (g < term.here)[None, :]
        first, second = load_scales(term.scale, term.zero, cells + g[None, :], known, FORM)
        acc += _scaled(ones, twos, plain[:, None], first[None, :, :, None], second[None, :, :, None], FORM)
    return tl.sum(tl.sum(acc, 3), 2)


@triton.jit
def _scaled(ones, twos, plain, first, second, FORM: tl.constexpr):
    """Sums of codes and of x as sums of values, float32: see `value` for what a code stands for."""
    if FORM.kind == "affine" or FORM.kind == "symmetric":
        return (ones - second * plain) * first
    sums = (2.0 * ones - plain) * first
    if FORM.kind == "residual":
        sums += (2.0 * twos - plain) * second
    elif FORM.kind == "split":
        sums += twos * (second - first)
    return sums


@triton.jit
def _gemv_kernel(
    x_ptr, y_ptr, M, N, K, terms, FORMS: tl.constexpr, SPLITS: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Some columns of y for all rows of x, or this program's part of them."""
    rm = tl.arange(0, BLOCK_M)
    rn = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(1)
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for index in tl.static_range(len(FORMS)):
        acc += _sums(x_ptr, rm, rn, M, N, K, split, terms[index], FORMS[index], SPLITS)
    address = y_ptr + (split * M + rm)[:, None] * N + rn[None, :]
    tl.store(address, acc.to(y_ptr.dtype.element_ty), mask=(rm < M)[:, None] & (rn < N)[None, :])


def gemv(x: Float[Tensor, "rows in"], weight: Weight, dtype: torch.dtype) -> Float[Tensor, "rows out"]:
    """The product for a few rows of x, rounded to `dtype`; columns of x are in the order in which parts are stored."""
    (rows, columns), out = x.shape, weight.shape[0]
    forms = terms(weight)[1]
    options = {"bits": width_of(forms), "rows": rows, "columns": columns, "out": out}
    shape = launch_shape("gemv", **options, capability=capability_of(x.device))
    held, forms = terms(weight, step_bytes(shape, forms))
    longest = max(steps(*pair) for pair in zip(held, forms, strict=True))
    parts = empty_parts(x, out, min(shape.split, longest), dtype)
    start(
        _gemv_kernel, (triton.cdiv(out, shape.block_rows), parts.shape[0]), shape, x, parts, rows, out, columns, held,
        FORMS=forms, SPLITS=parts.shape[0], BLOCK_M=shape.block_inputs, BLOCK_N=shape.block_rows,
    )  # fmt: skip
    return add_parts(parts, dtype)


def step_bytes(shape: LaunchShape, forms: tuple[Form, ...]) -> int:
    """Bytes of a step: fewer where each has sums for several rows of x or for two planes, so that registers suffice."""
    two_planes = any(form.kind in ("residual", "split") for form in forms)
    return shape.step_bytes // (shape.block_inputs * (2 if two_planes else 1))
