"""Studies of a model that is read block by block: the numbers of the model in memory, each block read once a pass."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.fit import fit_of
from workbench.model.hidden_file import HiddenFile
from workbench.model.load import LoadedModel, load
from workbench.model.matrices import quantizable_matrices
from workbench.model.memory import bound_of
from workbench.model.sites_file import SitesFile
from workbench.model.statistics import Statistics, collect
from workbench.model.streamed_build import layout_of
from workbench.model.streaming import WeightStream, stream_of
from workbench.progress import run
from workbench.quantizers.driver import quantize_model
from workbench.quantizers.driving.schemes import complete_scheme
from workbench.results import Result
from workbench.scheme import Scheme
from workbench.settings import cache_folder
from workbench.studies.context import Context
from workbench.studies.texts import calibration_windows

LEVELS = {"sample_rows", "gram_blocks", "gram"}
SIZES = {"tokens": 128, "window": 32}

Both = tuple[LoadedModel, LoadedModel]


@pytest.fixture(scope="module")
def loaded_twice(tiny_llama_folder: Path, tiny_gpt2_folder: Path) -> dict[str, Both]:
    found = {}
    for name, folder in (("llama", tiny_llama_folder), ("gpt2", tiny_gpt2_folder)):
        whole = load(str(folder))
        limit = fit_of(layout_of(whole.model), whole.model.config).smallest
        found[name] = whole, load(str(folder), memory_limit=limit)
    return found


@pytest.fixture(params=["llama", pytest.param("gpt2", marks=pytest.mark.slow)])
def both(request: pytest.FixtureRequest, loaded_twice: dict[str, Both]) -> Both:
    return loaded_twice[request.param]


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, str]:
    for name, sentence in (("calibration", "The small dog sat by the old door. "), ("text", "A cat ran up the tree! ")):
        (tmp_path / f"{name}.txt").write_text(sentence * 40)
    return {name: str(tmp_path / f"{name}.txt") for name in ("calibration", "text")}


def stream_in(loaded: LoadedModel) -> WeightStream:
    stream = stream_of(loaded.model)
    assert stream is not None
    quantizable_matrices(loaded.model)  # found once a model, by running it
    stream.forget()
    stream.reads.clear()
    return stream


def temporary() -> list[str]:
    gc.collect()
    return sorted(one.name for one in (cache_folder() / "tmp").glob("*"))


def numbers(value: Any) -> list[float]:
    """All numbers of a document but times, in order."""
    if isinstance(value, dict):
        return [one for key, held in value.items() if "second" not in key for one in numbers(held)]
    if isinstance(value, list):
        return [one for held in value for one in numbers(held)]
    return [float(value)] if isinstance(value, int | float) else []


def test_statistics_are_equal_bit_by_bit_and_every_block_is_read_once(both: Both, texts: dict[str, str]) -> None:
    whole, parts = both
    windows = calibration_windows(whole, texts["calibration"], 256, 32)
    expected = run(collect(whole, windows, needs=LEVELS))
    stream = stream_in(parts)
    found = run(collect(parts, windows, needs=LEVELS))
    assert set(stream.reads.values()) == {1}
    assert (found.fingerprint, found.held) == (expected.fingerprint, expected.held)
    assert torch.equal(found.sample_keys, expected.sample_keys)
    assert list(found.sites) == list(expected.sites)
    for site, one in expected.sites.items():
        theirs = found.sites[site]
        assert theirs.tokens == one.tokens
        assert all(torch.equal(theirs.tensors()[name], tensor) for name, tensor in one.tensors().items())
    assert len(temporary()) == 1
    del found
    assert temporary() == []


def test_statistics_on_disk_serve_both_ways(both: Both, texts: dict[str, str], tmp_path: Path) -> None:
    whole, parts = both
    windows = calibration_windows(whole, texts["calibration"], 256, 32)
    written = run(collect(parts, windows, needs={"gram"}, folder=tmp_path / "statistics"))
    assert isinstance(written.sites, SitesFile)
    (file,) = (tmp_path / "statistics").iterdir()
    assert Statistics.load(file).held == written.held == {"gram", "mean", "mean_abs", "max_abs", "sum_sq"}
    again = run(collect(whole, windows, needs={"gram"}, folder=tmp_path / "statistics"))
    stream = stream_in(parts)
    kept = run(collect(parts, windows, needs={"gram"}, folder=tmp_path / "statistics"))
    assert not stream.reads
    site = next(iter(kept.sites))
    assert torch.equal(kept.sites[site].gram, again.sites[site].gram)


def test_a_sweep_that_is_closed_leaves_no_file_and_no_hook(both: Both, texts: dict[str, str], tmp_path: Path) -> None:
    parts = both[1]
    windows = calibration_windows(parts, texts["calibration"], 512, 32)
    steps = collect(parts, windows, needs={"gram"}, folder=tmp_path / "statistics")
    for _ in range(3):
        next(steps)
    steps.close()
    assert list((tmp_path / "statistics").iterdir()) == []
    assert [path for path, one in parts.model.named_modules() if one._forward_pre_hooks or one._forward_hooks] == []


@pytest.mark.parametrize("quantizer", ["rtn", "gptq", "awq"])
def test_quantized_weights_are_equal_and_lie_on_disk(both: Both, texts: dict[str, str], quantizer: str) -> None:
    whole, parts = both
    scheme = complete_scheme(Scheme(quantizer, 3, 32))
    windows = calibration_windows(whole, texts["calibration"], 256, 32)
    assignment = {matrix.name: scheme for matrix in quantizable_matrices(whole.model)}
    expected = run(quantize_model(whole, assignment, windows))
    found = run(quantize_model(parts, assignment, windows))
    assert list(found.weights) == list(expected.weights)
    assert found.notes == expected.notes
    dense = found.dense()
    assert not isinstance(dense, dict)
    for name, weight in expected.dense().items():
        assert torch.equal(dense[name], weight)
        assert found.weights[name].stored_bits == expected.weights[name].stored_bits
    assert len(temporary()) == 1
    del found, dense
    assert temporary() == []


def asked(loaded: LoadedModel, texts: dict[str, str]) -> dict[str, Callable[[], Result]]:
    scheme = {"quantizer": "gptq", "bits": 3, "group_size": 32}
    seen = {"calibration": texts["calibration"], **SIZES}
    return {
        "layer_error": lambda: run(studies.layer_error(loaded, schemes=[scheme], **seen)),
        "evaluate": lambda: run(studies.evaluate(loaded, scheme=scheme, text=texts["text"], **seen)),
        "isolated": lambda: run(studies.sensitivity(loaded, bits=[2, 4], **seen)),
        "output": lambda: run(studies.sensitivity(loaded, bits=[2], measure="output-error", **seen)),
        "salience": lambda: run(studies.salience(loaded, metric="obs", **seen)),
        "gradients": lambda: run(studies.salience(loaded, metric="first_order", **seen)),
    }


@pytest.mark.parametrize("question", ["layer_error", "evaluate", "isolated", "output", "salience", "gradients"])
def test_studies_give_the_same_numbers(both: Both, texts: dict[str, str], question: str) -> None:
    expected, found = (numbers(asked(loaded, texts)[question]().document) for loaded in both)
    assert len(found) == len(expected) > 10
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)


def test_an_evaluation_reads_a_block_once_for_the_whole_text(both: Both, texts: dict[str, str]) -> None:
    parts = both[1]
    stream = stream_in(parts)
    run(studies.evaluate(parts, text=texts["text"], tokens=768, window=32))
    assert set(stream.reads.values()) == {1}


def test_a_head_in_chunks_gives_the_same_losses(both: Both, texts: dict[str, str], monkeypatch) -> None:
    whole, parts = both
    scheme = {"quantizer": "rtn", "bits": 3, "group_size": 32}
    monkeypatch.setattr("workbench.measures.by_blocks.HEAD_LOGITS", 259 * 40)
    expected, found = (
        run(studies.evaluate(one, scheme=scheme, text=texts["text"], calibration=texts["calibration"], **SIZES))
        for one in (whole, parts)
    )
    assert numbers(found.document) == pytest.approx(numbers(expected.document), rel=1e-5, abs=1e-6)


def test_the_limit_of_a_spec_decides_and_is_checked(tiny_llama_folder: Path, texts: dict[str, str]) -> None:
    whole = load(str(tiny_llama_folder))
    limit = fit_of(layout_of(whole.model), whole.model.config).smallest
    context = Context()
    spec = {"model": str(tiny_llama_folder), "text": texts["text"], **SIZES}
    first = run(studies.start("evaluate", spec | {"memory_limit": limit}, context))
    assert context.model(str(tiny_llama_folder), memory_limit=limit).streamed
    second = run(studies.start("evaluate", spec, context))
    assert not context.model(str(tiny_llama_folder)).streamed
    assert numbers(first.document) == numbers(second.document)
    with pytest.raises(WorkbenchError, match="smallest possible limit"):
        run(studies.start("evaluate", spec | {"memory_limit": "10KiB"}, context))
    with pytest.raises(WorkbenchError, match="memory limit has value 'much'"):
        run(studies.start("evaluate", spec | {"memory_limit": "much"}, context))


def test_a_held_model_brings_its_own_limit_back(tiny_llama_folder: Path) -> None:
    """Two contexts of a process: what one of them is asked for binds no work on the model that the other holds."""
    whole = load(str(tiny_llama_folder))
    limit = fit_of(layout_of(whole.model), whole.model.config).smallest
    free, bound = Context(), Context(memory_limit=limit)
    free.model(str(tiny_llama_folder))
    bound.model(str(tiny_llama_folder))
    planned = bound_of()
    assert planned is not None
    assert planned < limit
    free.model(str(tiny_llama_folder))
    assert bound_of() is None
    bound.model(str(tiny_llama_folder))
    assert bound_of() == planned


def test_prompts_are_looked_at_as_in_memory(both: Both) -> None:
    """Damage map, blame and attention: the same numbers, and no block's quantized weights stay once it has run."""
    whole, parts = both
    scheme = {"quantizer": "rtn", "bits": 3, "group_size": 32}
    for study in (studies.damage_map, studies.blame, studies.attention_maps, studies.token_weights):
        expected, found = (run(study(one, prompt="The small dog sat.", scheme=scheme)) for one in (whole, parts))
        assert numbers(found.document) == pytest.approx(numbers(expected.document), rel=1e-5, abs=1e-6)


