"""Low-bit weights: group-wise grids of 1, 2, 3, 4 and 8 bits, their packed storage and their rounding errors.

One contract (`lowbit.contract`), two backends that return the same bits: torch, everywhere, and Triton on GPUs.
Importing this package imports no Triton.
"""

from lowbit.api import dequantize, error_table, errors, group_grid, quantize, requantize
from lowbit.api_mixed import quantize_mixed
from lowbit.api_product import matmul
from lowbit.api_search import alpha_search, binarize, clip_search, split_search
from lowbit.contract import WIDTHS, ErrorSums, Grid, LowbitError, PackedWeight
from lowbit.dispatch import BackendChoice, choose_backend
from lowbit.linear import LowbitLinear
from lowbit.parts import BinaryWeight, MixedWeight, SparseWeight
from lowbit.rule import choose_product
from lowbit.torch_sparse import merge_sparse

__all__ = [
    "WIDTHS",
    "BackendChoice",
    "BinaryWeight",
    "ErrorSums",
    "Grid",
    "LowbitError",
    "LowbitLinear",
    "MixedWeight",
    "PackedWeight",
    "SparseWeight",
    "alpha_search",
    "binarize",
    "choose_backend",
    "choose_product",
    "clip_search",
    "dequantize",
    "error_table",
    "errors",
    "group_grid",
    "matmul",
    "merge_sparse",
    "quantize",
    "quantize_mixed",
    "requantize",
    "split_search",
]
