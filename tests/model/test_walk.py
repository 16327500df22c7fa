"""The walk block by block sees what one sweep over the whole model sees, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.model import walk as walking
from workbench.model.block_task import BlockTask
from workbench.model.blocks import find_blocks
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.overlay import overlay
from workbench.model.statistics import collect
from workbench.model.texts import Windows, make_windows, read_text
from workbench.model.walk import BlockWalk
from workbench.progress import run

TINY = ["tiny_llama", "tiny_gpt2"]


@pytest.fixture
def windows_of(tmp_path: Path):
    def make(loaded: LoadedModel, tokens: int = 384) -> Windows:
        (tmp_path / "text.txt").write_text("The small dog sat by the old door. " * 40)
        text = read_text(str(tmp_path / "text.txt"))
        return make_windows(text, loaded.tokenizer, window=64, tokens=tokens, context=loaded.context)

    return make


def opened(loaded: LoadedModel, windows: Windows) -> BlockWalk:
    walk = BlockWalk(loaded, windows)
    run(walk.open())
    return walk


@pytest.mark.parametrize("model", TINY)
def test_blocks_hold_all_matrices_in_order(model: str, request) -> None:
    loaded = request.getfixturevalue(model)
    blocks = find_blocks(loaded.model)
    assert [block.index for block in blocks] == [0, 1]
    assert [m for block in blocks for m in block.matrices] == quantizable_matrices(loaded.model)
    assert all(block.module is loaded.model.get_submodule(block.path) for block in blocks)


@pytest.mark.parametrize("model", TINY)
@pytest.mark.parametrize("batch", [64, 192, 2048])
def test_statistics_are_those_of_one_sweep(
    model: str, batch: int, request, windows_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = request.getfixturevalue(model)
    windows = windows_of(loaded)
    monkeypatch.setattr(walking, "BATCH_TOKENS", batch)
    whole = run(collect(loaded, windows, needs={"gram", "sample_rows"}))
    walk = opened(loaded, windows)
    for block in walk.blocks:
        for site in dict.fromkeys(matrix.site for matrix in block.matrices):
            steps = walk.statistics(block, site, {"gram", "sample_rows"}, stream="quantized", weights={})
            mine, theirs = run(steps), whole.sites[site]
            assert mine.tokens == theirs.tokens == windows.tokens
            torch.testing.assert_close(mine.gram, theirs.gram, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(mine.sample_rows, theirs.sample_rows, rtol=2e-3, atol=2e-3)
        run(walk.advance({}))
    assert not walk.apart


@pytest.mark.parametrize("model", TINY)
def test_the_quantized_stream_is_that_of_the_model_with_other_weights(model: str, request, windows_of) -> None:
    loaded = request.getfixturevalue(model)
    windows = windows_of(loaded)
    walk = opened(loaded, windows)
    first = walk.blocks[0]
    coarse = {m.name: (8 * read_weight(loaded.model, m)).round() / 8 for m in first.matrices}
    run(walk.advance(coarse))
    assert walk.apart
    seen: list[torch.Tensor] = []
    second = walk.blocks[1].module
    hook = second.register_forward_pre_hook(
        lambda _, a, k: seen.append(a[0] if a else k["hidden_states"]), with_kwargs=True
    )
    try:
        for weights in ({}, coarse):
            with overlay(loaded.model, weights), torch.no_grad():
                loaded.model(input_ids=windows.ids, use_cache=False)
    finally:
        hook.remove()
    for stream, expected in zip(("full", "quantized"), seen, strict=True):
        torch.testing.assert_close(torch.cat(walk.stream(stream)), expected, rtol=1e-4, atol=1e-5)


def test_a_gradient_flows_to_the_weights_of_a_block(tiny_llama: LoadedModel, windows_of) -> None:
    walk = opened(tiny_llama, windows_of(tiny_llama))
    block = walk.blocks[0]
    weights = {m.name: read_weight(tiny_llama.model, m).clone().requires_grad_() for m in block.matrices}
    task = BlockTask(walk, block, block.matrices, weights)
    task.run(0, task.inputs()[0], weights).square().mean().backward()
    assert all(weight.grad is not None and bool(weight.grad.abs().sum() > 0) for weight in weights.values())


def test_blocks_with_something_between_them_are_refused(tiny_llama: LoadedModel, windows_of) -> None:
    """A hook between two blocks is a step that the walk would leave out."""
    windows, second = windows_of(tiny_llama), find_blocks(tiny_llama.model)[1].module

    def double(module: nn.Module, arguments, keywords):
        return (2 * arguments[0], *arguments[1:]), keywords

    hook = second.register_forward_pre_hook(double, with_kwargs=True)
    try:
        walk = opened(tiny_llama, windows)
        with pytest.raises(WorkbenchError, match="do not follow one another directly"):
            run(walk.advance({}))
    finally:
        hook.remove()