def test_a_limit_that_the_work_does_not_fit_in_beside_the_model_streams(
    tiny_llama_folder: Path, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load(str(tiny_llama_folder))
    limit = fit_of(layout_of(whole.model), whole.model.config).resident
    spec = {"model": str(tiny_llama_folder), "text": texts["text"], **SIZES}
    expected = run(studies.start("evaluate", spec, Context()))
    context, told = Context(), []
    assert not context.model(str(tiny_llama_folder), memory_limit=limit).streamed
    monkeypatch.setattr("workbench.estimates.fitting.free_memory", lambda device: 1000)
    found = run(studies.start("evaluate", spec | {"memory_limit": limit}, context), lambda one: told.append(one.note))
    assert any("read block by block now" in note for note in told)
    assert context.model(str(tiny_llama_folder), memory_limit=limit).streamed
    assert numbers(found.document) == pytest.approx(numbers(expected.document), rel=1e-6)
    with pytest.raises(WorkbenchError, match="no smaller window or text would fit; --memory-limit"):
        run(studies.start("evaluate", spec, Context()))


def test_a_full_disk_is_told_before_anything_runs(
    both: Both, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(WorkbenchError, match="hidden states between the blocks take"):
        run(studies.evaluate(both[1], text=texts["text"], **SIZES))
    assert temporary() == []


def test_hidden_states_on_disk_are_copies_in_a_file_without_a_name() -> None:
    held = HiddenFile([torch.Size((2, 3, 5)), torch.Size((1, 3, 5))], torch.float32)
    states = [torch.randn(2, 3, 5), torch.randn(1, 3, 5)]
    for place, one in enumerate(states):
        held[place] = one
    read = held[0]
    held[0] = torch.zeros(2, 3, 5)
    assert torch.equal(read, states[0])
    assert torch.equal(held[-1], states[1])
    assert [one.shape for one in held] == [(2, 3, 5), (1, 3, 5)]
    assert temporary() == []
