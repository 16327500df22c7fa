"""Masks of the weights that matter most, and tensors on their way into a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from workbench.errors import WorkbenchError, unknown
from workbench.ordering import topk_mask
from workbench.registry import salience

SCOPES = ("matrix", "row", "global")
"""Where the top weights are looked for: in every matrix, in every output row, in the whole model."""


def check_mask(metric: str, top: float, scope: str) -> None:
    """Refuse a mask that cannot be made, before anything is computed.

    Raises:
        WorkbenchError: a share that is not between 0 and 1, an unknown scope, or a metric whose scores it cannot cut.
    """
    grain = salience.get(metric).traits.get("granularity", "element")
    if scope not in SCOPES:
        raise unknown("scope of a mask", scope, SCOPES)
    if not 0 < top < 1:
        raise WorkbenchError(f"top has value {top!r}; give a part of one above 0 and below 1, such as 0.01")
    if grain == "matrix" or (grain == "channel" and scope == "row"):
        raise WorkbenchError(
            f"metric {metric!r} gives one number a {grain}, so there is no mask of its top weights by {scope}"
        )


def top_masks(scores: Mapping[str, Tensor], top: float, scope: str = "matrix") -> dict[str, Tensor]:
    """Bool tensors of the scores' shapes, true for the largest share by size; counts are rounded up, one at least.

    Args:
        scores: matrix name -> scores `[out, in]` or `[in]`; signs are not looked at.
        top: the share, above 0 and below 1.
        scope: one of `SCOPES`.

    Raises:
        WorkbenchError: a score is NaN.
    """
    if scope != "global":
        return {name: _top(one.abs(), top, by_row=scope == "row") for name, one in scores.items()}
    sizes = torch.cat([one.abs().flatten() for one in scores.values()])
    parts = _top(sizes, top).split([one.numel() for one in scores.values()])
    return {name: part.reshape(one.shape) for (name, one), part in zip(scores.items(), parts, strict=True)}


def _top(sizes: Tensor, top: float, *, by_row: bool = False) -> Tensor:
    count = sizes.shape[-1] if by_row else sizes.numel()
    return topk_mask(sizes, max(1, math.ceil(top * count - 1e-9)), by_row=by_row).contiguous()


def write_tensors(tensors: Mapping[str, Tensor], path: Path, facts: Mapping[str, str]) -> None:
    """Write a safetensors file under a temporary name first, then rename it.

    Raises:
        WorkbenchError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(dict(tensors), partial, metadata=dict(facts))
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)[:120]
        raise WorkbenchError(f"tensors could not be written to {str(path)[:80]!r}: {reason}") from error
    finally:
        with suppress(OSError):  # gone already; or a read-only folder, which refuses this too and holds no remains
            partial.unlink()
