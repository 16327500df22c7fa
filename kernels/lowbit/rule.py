"""Which product multiplies by a low-bit weight: a static rule on the rows of x, never a measurement at run time.

Few rows leave a GPU waiting for the bytes of the weight, so the codes themselves are read: by plain sums for the few
rows of a generated token (`gemv`), on tensor cores above that (`matmul`). With many rows the arithmetic takes longer
than writing the weight out once, and the vendor's dense product is hard to beat: `dequantize`. A CPU always
dequantizes some rows at a time, because its low-bit products lose to dense ones from a few rows on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ProductName = Literal["gemv", "matmul", "dequantize"]

GEMV_ROWS = 4
"""Most rows of x that `gemv` takes: each holds its own sums in registers."""
MATMUL_ROWS = 128
"""Most rows of x for the fused product: at 2048 rows, dequantizing first is reckoned to cost 11 % beside the rest."""


@dataclass(frozen=True, slots=True)
class Product:
    """The product of a call, and why it is that one, in words for people."""

    name: ProductName
    reason: str


def choose_product(rows: int, backend: Literal["torch", "triton"]) -> Product:
    """The product for `rows` rows of x on a backend.

    Widths, groups and kinds of weight do not change the rule: both kernels serve all of them.
    """
    if backend == "torch":
        return Product("dequantize", "dequantize: torch multiplies by a few dequantized rows at a time")
    if rows <= GEMV_ROWS:
        return Product("gemv", f"gemv: {rows} row(s) of x, at most {GEMV_ROWS}, wait for the weight's bytes alone")
    if rows <= MATMUL_ROWS:
        return Product("matmul", f"matmul: {rows} rows of x, at most {MATMUL_ROWS}, so reading fewer bytes pays")
    return Product(
        "dequantize", f"dequantize: {rows} rows of x, more than {MATMUL_ROWS}, so the arithmetic outweighs the bytes"
    )
