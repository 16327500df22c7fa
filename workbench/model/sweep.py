"""The run over the calibration windows: hooks at the sites of a model, batches of windows, a sample of tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
import transformers
from jaxtyping import Int64
from torch import Tensor, nn

from workbench.model.accumulate import Accumulator, sum_bytes
from workbench.model.matrices import Matrix, input_of, quantizable_matrices
from workbench.model.memory import require_memory
from workbench.model.sites import SAMPLE, SiteStatistics
from workbench.progress import Progress, Steps

BATCH_OPERATIONS = 5e9
BATCH_TOKENS = 4096


def sweep(
    model: transformers.PreTrainedModel, ids: Int64[Tensor, "window tok"], needs: Collection[str]
) -> Steps[tuple[dict[str, SiteStatistics], Int64[Tensor, " rows"]]]:
    """Run all windows through the model once; the hooks are gone when this ends, is closed or raises.

    Returns:
        Site -> statistics, and the keys of the sampled tokens.

    Raises:
        WorkbenchError: more memory than there is.
    """
    matrices = quantizable_matrices(model)
    columns = {matrix.site: matrix.columns for matrix in matrices}
    require_memory(sum_bytes(columns.values(), needs), f"collecting statistics of {len(columns)} sites")
    positions, keys = sample_positions(ids)
    sums = {site: Accumulator(width, needs, positions, model.device) for site, width in columns.items()}
    place = {"start": 0, "tokens": 0}  # of the batch that is running, read by the hooks
    hooks = [
        model.get_submodule(site).register_forward_pre_hook(adder(one, place), with_kwargs=True)
        for site, one in sums.items()
    ]
    trunk, batch = _trunk(model, matrices), windows_at_once(model, columns.values(), ids.shape[1])
    try:
        for done in range(0, len(ids), batch):
            yield Progress(done, len(ids), f"calibration window {done + 1} of {len(ids)}")
            part = ids[done : done + batch]
            place.update(start=done * ids.shape[1], tokens=part.numel())
            with torch.no_grad():
                trunk(input_ids=part.to(model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    # taken out one by one, so that float64 sums and float32 results of all sites are never held together
    return {site: sums.pop(site).finish() for site in list(sums)}, keys


def adder(sums: Accumulator, place: Mapping[str, int]) -> Callable[..., None]:
    """A hook that adds up what a module is called with; `place` says which batch is running."""

    def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        sums.add(input_of(arguments, keywords), place["start"], place["tokens"])

    return hook


def _trunk(model: transformers.PreTrainedModel, matrices: list[Matrix]) -> nn.Module:
    """The model without its head when all matrices lie in front of it: logits of a whole batch would be large."""
    inside = all(matrix.module.startswith(f"{model.base_model_prefix}.") for matrix in matrices)
    return model.base_model if inside else model


def windows_at_once(model: nn.Module, columns: Collection[int], window: int) -> int:
    """Windows of a batch, a fraction of a second each; from sizes alone, so that two runs give the same bits."""
    a_token = 2 * sum(p.numel() for p in model.parameters()) + 2 * sum(width**2 for width in columns)
    return max(1, int(min(BATCH_TOKENS, BATCH_OPERATIONS / a_token) // window))


def sample_positions(ids: Int64[Tensor, "window tok"]) -> tuple[Int64[Tensor, " rows"], Int64[Tensor, " rows"]]:
    """Which tokens are sampled: positions counted through all windows and their keys, by ascending key, at most 512.

    A token's key is a hash of its place in its window and of the window's ids: random over tokens, and the same
    whichever other windows are in the sweep.
    """
    keys = []
    for row in ids:
        seed = hashlib.blake2b(row.numpy().astype("<i8").tobytes(), digest_size=16).digest()
        # 7 bytes: the largest number of whole bytes that is never negative as int64
        digests = (hashlib.blake2b(place.to_bytes(8, "little"), key=seed, digest_size=7) for place in range(len(row)))
        keys += [int.from_bytes(one.digest(), "little") for one in digests]
    chosen, positions = torch.tensor(keys, dtype=torch.int64).sort(stable=True)
    return positions[:SAMPLE].clone(), chosen[:SAMPLE].clone()
