"""What work may take beside a model read block by block: fewer tokens at once, blocks that give way, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from workbench.attribution.adapter import Adapter
from workbench.attribution.heads import watch_attention
from workbench.attribution.sampling import rows_at_once
from workbench.attribution.targets import parse_target
from workbench.errors import WorkbenchError
from workbench.model.fit import HEAD_LOGITS, SLACK, Fit, fit_of
from workbench.model.load import LoadedModel, load
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.memory import available_memory, bound_memory
from workbench.model.overlay import overlay
from workbench.model.streamed_build import layout_of
from workbench.model.streaming import WeightStream, let_go, stream_of
from workbench.model.work_room import check_maps, logits_at_once, prompts_that_fit, room_for, windows_that_pass
from workbench.registry import attribution

LENGTH = 16


@pytest.fixture
def streamed(tiny_llama_folder: Path) -> LoadedModel:
    model = load(str(tiny_llama_folder)).model
    return load(str(tiny_llama_folder), memory_limit=fit_of(layout_of(model), model.config).smallest)


@pytest.fixture
def fit(streamed: LoadedModel) -> Fit:
    return fit_of(layout_of(streamed.model), streamed.model.config)


def stream_in(loaded: LoadedModel) -> WeightStream:
    stream = stream_of(loaded.model)
    assert stream is not None
    return stream


def test_windows_and_logits_shrink_with_the_memory_that_is_left(streamed: LoadedModel, fit: Fit) -> None:
    assert windows_that_pass(streamed.model, LENGTH, 8) == 8
    bound_memory(int(SLACK * 3 * LENGTH * fit.a_token) + 1)
    assert windows_that_pass(streamed.model, LENGTH, 8) == 3
    assert windows_that_pass(streamed.model, LENGTH, 8, beside=2 * LENGTH * fit.a_token) == 1
    assert fit.vocabulary < logits_at_once(streamed.model) < HEAD_LOGITS
    bound_memory(0)
    stream_in(streamed).room = 0
    assert windows_that_pass(streamed.model, LENGTH, 8) == 1
    assert logits_at_once(streamed.model) == fit.vocabulary


def test_a_model_in_memory_is_never_cut(tiny_llama: LoadedModel) -> None:
    bound_memory(0)
    assert windows_that_pass(tiny_llama.model, LENGTH, 8) == 8
    assert prompts_that_fit(tiny_llama.model, LENGTH, 8) == 8
    assert rows_at_once(tiny_llama.model, LENGTH, 8, backward=True) == rows_at_once(tiny_llama.model, LENGTH, 8) == 8
    check_maps(tiny_llama.model, LENGTH)


def test_blocks_give_way_for_the_time_of_the_work(streamed: LoadedModel, fit: Fit) -> None:
    stream = stream_in(streamed)
    stream.room = 2 * fit.block
    with torch.no_grad():
        streamed.model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False)
    assert len(stream.held) == 2
    bound_memory(1000)
    with room_for(streamed.model, int(fit.block / SLACK), "the work"):
        assert len(stream.held) == 1
        assert available_memory() >= fit.block - 1
    assert (stream.room, available_memory()) == (2 * fit.block, 1000)
    let_go(streamed.model)
    assert stream.held == ()


def test_a_prompt_that_does_not_fit_is_refused_with_the_smallest_limit(streamed: LoadedModel, fit: Fit) -> None:
    bound_memory(1000)
    stream_in(streamed).room = fit.block
    long = 8 * LENGTH
    with pytest.raises(WorkbenchError, match=r"prompt of 128 tokens needs .* limit that would do") as told:
        rows_at_once(streamed.model, long, 8, backward=True)
    least = int(float(str(told.value).split("do is ")[1].split()[0]) * 2**20)
    assert least > fit.smallest
    bound_memory(least - fit.outside - fit.block)
    assert prompts_that_fit(streamed.model, long, 8) == 1
    bound_memory(3 * least)
    assert prompts_that_fit(streamed.model, long, 8) > 1


def test_prompts_without_a_gradient_are_cut_to_the_memory_that_is_left(streamed: LoadedModel, fit: Fit) -> None:
    assert rows_at_once(streamed.model, LENGTH, 8) == 8
    bound_memory(int(SLACK * 3 * LENGTH * fit.a_token) + 1)
    assert rows_at_once(streamed.model, LENGTH, 8) == rows_at_once(streamed.model, LENGTH) == 3


def test_attention_maps_that_do_not_fit_are_refused_with_the_smallest_limit(streamed: LoadedModel, fit: Fit) -> None:
    adapter = Adapter(streamed.model, streamed.tokenizer, streamed.context)
    ids = torch.full((1, 8 * LENGTH), 5)
    bound_memory(1000)
    stream_in(streamed).room = fit.block
    looks = [lambda: adapter.attentions(ids, lambda *_: None), lambda: watch_attention(adapter, ids, lambda _: None)]
    for look in looks:
        with pytest.raises(WorkbenchError, match=r"maps of 128 tokens needs .* limit that would do") as told:
            look()
    least = int(float(str(told.value).split("do is ")[1].split()[0]) * 2**20)
    bound_memory(least - fit.outside - fit.block)
    for look in looks:
        look()


def test_overlaid_weights_take_a_part_of_the_room(streamed: LoadedModel, fit: Fit) -> None:
    bound_memory(int(SLACK * (3 * LENGTH * fit.a_token)) + 1)
    matrix = quantizable_matrices(streamed.model)[0]
    assert windows_that_pass(streamed.model, LENGTH, 8) == 3
    with overlay(streamed.model, {matrix.name: read_weight(streamed.model, matrix)}):
        assert windows_that_pass(streamed.model, LENGTH, 8) < 3


def test_a_gradient_that_does_not_fit_is_refused_wherever_one_is_taken(streamed: LoadedModel, fit: Fit) -> None:
    adapter = Adapter(streamed.model, streamed.tokenizer, streamed.context)
    ids = torch.full((1, 8 * LENGTH), 5)
    bound_memory(1000)
    stream_in(streamed).room = fit.block
    aim = parse_target(adapter, adapter.encode("a"))
    for method in ("gradient", "normgrad", "grad_attention", "linearised"):
        with pytest.raises(WorkbenchError, match=r"the gradient at a prompt of 128 tokens needs"):
            attribution.get(method)(adapter, ids, aim)
