"""How the signal travels: size and spread of the hidden states by depth, in the full and in quantized models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.model.blocks import Block, find_blocks
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.model.texts import Windows
from workbench.progress import Progress, Steps, within
from workbench.quantizers.driving.schemes import complete_scheme, label_of
from workbench.results import Result
from workbench.studies.choice import find_matrices, quantize_assignment, reads_calibration
from workbench.studies.context import Context
from workbench.studies.reference import batches_of
from workbench.studies.texts import calibration_windows, describe, evaluation_windows, keep_apart

FULL = "full model"
SCHEMES_AT_MOST = 16
TOKENS = 4096


@dataclass
class _Sums:
    """Sums over tokens and channels of the hidden states behind one block, float64.

    Attributes:
        count: numbers seen.
        total: their sum.
        square: sum of their squares.
        error: sum of squared differences to the full model.
    """

    count: int = 0
    total: float = 0.0
    square: float = 0.0
    error: float = 0.0

    def add(self, hidden: Tensor, full: Tensor | None) -> None:
        wide = hidden.double()
        self.count += wide.numel()
        self.total += float(wide.sum())
        self.square += float(wide.square().sum())
        self.error += 0.0 if full is None else float((wide - full.double()).square().sum())


@dataclass
class _Depths:
    """The sums of one model, block by block."""

    label: str
    sums: dict[int, _Sums] = field(default_factory=dict)

    def rows(self, full: _Depths) -> list[dict[str, Any]]:
        rows = []
        for index, held in self.sums.items():
            mean = held.total / held.count
            square, reference = held.square / held.count, full.sums[index].square / held.count
            rows.append(
                {
                    "label": self.label,
                    "block": index,
                    "mean_square": square,
                    "variance": square - mean**2,
                    "signal_error": held.error / held.count / reference if reference > 0 else None,
                }
            )
        return rows


def signal(
    loaded: LoadedModel,
    *,
    schemes: Sequence[Mapping[str, Any]],
    text: str | None = None,
    calibration: str | None = None,
    tokens: int | None = None,
    window: int | None = None,
    context: Context | None = None,
) -> Steps[Result]:
    """Run the full and the quantized models over the evaluation text and look at the hidden states behind every block.

    `mean_square` and `variance` are over all tokens and channels; `signal_error` is the mean squared difference to the
    full model's hidden states as a share of their mean square.

    Raises:
        WorkbenchError: no scheme, more than 16, a bad one, or whatever a quantizer refuses.
    """
    context = context or Context()
    if not 1 <= len(schemes) <= SCHEMES_AT_MOST:
        raise WorkbenchError(f"{len(schemes)} schemes were given; give 1 to {SCHEMES_AT_MOST}")
    chosen = list({label_of(one): one for one in map(complete_scheme, schemes)}.items())
    keep_apart(loaded, calibration, text)
    windows = evaluation_windows(loaded, text, tokens or TOKENS, window)
    full, found = _Depths(FULL), list[_Depths]()
    yield from within(_watch(loaded, windows, full, {}), 0.0, 0.1)
    for place, (label, scheme) in enumerate(chosen):
        start, step = 0.1 + 0.9 * place / len(chosen), 0.9 / len(chosen)
        assignment = {matrix.name: scheme for matrix in find_matrices(loaded)}
        seen = calibration_windows(loaded, calibration, None, window) if reads_calibration(assignment) else None
        quantized = yield from within(quantize_assignment(loaded, assignment, seen, context), start, start + step / 2)
        depths = _Depths(label)
        yield from within(_watch(loaded, windows, depths, quantized.dense()), start + step / 2, start + step)
        found.append(depths)
    rows = [row for depths in [full, *found] for row in depths.rows(full)]
    document = {
        "model": {"id": loaded.identity.id, "digest": loaded.identity.digest},
        "text": describe(windows),
        "schemes": [scheme.to_json() for _, scheme in chosen],
        "depths": rows,
    }
    return Result(document, {"signal": pd.DataFrame(rows)})


def _watch(loaded: LoadedModel, windows: Windows, depths: _Depths, weights: Mapping[str, Tensor]) -> Steps[None]:
    """Add up the hidden states behind every block; with other weights each batch is run by the full model as well."""
    blocks, batches = find_blocks(loaded.model), batches_of(loaded, windows)
    depths.sums = {block.index: _Sums() for block in blocks}
    for done, ids in enumerate(batches):
        yield Progress(done, len(batches), f"hidden states of {depths.label}")
        full = _hidden_states(loaded, blocks, ids) if weights else {}
        with overlay(loaded.model, weights):
            held = _hidden_states(loaded, blocks, ids)
        for index, hidden in held.items():
            depths.sums[index].add(hidden, full.get(index))


@torch.no_grad()
def _hidden_states(loaded: LoadedModel, blocks: Sequence[Block], ids: Tensor) -> dict[int, Tensor]:
    """Block -> what it returns for one batch."""
    found: dict[int, Tensor] = {}

    def note(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            found[index] = output if isinstance(output, Tensor) else output[0]

        return hook

    hooks = [block.module.register_forward_hook(note(block.index)) for block in blocks]
    try:
        loaded.model.base_model(input_ids=ids.to(loaded.model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found
