"""The calls that look for a better grid: clipped ranges, column scales, binary magnitudes.

Every function takes `backend` as `lowbit.api` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lowbit import contract, ops_products
from lowbit.contract import LowbitError
from lowbit.dispatch import choose_backend
from lowbit.parts import PLANES, BinaryKind, BinaryWeight
from lowbit.torch_binary import SplitSearch
from lowbit.torch_search import ClipSearch

RATIOS = tuple(1 - 0.02 * step for step in range(20))
"""Shares of a group's range that are tried by default: the whole of it down to 0.62, in steps of a fiftieth."""
SHARES = tuple(step / 33 for step in range(1, 33))
"""Thresholds between small and large weights that are tried by default, as shares of a group's largest weight."""


def clip_search(
    w: Float[Tensor, "out in"],
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    h: Float[Tensor, " in"] | None = None,
    ratios: Sequence[float] = RATIOS,
    backend: str | None = None,
) -> ClipSearch:
    """For each group the share of its range with the smallest squared error, to be given to `quantize` as `clip`.

    The error is that of the weights, weighted by `h` where it is given: a diagonal estimate. AWQ (arXiv 2306.00978)
    searches the same way on real outputs of a sample of tokens.

    Args:
        w: as for `lowbit.quantize`, like all that is not named here.
        bits: width of a code.
        group_size: columns that share a scale.
        symmetric: no zero points.
        h: a weight for each input column.
        ratios: shares of the range, above 0 and at most 1.
        backend: see `lowbit.api`.

    Returns:
        The place of the best ratio and its error; `torch.tensor(ratios)[best]` is the `clip`.

    Raises:
        LowbitError: as `lowbit.errors`; a ratio out of range or none at all.
    """
    w = contract.check_weight(w)
    contract.check_grid_options(bits, group_size)
    held = _numbers("ratio", ratios, w, most=1.0)
    h = contract.check_column_weights(h, w)
    name = choose_backend(w, backend).name
    return ClipSearch(*ops_products.clip_search(w, bits, group_size, symmetric, h, held, name))


def alpha_search(
    w: Float[Tensor, "out in"],
    *,
    bits: int,
    group_size: int,
    column_scales: Float[Tensor, "candidate in"],
    symmetric: bool = False,
    h: Float[Tensor, " in"] | None = None,
    backend: str | None = None,
) -> Float[Tensor, " candidate"]:
    """Squared error of the matrix when its columns are scaled up, rounded, and scaled down again, for each candidate.

    With scales that are powers of the inputs' magnitude this is AWQ's search (arXiv 2306.00978) on a diagonal estimate
    of the output error; AWQ runs the block instead.

    Args:
        w: as for `lowbit.quantize`, like all that is not named here.
        bits: width of a code.
        group_size: columns that share a scale.
        column_scales: positive factors, one row a candidate.
        symmetric: no zero points.
        h: a weight for each input column.
        backend: see `lowbit.api`.

    Returns:
        float64, one sum a candidate.

    Raises:
        LowbitError: as `lowbit.errors`; scales that do not fit or are not positive.
    """
    w = contract.check_weight(w)
    contract.check_grid_options(bits, group_size)
    if column_scales.ndim != 2 or column_scales.shape[1] != w.shape[1] or not len(column_scales):
        raise LowbitError(
            f"column_scales has shape {tuple(column_scales.shape)}; give candidates of {w.shape[1]} columns each"
        )
    held = column_scales.detach().to(w.device, torch.float32).contiguous()
    if not bool((torch.isfinite(held) & (held > 0)).all()):
        raise LowbitError("column_scales holds a number that is not finite and positive")
    h = contract.check_column_weights(h, w)
    name = choose_backend(w, backend).name
    return ops_products.alpha_search(w, bits, group_size, symmetric, h, held, name)


def binarize(
    w: Float[Tensor, "out in"],
    *,
    group_size: int,
    kind: BinaryKind = "plain",
    h: Float[Tensor, " in"] | None = None,
    keep: Bool[Tensor, "out in"] | None = None,
    backend: str | None = None,
) -> BinaryWeight:
    """Signs and the best magnitude of each group; a residual binarizes what the first magnitude leaves once more.

    The mean of |w| is the magnitude with the least squared error (XNOR-Net, arXiv 1603.05279); residual as in BiLLM
    (arXiv 2402.04291).

    Args:
        w: as for `lowbit.quantize`.
        group_size: columns that share a magnitude; -1 is the whole row.
        kind: "plain" or "residual"; `split_search` makes the third kind.
        h: a weight for each input column, in the mean.
        keep: weights that are stored elsewhere and do not count for the magnitude (PB-LLM, arXiv 2310.00034).
        backend: see `lowbit.api`.

    Raises:
        LowbitError: as `lowbit.quantize`; an unknown kind, or a mask of another shape.
    """
    w = contract.check_weight(w)
    contract.check_grid_options(1, group_size)
    if kind not in PLANES or kind == "split":
        raise LowbitError(f"kind has value {kind!r}; choose one of: plain, residual (split_search makes a split)")
    if keep is not None:
        contract.check_part("keep", keep, torch.bool, (w.shape[0], w.shape[1]))
    h = contract.check_column_weights(h, w)
    first, second, magnitude = ops_products.binarize(w, group_size, kind, h, keep, choose_backend(w, backend).name)
    planes = (first,) if kind == "plain" else (first, second)
    return BinaryWeight(planes, magnitude, (w.shape[0], w.shape[1]), group_size, kind)


def split_search(
    w: Float[Tensor, "out in"],
    *,
    group_size: int,
    h: Float[Tensor, " in"] | None = None,
    shares: Sequence[float] = SHARES,
    across_rows: bool = False,
    backend: str | None = None,
) -> SplitSearch:
    """Binarize small and large weights of each group apart, split at the best of some thresholds.

    Args:
        w: as for `lowbit.quantize`.
        group_size: columns that share two magnitudes; -1 is the whole row.
        h: a weight for each input column.
        shares: thresholds as parts of the group's largest weight, above 0 and below 1.
        across_rows: one threshold for all rows of a group of columns, as BiLLM (arXiv 2402.04291) has it; otherwise
            one a row and group.
        backend: see `lowbit.api`.

    Raises:
        LowbitError: as `lowbit.quantize`; a share out of range or none at all.
    """
    w = contract.check_weight(w)
    contract.check_grid_options(1, group_size)
    held = _numbers("share", shares, w, most=1.0)
    h = contract.check_column_weights(h, w)
    name = choose_backend(w, backend).name
    first, second, magnitude, best, error = ops_products.split_search(w, group_size, h, held, across_rows, name)
    weight = BinaryWeight((first, second), magnitude, (w.shape[0], w.shape[1]), group_size, "split")
    return SplitSearch(weight, best, error)


def _numbers(what: str, given: Sequence[float], w: Tensor, *, most: float) -> Tensor:
    """The numbers in float32 beside the weight, once each is above 0 and at most `most`."""
    if not given or not all(0 < number <= most for number in given):
        raise LowbitError(f"{what}s are {list(given)[:8]}; give at least one, each above 0 and at most {most:g}")
    return torch.tensor(list(given), dtype=torch.float32, device=w.device)
