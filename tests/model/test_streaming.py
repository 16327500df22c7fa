"""A model that is read block by block against the same one in memory: equal bits, and nothing of it left in memory."""

from __future__ import annotations

import copy
import gc
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from workbench.errors import WorkbenchError
from workbench.model.backward import make_leaves, mean_loss
from workbench.model.blocks import Call, find_blocks
from workbench.model.fit import fit_of, room_for_blocks
from workbench.model.lazy_weights import LazyWeights
from workbench.model.load import LoadedModel, load
from workbench.model.matrices import Matrix, quantizable_matrices, read_weight
from workbench.model.overlay import is_overlaid, overlay
from workbench.model.own_weights import own_weights
from workbench.model.stored_weights import StoredWeights
from workbench.model.streamed_build import layout_of
from workbench.model.streaming import WeightStream, parameter_of, present, stream_of

IDS = torch.tensor([[0, 5, 9, 200, 31, 7, 7, 80], [4, 99, 250, 3, 17, 8, 1, 60]])
OPT = {
    "hidden_size": 32,
    "ffn_dim": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 16,  # so that it has matrices that stand in no block
}

Both = tuple[LoadedModel, LoadedModel]


def smallest_limit(loaded: LoadedModel) -> int:
    return fit_of(layout_of(loaded.model), loaded.model.config).smallest


def stream_in(loaded: LoadedModel) -> WeightStream:
    stream = stream_of(loaded.model)
    assert stream is not None
    return stream


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory,
    make_model_folder: Callable[..., Path],
    tiny_llama_folder: Path,
    tiny_gpt2_folder: Path,
) -> dict[str, Path]:
    return {
        "llama": tiny_llama_folder,
        "gpt2": tiny_gpt2_folder,
        "opt": make_model_folder(tmp_path_factory.mktemp("models") / "tiny-opt", "opt", **OPT),
    }


@pytest.fixture(scope="module")
def loaded_twice(folders: dict[str, Path]) -> dict[str, Both]:
    whole = {name: load(str(folder)) for name, folder in folders.items()}
    return {name: (one, load(str(folders[name]), memory_limit=smallest_limit(one))) for name, one in whole.items()}


@pytest.fixture(params=["llama", "gpt2", "opt"])
def both(request: pytest.FixtureRequest, loaded_twice: dict[str, Both]) -> Iterator[Both]:
    """The same model in memory and streamed; a test that leaves a weight behind in a block fails."""
    yield loaded_twice[request.param]
    model = loaded_twice[request.param][1].model
    inside = [one for block in find_blocks(model) for one in block.module.parameters()]
    assert inside
    assert all(one.is_meta for one in inside)
    assert not is_overlaid(model)
    assert stream_in(loaded_twice[request.param][1]).laid == ()


def logits(loaded: LoadedModel) -> Tensor:
    with torch.no_grad():
        return loaded.model(input_ids=IDS, use_cache=False).logits


def input_gradient(loaded: LoadedModel, weights: dict[str, Tensor] | None = None) -> Tensor:
    embedded = loaded.model.get_input_embeddings()(IDS).detach().requires_grad_()
    with overlay(loaded.model, weights or {}):
        target = loaded.model(inputs_embeds=embedded, use_cache=False).logits[:, -1].logsumexp(-1).sum()
        target.backward()
    return embedded.grad


def others(loaded: LoadedModel) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {one.name: 0.1 * torch.randn(one.shape, generator=generator) for one in quantizable_matrices(loaded.model)}


def test_identity_matrices_and_weights_are_those_of_the_model_in_memory(both: Both) -> None:
    whole, parts = both
    assert parts.streamed
    assert not whole.streamed
    assert parts.identity == whole.identity
    matrices = quantizable_matrices(whole.model)
    assert quantizable_matrices(parts.model) == matrices
    for matrix in matrices:
        assert torch.equal(read_weight(parts.model, matrix), read_weight(whole.model, matrix))
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter_of(parts.model, name), parameter)
    head, table = parts.model.get_output_embeddings(), parts.model.get_input_embeddings()
    assert (head.weight is table.weight) == whole.model.config.tie_word_embeddings


def test_logits_are_equal_and_one_block_is_held(both: Both) -> None:
    whole, parts = both
    stream = stream_in(parts)
    stream.forget()
    seen: list[int] = []
    hooks = [
        block.module.register_forward_hook(lambda *_: seen.append(len(stream.held)))
        for block in find_blocks(parts.model)
    ]
    try:
        assert torch.equal(logits(parts), logits(whole))
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == [1] * len(hooks)


def test_only_the_weights_of_the_block_that_runs_are_there(both: Both) -> None:
    blocks = find_blocks(both[1].model)
    present_at: list[list[bool]] = []

    def look(*_: object) -> None:
        present_at.append([all(not one.is_meta for one in block.module.parameters()) for block in blocks])

    inner = [both[1].model.get_submodule(block.matrices[-1].module) for block in blocks]
    hooks = [module.register_forward_hook(look) for module in inner]
    try:
        logits(both[1])
    finally:
        for hook in hooks:
            hook.remove()
    assert present_at == [[place == other for other in range(len(blocks))] for place in range(len(blocks))]


