"""The windows of an evaluation as parts that others can make: a part is one batch, cut where it is cut alone."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.model.load import LoadedModel
from workbench.model.texts import Windows
from workbench.progress import Steps, within
from workbench.studies.choice import Assignment, quantize_assignment, reads_calibration
from workbench.studies.context import Context, cell_key
from workbench.studies.parts import Bench, Part
from workbench.studies.reference import Comparison, Reference, batches_of, compare, reference
from workbench.vocabulary import STUDY_VERSION


@dataclass(frozen=True, eq=False)
class WindowWork:
    """Losses and divergences of every token; a part is asked for as a key and its first and last window (exclusive).

    Attributes:
        windows: the text that measures.
        seen: the calibration text, None where the full model is looked at alone.
        assignment: what is held against the full model, None for nothing.
    """

    windows: Windows
    seen: Windows | None
    assignment: Assignment | None

    def open(self, loaded: LoadedModel, context: Context) -> Steps[Bench]:
        """The quantized weights."""
        weights = None
        if self.assignment is not None:
            weights = (yield from quantize_assignment(loaded, self.assignment, self.seen, context)).dense()

        def make(asks: Sequence[tuple[str, int, int]]) -> Steps[None]:
            for place, (key, start, stop) in enumerate(asks):
                batch = replace(self.windows, ids=self.windows.ids[start:stop])
                steps = _measure(loaded, batch, weights)
                context.cells.put_cell(key, (yield from within(steps, place, place + 1, len(asks))))

        return make


def spread_windows(
    loaded: LoadedModel, windows: Windows, seen: Windows | None, assignment: Assignment | None, context: Context
) -> Steps[tuple[Reference, Comparison] | None]:
    """The full model and the quantized one on the text, put together from what others have made; None alone."""
    if context.crew is None:
        return None
    asks, start = [], 0
    for batch in batches_of(loaded, windows):
        asks.append((_key(loaded, windows, seen, assignment, start, start + len(batch)), start, start + len(batch)))
        start += len(batch)
    known = context.cells.get_cells([key for key, _, _ in asks])
    parts = [
        Part((key,), (key, first, last), f"windows {first + 1} to {last}")
        for key, first, last in asks
        if key not in known
    ]
    yield from context.spread(loaded, WindowWork(windows, seen, assignment), parts)
    held = context.cells.get_cells([key for key, _, _ in asks])
    cells = [held[key] for key, _, _ in asks]
    full = Reference(loaded, windows, torch.cat([_unpack(cell["full"]) for cell in cells]))
    if assignment is None:
        return full, Comparison(full.losses, torch.zeros_like(full.losses), 1.0)
    agreement = sum(cell["agreement"] * (last - first) for cell, (_, first, last) in zip(cells, asks, strict=True))
    losses, kl = (torch.cat([_unpack(cell[name]) for cell in cells]) for name in ("losses", "kl"))
    return full, Comparison(losses, kl, agreement / len(windows.ids))


def _measure(loaded: LoadedModel, batch: Windows, weights: Mapping[str, Tensor] | None) -> Steps[dict[str, Any]]:
    full = yield from within(reference(loaded, batch), 0.0, 0.5)
    if weights is None:
        return {"full": _pack(full.losses)}
    found = yield from within(compare(full, weights), 0.5, 1.0)
    return {
        "full": _pack(full.losses),
        "losses": _pack(found.losses),
        "kl": _pack(found.kl),
        "agreement": found.agreement,
    }


def _pack(values: Tensor) -> dict[str, Any]:
    """An array `[window, tok]` as JSON, to the last bit; a third larger than its bytes."""
    held = values.cpu().contiguous().numpy()
    return {"type": held.dtype.str, "shape": list(held.shape), "bytes": base64.b64encode(held.tobytes()).decode()}


def _unpack(cell: Mapping[str, Any]) -> Tensor:
    held = np.frombuffer(base64.b64decode(cell["bytes"]), dtype=np.dtype(cell["type"]))
    return torch.from_numpy(held.reshape(cell["shape"]).copy())


def _key(
    loaded: LoadedModel,
    windows: Windows,
    seen: Windows | None,
    assignment: Assignment | None,
    start: int,
    stop: int,
) -> str:
    reads = seen is not None and reads_calibration(assignment)
    schemes = None if assignment is None else {name: scheme.to_json() for name, scheme in assignment.items()}
    return cell_key(
        {
            "study": "evaluate",
            "version": STUDY_VERSION,
            "model": loaded.identity.digest,
            "windows": windows.digest,
            "batch": [start, stop],
            "calibration": seen.digest if reads and seen is not None else None,
            "assignment": schemes,
        }
    )
