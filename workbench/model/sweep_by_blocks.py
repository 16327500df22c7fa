"""The statistics of `sweep` block by block, for a model that reads its blocks when they run: each is read once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import transformers
from jaxtyping import Int64
from torch import Tensor

from workbench.model.accumulate import Accumulator, sum_bytes
from workbench.model.blocks import Block, block_path
from workbench.model.matrices import Matrix, quantizable_matrices
from workbench.model.memory import require_memory
from workbench.model.passage import Passage
from workbench.model.sites_file import SitesFile, SitesWriter
from workbench.model.sweep import adder, sample_positions, windows_at_once
from workbench.progress import Steps, within
from workbench.settings import cache_folder


def can_go_by_blocks(model: transformers.PreTrainedModel) -> bool:
    """Whether every matrix and its site lie in one block."""
    return all(_lies_in_a_block(matrix) for matrix in quantizable_matrices(model))


def _lies_in_a_block(matrix: Matrix) -> bool:
    path = block_path(matrix)
    return path is not None and matrix.site.startswith(f"{path}.")


def sweep_by_blocks(
    model: transformers.PreTrainedModel,
    ids: Int64[Tensor, "window tok"],
    needs: Collection[str],
    file: Path | None,
    fingerprint: str,
    form: str,
) -> Steps[SitesFile | None]:
    """Run all windows through one block after the other; the batches are those of `sweep`.

    Args:
        model: the model; the hooks are gone when this ends, is closed or raises.
        ids: the windows.
        needs: names from `LEVELS`, all vectors among them.
        file: where the statistics are written; None for a file that goes with its last user.
        fingerprint: what they are of.
        form: version of the file's form.

    Returns:
        The statistics, on disk; None when the blocks do not follow one another directly.

    Raises:
        WorkbenchError: more memory than there is, or a file that cannot be written.
    """
    widths = {matrix.site: matrix.columns for matrix in quantizable_matrices(model)}
    passage = Passage(model, ids, windows_at_once(model, widths.values(), ids.shape[1]))
    yield from within(passage.open(), 0.0, 0.0)
    if not passage.direct:
        return None
    positions, keys = sample_positions(ids)
    path = file if file is not None else cache_folder() / "tmp" / f"{uuid.uuid4().hex}.safetensors"
    writer = SitesWriter(path, list(widths))
    try:
        for place, block in enumerate(passage.blocks):
            steps = _sweep_block(passage, block, needs, positions, writer)
            yield from within(steps, place, place + 1, len(passage.blocks))
        writer.finish(fingerprint, form, keys)
    finally:
        writer.discard()
    return SitesFile(path, temporary=file is None)


def _sweep_block(
    passage: Passage, block: Block, needs: Collection[str], positions: Tensor, writer: SitesWriter
) -> Steps[None]:
    widths = {matrix.site: matrix.columns for matrix in block.matrices}
    require_memory(sum_bytes(widths.values(), needs), f"collecting statistics of {len(widths)} sites")
    model: Any = passage.model
    sums = {site: Accumulator(width, needs, positions, model.device) for site, width in widths.items()}
    place = {"start": 0, "tokens": 0}
    hooks = [
        model.get_submodule(site).register_forward_pre_hook(adder(one, place), with_kwargs=True)
        for site, one in sums.items()
    ]
    try:
        yield from passage.carry({}, _placer(passage, place))
    finally:
        for hook in hooks:
            hook.remove()
    for site in list(sums):
        writer.add(site, sums.pop(site).finish())


def _placer(passage: Passage, place: dict[str, int]) -> Callable[[int], None]:
    def before(batch: int) -> None:
        start = sum(ids.numel() for ids in passage.batches[:batch])
        place.update(start=start, tokens=passage.batches[batch].numel())

    return before