def test_gradients_of_the_inputs_are_equal_also_under_an_overlay(both: Both) -> None:
    whole, parts = both
    assert torch.equal(input_gradient(parts), input_gradient(whole))
    assert torch.equal(input_gradient(parts, others(parts)), input_gradient(whole, others(whole)))


def test_a_backward_behind_the_overlay_uses_the_weights_of_the_forward(both: Both) -> None:
    whole, parts = both
    expected = input_gradient(whole, others(whole))
    embedded = parts.model.get_input_embeddings()(IDS).detach().requires_grad_()
    with overlay(parts.model, others(parts)):
        target = parts.model(inputs_embeds=embedded, use_cache=False).logits[:, -1].logsumexp(-1).sum()
    target.backward()
    assert torch.equal(embedded.grad, expected) or parts.model.config.model_type == "opt"  # a matrix in no block


def test_gradients_of_weights_and_second_derivatives_are_equal(both: Both) -> None:
    found: list[list[Tensor]] = []
    for loaded in both:
        values: dict[str, Tensor] = {}
        leaves = make_leaves(loaded.model, quantizable_matrices(loaded.model)[1:4], values)
        with sdpa_kernel(SDPBackend.MATH):  # the other kernels have no second derivative
            loss = mean_loss(loaded.model, values, IDS)
        first = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
        second = torch.autograd.grad(sum(one.square().sum() for one in first), list(leaves.values()))
        found.append([*first, *second])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_graph_keeps_no_weights_and_goes_without_a_collector(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is watched through arrays that lie under the tensors and go with the last of them."""
    parts, kept, plain = both[1], list[weakref.ref[np.ndarray]](), StoredWeights.read

    def watched(tensor: Tensor) -> Tensor:
        array = tensor.numpy().copy()
        kept.append(weakref.ref(array))
        return torch.from_numpy(array)

    monkeypatch.setattr(StoredWeights, "read", lambda self, name: watched(plain(self, name)))
    stream_in(parts).forget()
    gc.disable()
    try:
        embedded = watched(parts.model.get_input_embeddings()(IDS).detach()).requires_grad_()
        target = parts.model(inputs_embeds=embedded, use_cache=False).logits.sum()
        stream_in(parts).forget()
        assert [one() is not None for one in kept] == [True] + [False] * (len(kept) - 1)
        assert len(kept) > len(quantizable_matrices(parts.model)) - 2
        del target, embedded
        assert kept[0]() is None
    finally:
        gc.enable()


def test_overlays_nest_and_a_lazy_one_makes_a_weight_when_its_block_runs(both: Both) -> None:
    whole, parts = both
    weights, matrices = others(whole), quantizable_matrices(whole.model)
    asked: list[str] = []

    def make(name: str) -> Tensor:
        asked.append(name)
        return weights[name]

    lazy = LazyWeights({one.name: one.shape for one in matrices}, make)
    first = {matrices[-1].name: 2 * weights[matrices[-1].name]}
    with overlay(whole.model, weights), overlay(whole.model, first):
        expected = logits(whole)
    with overlay(parts.model, lazy):
        resting = {one.name for one in matrices if one.name in stream_in(parts)}
        assert set(asked) & resting <= {matrices[0].name}  # that one by the checks of annotations, in tests alone
        with overlay(parts.model, first):
            assert torch.equal(logits(parts), expected)
            assert torch.equal(read_weight(parts.model, matrices[-1]), first[matrices[-1].name])
        assert torch.equal(read_weight(parts.model, matrices[-1]), weights[matrices[-1].name])
    assert torch.equal(logits(parts), logits(whole))


def test_weights_handed_to_a_block_win_over_those_of_the_files(both: Both) -> None:
    found = []
    for loaded in both:
        block = find_blocks(loaded.model)[1]
        calls: list[tuple[tuple, dict]] = []
        hook = block.module.register_forward_pre_hook(
            lambda _, a, k, calls=calls: calls.append((a, k)), with_kwargs=True
        )
        logits(loaded)
        hook.remove()
        hidden, call = Call.split(*calls[0])
        weight = read_weight(loaded.model, block.matrices[0]) * 1.5
        with torch.no_grad():
            found.append(block.run(call, hidden, {block.matrices[0].name: weight}))
    assert torch.equal(*found)


def test_an_error_inside_a_block_leaves_nothing_behind(both: Both) -> None:
    parts = both[1]
    matrix: Matrix = find_blocks(parts.model)[1].matrices[-1]

    def fail(*_: object) -> None:
        raise RuntimeError("inside")

    hook = parts.model.get_submodule(matrix.module).register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="inside"), overlay(parts.model, others(parts)):
            logits(parts)
    finally:
        hook.remove()


def test_modules_inside_a_block_can_be_called_while_it_is_present(both: Both) -> None:
    found = []
    for loaded in both:
        block = find_blocks(loaded.model)[0]
        module = loaded.model.get_submodule(block.matrices[0].module)
        given = torch.randn(3, block.matrices[0].columns, generator=torch.Generator().manual_seed(0))
        with torch.no_grad(), present(block.module):
            found.append(module(given))
    assert torch.equal(*found)


def test_a_deep_copy_reads_the_same_files(both: Both) -> None:
    whole, parts = both
    twin = copy.deepcopy(parts.model)
    with torch.no_grad():
        assert torch.equal(twin(input_ids=IDS, use_cache=False).logits, logits(whole))


def test_blocks_stay_in_memory_as_far_as_the_limit_allows(folders: dict[str, Path]) -> None:
    whole = load(str(folders["opt"]))
    fit = fit_of(layout_of(whole.model), whole.model.config)
    parts = load(str(folders["opt"]), memory_limit=fit.resident - 1)
    stream = stream_in(parts)
    stream.room = 2 * fit.block
    logits(parts)
    assert len(stream.held) == 2
    stream.room = 3 * fit.block
    logits(parts)
    before = sum(stream.reads.values())
    logits(parts)
    assert sum(stream.reads.values()) == before


def test_own_weights_stay_while_others_lie_over_them(both: Both) -> None:
    """Those inside blocks and, of the model with projections in front of its blocks, those outside of them."""
    matrices = quantizable_matrices(both[0].model)
    expected = {one.name: read_weight(both[0].model, one).clone() for one in matrices}
    for loaded in both:
        own = own_weights(loaded.model, matrices)
        with overlay(loaded.model, others(loaded)):
            assert all(torch.equal(own[name], weight) for name, weight in expected.items())
            assert not torch.equal(read_weight(loaded.model, matrices[0]), expected[matrices[0].name])


def test_blocks_make_way_for_weights_that_lie_over_them(folders: dict[str, Path]) -> None:
    whole = load(str(folders["opt"]))
    fit = fit_of(layout_of(whole.model), whole.model.config)
    parts = load(str(folders["opt"]), memory_limit=fit.resident - 1)
    stream, blocks = stream_in(parts), [block.path for block in find_blocks(parts.model)]
    stream.room = 2 * fit.block
    logits(parts)
    (first, second), (third,) = stream.held, set(blocks) - set(stream.held)
    names = [name for name, _ in parts.model.get_submodule(third).named_parameters(prefix=third)]
    with overlay(parts.model, others(parts)):
        laid = stream.values(names)
        assert sum(one.nbytes for one in laid.values()) + fit.block <= stream.room
    assert first in stream.held
    assert second not in stream.held


def test_a_limit_decides_and_a_small_one_is_refused_with_the_smallest(folders: dict[str, Path]) -> None:
    folder = str(folders["llama"])
    fit = fit_of(layout_of(load(folder).model), load(folder).model.config)
    assert not load(folder, memory_limit=fit.resident).streamed
    assert load(folder, memory_limit=fit.resident - 1).streamed
    assert load(folder, memory_limit=fit.smallest).streamed
    with pytest.raises(WorkbenchError, match=r"too small for model 'tiny-llama'.* the smallest possible limit") as told:
        load(folder, memory_limit=fit.smallest - 1)
    said = float(str(told.value).split("take ")[1].split(" MiB")[0])
    assert fit.smallest <= said * 2**20 <= fit.smallest + 2**20 / 99


def test_more_weights_than_free_memory_are_streamed(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(str(folders["opt"]))
    fit = fit_of(layout_of(whole.model), whole.model.config)
    monkeypatch.setattr("workbench.model.fit.available_memory", lambda: 1000)
    with pytest.raises(WorkbenchError, match=r"GiB when it is read block by block; 0\.00 GiB are free"):
        load(str(folders["opt"]))
    # room for one block and the work on it, were it not that a model has more weights than that
    monkeypatch.setattr("workbench.model.fit.available_memory", lambda: 2 * fit.smallest)
    assert not load(str(folders["opt"])).streamed
    assert room_for_blocks(fit, 2 * fit.smallest + 1, "opt", None) is not None


def test_a_file_that_changes_is_told(tmp_path: Path, make_model_folder: Callable[..., Path]) -> None:
    folder = make_model_folder(tmp_path / "changing", "opt", **OPT)
    parts = load(str(folder), memory_limit=smallest_limit(load(str(folder))))
    stream_in(parts).forget()
    file = folder / "model.safetensors"
    os.utime(file, ns=(1, 1))
    with pytest.raises(WorkbenchError, match="has changed since the model was opened"):
        logits(parts)


def test_weights_that_are_not_finite_are_refused_as_in_memory(
    tmp_path: Path, make_model_folder: Callable[..., Path]
) -> None:
    folder = make_model_folder(tmp_path / "broken", "opt", **OPT)
    limit = smallest_limit(load(str(folder)))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.decoder.layers.2.fc1.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    sentences = []
    for given in (None, limit):
        with pytest.raises(WorkbenchError) as told:
            load(str(folder), memory_limit=given)
        sentences.append(str(told.value))
    assert sentences[0] == sentences[1]
