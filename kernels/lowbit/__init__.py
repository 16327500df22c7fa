"""Low-bit weights: group-wise grids of 1, 2, 3, 4 and 8 bits, their packed storage and their rounding errors.

One contract (`lowbit.contract`), two backends that return the same bits: torch, everywhere, and Triton on GPUs.
Importing this package imports no Triton.
"""

from lowbit.api import dequantize, error_table, errors, group_grid, quantize
from lowbit.contract import WIDTHS, ErrorSums, Grid, LowbitError, PackedWeight
from lowbit.dispatch import BackendChoice, choose_backend
from lowbit.parts import BinaryWeight, MixedWeight, SparseWeight

__all__ = [
    "WIDTHS",
    "BackendChoice",
    "BinaryWeight",
    "ErrorSums",
    "Grid",
    "LowbitError",
    "MixedWeight",
    "PackedWeight",
    "SparseWeight",
    "choose_backend",
    "dequantize",
    "error_table",
    "errors",
    "group_grid",
    "quantize",
]
