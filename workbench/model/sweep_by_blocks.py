"""The statistics of `sweep` block by block, for a model that reads its blocks when they run: each is read once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

import transformers
from jaxtyping import Int64
from torch import Tensor

from workbench.model.accumulate import Accumulator, sum_bytes
from workbench.model.blocks import Block, block_path, find_blocks
from workbench.model.matrices import Matrix, quantizable_matrices
from workbench.model.passage import Passage
from workbench.model.sites_file import SitesFile, SitesWriter
from workbench.model.streaming import let_go
from workbench.model.sweep import adder, sample_positions, windows_at_once
from workbench.model.work_room import fit_of_model, room_for, windows_that_pass
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
    most = windows_at_once(model, widths.values(), ids.shape[1])
    passage = Passage(model, ids, windows_that_pass(model, ids.shape[1], most, _sum_bytes(model, needs)))
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


def _sum_bytes(model: transformers.PreTrainedModel, needs: Collection[str]) -> int:
    """What the sums of any one block take."""
    return max(sum_bytes(_widths(block).values(), needs) for block in find_blocks(model))


def _error_bytes(matrix: Matrix) -> int:
    """What the output error of a matrix holds: its Gram matrix twice, differences and products in float64; measured."""
    return 12 * matrix.columns**2 + 56 * matrix.parameters


def _widths(block: Block) -> dict[str, int]:
    return {matrix.site: matrix.columns for matrix in block.matrices}


def _sweep_block(
    passage: Passage, block: Block, needs: Collection[str], positions: Tensor, writer: SitesWriter
) -> Steps[None]:
    widths, model = _widths(block), passage.model
    batch = len(passage.batches[0]) * passage.batches[0].shape[1] * fit_of_model(model).a_token
    needed = sum_bytes(widths.values(), needs) + batch
    if "gram" in needs:  # what is made of it afterwards, no block in memory, must fit as well
        needed = max(needed, max(map(_error_bytes, block.matrices)) - fit_of_model(model).block)
    with room_for(model, needed, f"collecting statistics of {len(widths)} sites"):
        yield from _add_block(passage, block, needs, positions, writer)


def _add_block(
    passage: Passage, block: Block, needs: Collection[str], positions: Tensor, writer: SitesWriter
) -> Steps[None]:
    widths, model = _widths(block), cast(Any, passage.model)
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
    let_go(model)  # results are made of sums that are as large again
    for site in list(sums):
        writer.add(site, sums.pop(site).finish())


def _placer(passage: Passage, place: dict[str, int]) -> Callable[[int], None]:
    def before(batch: int) -> None:
        start = sum(ids.numel() for ids in passage.batches[:batch])
        place.update(start=start, tokens=passage.batches[batch].numel())

    return before
