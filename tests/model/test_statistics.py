"""Statistics against float64 sums over inputs that are captured here, independently of the code under test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.errors import WorkbenchError
from workbench.model import statistics as module
from workbench.model.accumulate import Accumulator
from workbench.model.load import LoadedModel, load
from workbench.model.matrices import Matrix, quantizable_matrices
from workbench.model.overlay import overlay
from workbench.model.sites import LEVELS, SAMPLE
from workbench.model.statistics import SiteStatistics, Statistics, collect
from workbench.model.sweep import sample_positions
from workbench.model.texts import Text, Windows, make_windows, read_text
from workbench.progress import run


@pytest.fixture(params=["tiny_llama", "tiny_gpt2"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return request.getfixturevalue(request.param)


def some_windows(loaded: LoadedModel, count: int = 12, start: int = 0) -> Windows:
    """Random text in windows of 64 tokens, `count` of them from the `start`-th on."""
    generator = torch.Generator().manual_seed(0)
    characters = torch.randint(97, 123, (64 * 40,), generator=generator).tolist()
    whole = make_windows(
        Text("random", (bytes(characters).decode(),)), loaded.tokenizer, window=64, tokens=None, context=loaded.context
    )
    part = whole.ids[start : start + count]
    return replace(whole, ids=part, tokens=part.numel(), token_ids_sha256=f"{start}+{count}")


def captured(loaded: LoadedModel, windows: Windows, matrix: Matrix) -> torch.Tensor:
    """The inputs of a matrix's own module, float64 `[tok, in]`."""
    seen: list[torch.Tensor] = []
    hook = loaded.model.get_submodule(matrix.module).register_forward_hook(
        lambda _module, inputs, _output: seen.append(inputs[0].flatten(0, -2).double())
    )
    with torch.no_grad():
        loaded.model(input_ids=windows.ids, use_cache=False)
    hook.remove()
    return torch.cat(seen)


def test_every_statistic_is_what_its_definition_says(loaded: LoadedModel) -> None:
    windows = some_windows(loaded)
    statistics = run(collect(loaded, windows, needs=LEVELS))
    for matrix in quantizable_matrices(loaded.model):
        x, site = captured(loaded, windows, matrix), statistics.of(matrix)
        assert site.tokens == len(x) == windows.tokens
        expected = {
            "mean": x.mean(0),
            "mean_abs": x.abs().mean(0),
            "max_abs": x.abs().amax(0),
            "sum_sq": (x * x).sum(0),
            "gram": x.T @ x / len(x),
        }
        for name, value in expected.items():
            torch.testing.assert_close(
                getattr(site, name).double(), value, rtol=1e-5, atol=1e-6, msg=f"{name} of {matrix}"
            )


def test_blocks_are_the_diagonal_of_the_gram_matrix(loaded: LoadedModel) -> None:
    windows = some_windows(loaded)
    whole = run(collect(loaded, windows, needs=["gram", "gram_blocks"]))
    alone = run(collect(loaded, windows, needs=["gram_blocks"]))
    for name, site in whole.sites.items():
        gram, blocks = site.gram, site.gram_blocks
        assert gram is not None
        assert blocks is not None
        for number, block in enumerate(blocks):
            part = gram[number * 128 : number * 128 + 128, number * 128 : number * 128 + 128]
            assert torch.equal(block[: len(part), : len(part)], part)
            assert block[len(part) :].count_nonzero() == block[:, len(part) :].count_nonzero() == 0
        assert alone.sites[name].gram is None
        torch.testing.assert_close(alone.sites[name].gram_blocks, blocks)


def test_the_sample_is_of_the_same_tokens_everywhere(loaded: LoadedModel) -> None:
    windows = some_windows(loaded)
    assert windows.tokens > SAMPLE
    statistics = run(collect(loaded, windows, needs=["sample_rows"]))
    positions, keys = sample_positions(windows.ids)
    assert torch.equal(keys, statistics.sample_keys)
    for matrix in quantizable_matrices(loaded.model):
        sample = statistics.of(matrix).sample_rows
        assert sample is not None
        assert sample.dtype == torch.float16
        expected = captured(loaded, windows, matrix)[positions].half()
        torch.testing.assert_close(sample, expected, rtol=2e-3, atol=1e-4)


def test_tokens_are_sampled_without_favour(tiny_llama: LoadedModel) -> None:
    """512 different ones of 2560, keys ascending, every window and every eighth of a window with its share."""
    positions, keys = sample_positions(some_windows(tiny_llama, 40).ids)
    assert len(set(positions.tolist())) == len(positions) == SAMPLE
    assert torch.equal(keys, keys.sort().values)
    assert positions.min() >= 0
    assert positions.max() < 40 * 64
    # binomial: a window expects 12.8 with deviation 3.2, an eighth of all windows 64 with deviation 7.2
    assert torch.bincount(positions // 64, minlength=40).min() >= 2
    assert (torch.bincount(positions % 64 // 8, minlength=8) - 64).abs().max() < 36


def test_few_tokens_are_all_sampled(loaded: LoadedModel) -> None:
    windows = some_windows(loaded, count=2)
    statistics = run(collect(loaded, windows, needs=["sample_rows"]))
    matrix = quantizable_matrices(loaded.model)[-1]
    sample = statistics.of(matrix).sample_rows
    assert sample is not None
    rows = captured(loaded, windows, matrix)
    torch.testing.assert_close(sample.double().sum(0), rows.sum(0), rtol=0.01, atol=0.05)


def assert_same(one: Statistics, other: Statistics) -> None:
    assert one.sites.keys() == other.sites.keys()
    assert torch.equal(one.sample_keys, other.sample_keys)
    for name, site in one.sites.items():
        twin = other.sites[name]
        assert site.tokens == twin.tokens
        assert site.tensors().keys() == twin.tensors().keys()
        for key, tensor in site.tensors().items():
            tolerance = 2e-3 if key == "sample_rows" else 1e-6  # fp16 may round a last bit of fp32 the other way
            scale = float(tensor.abs().max())
            torch.testing.assert_close(
                tensor, twin.tensors()[key], rtol=0, atol=tolerance * scale, msg=f"{key} of {name}"
            )


def test_two_halves_merged_are_the_whole(loaded: LoadedModel) -> None:
    whole = run(collect(loaded, some_windows(loaded, 20), needs=LEVELS))
    first = run(collect(loaded, some_windows(loaded, 13), needs=LEVELS))
    second = run(collect(loaded, some_windows(loaded, 7, start=13), needs=LEVELS))
    assert_same(first.merge(second), whole)
    assert_same(Statistics.merge(second, first), whole)
    assert first.merge(second).fingerprint == second.merge(first).fingerprint != whole.fingerprint


def test_merging_keeps_only_what_both_hold(tiny_llama: LoadedModel) -> None:
    much = run(collect(tiny_llama, some_windows(tiny_llama, 2), needs=LEVELS))
    little = run(collect(tiny_llama, some_windows(tiny_llama, 2, start=2), needs=["mean"]))
    assert much.merge(little).held == {"mean", "mean_abs", "max_abs", "sum_sq"}


def test_statistics_of_different_models_do_not_merge(tiny_llama: LoadedModel, tiny_gpt2: LoadedModel) -> None:
    one = run(collect(tiny_llama, some_windows(tiny_llama, 2), needs=["mean"]))
    other = run(collect(tiny_gpt2, some_windows(tiny_gpt2, 2), needs=["mean"]))
    with pytest.raises(WorkbenchError, match="not of the same model"):
        one.merge(other)
    with pytest.raises(WorkbenchError, match="hold nothing for the input of"):
        one.of(quantizable_matrices(tiny_gpt2.model)[0])


def test_an_unknown_need_is_refused(tiny_llama: LoadedModel) -> None:
    with pytest.raises(WorkbenchError, match="choose one of: mean, mean_abs"):
        run(collect(tiny_llama, some_windows(tiny_llama, 2), needs=["hessian"]))


def test_more_than_the_memory_is_refused_with_numbers(tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=300_000))
    run(collect(tiny_llama, some_windows(tiny_llama, 2), needs=["mean"]))
    with pytest.raises(WorkbenchError, match="GiB of memory"):
        run(collect(tiny_llama, some_windows(tiny_llama, 2), needs=["gram"]))


# the model afterwards: the fixtures fail a test that leaves a hook or another change


def hooks_of(loaded: LoadedModel) -> int:
    return sum(len(one._forward_pre_hooks) + len(one._forward_hooks) for one in loaded.model.modules())


def test_hooks_are_gone_after_the_end_and_after_a_cancel(loaded: LoadedModel) -> None:
    steps = collect(loaded, some_windows(loaded, 40), needs=["mean"])
    next(steps)
    assert hooks_of(loaded) > 0
    steps.close()
    assert hooks_of(loaded) == 0
    run(collect(loaded, some_windows(loaded, 2), needs=["mean"]))
    assert hooks_of(loaded) == 0


def test_hooks_are_gone_after_an_exception(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Accumulator, "add", fail)
    with pytest.raises(ZeroDivisionError):
        run(collect(loaded, some_windows(loaded, 2), needs=["mean"]))
    assert hooks_of(loaded) == 0


def test_progress_is_reported_batch_by_batch(tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.model.sweep.BATCH_TOKENS", 128)
    steps = list(collect(tiny_llama, some_windows(tiny_llama, 10), needs=["mean"]))
    assert [step.done for step in steps] == [0, 2, 4, 6, 8]
    assert {step.total for step in steps} == {10}


def test_the_size_of_a_batch_does_not_change_the_numbers(
    tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(collect(tiny_llama, some_windows(tiny_llama, 12), needs=LEVELS))
    monkeypatch.setattr("workbench.model.sweep.BATCH_TOKENS", 1)
    assert_same(run(collect(tiny_llama, some_windows(tiny_llama, 12), needs=LEVELS)), whole)


# on disk


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[set[str]]]:
    """The needs of every sweep that was really made."""
    made: list[set[str]] = []
    real = module.sweep

    def counting(model: Any, ids: torch.Tensor, needs: set[str]) -> Any:
        made.append(set(needs))
        return real(model, ids, needs)

    monkeypatch.setattr(module, "sweep", counting)
    return made


VECTORS = {"mean", "mean_abs", "max_abs", "sum_sq"}


def test_a_file_is_used_again_when_it_holds_what_is_needed(
    tiny_llama: LoadedModel, tmp_path: Path, sweeps: list[set[str]]
) -> None:
    windows = some_windows(tiny_llama, 4)
    first = run(collect(tiny_llama, windows, needs=["gram"], folder=tmp_path))
    again = run(collect(tiny_llama, windows, needs=["mean_abs", "gram"], folder=tmp_path))
    assert_same(first, again)
    assert first.fingerprint == again.fingerprint
    assert sweeps == [VECTORS | {"gram"}]
    run(collect(tiny_llama, windows, needs=["sample_rows"], folder=tmp_path))
    assert sweeps[1:] == [VECTORS | {"gram", "sample_rows"}], "what was held is kept beside what is new"
    run(collect(tiny_llama, windows, needs=["sample_rows", "gram"], folder=tmp_path))
    assert len(sweeps) == 2
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_other_windows_and_other_models_have_files_of_their_own(
    tiny_llama: LoadedModel, tiny_gpt2: LoadedModel, tmp_path: Path, sweeps: list[set[str]]
) -> None:
    for loaded, count in ((tiny_llama, 2), (tiny_llama, 3), (tiny_gpt2, 2)):
        run(collect(loaded, some_windows(loaded, count), needs=["mean"], folder=tmp_path))
    assert len(list(tmp_path.iterdir())) == len(sweeps) == 3


def test_statistics_of_overlaid_weights_never_reach_the_disk(tiny_llama: LoadedModel, tmp_path: Path) -> None:
    windows = some_windows(tiny_llama, 4)
    plain = run(collect(tiny_llama, windows, needs=["mean"], folder=tmp_path))
    held = [path.read_bytes() for path in tmp_path.iterdir()]
    matrix = quantizable_matrices(tiny_llama.model)[0]
    with overlay(tiny_llama.model, {matrix.name: torch.zeros(matrix.shape)}):
        other = run(collect(tiny_llama, windows, needs=["mean"], folder=tmp_path))
    last = quantizable_matrices(tiny_llama.model)[-1]
    assert not torch.equal(plain.of(last).mean, other.of(last).mean)
    assert other.fingerprint != plain.fingerprint
    assert [path.read_bytes() for path in tmp_path.iterdir()] == held


@pytest.mark.parametrize("damage", ["truncated", "format", "fingerprint", "empty"])
def test_a_damaged_or_foreign_file_is_computed_anew(
    tiny_llama: LoadedModel, tmp_path: Path, sweeps: list[set[str]], damage: str
) -> None:
    windows = some_windows(tiny_llama, 4)
    good = run(collect(tiny_llama, windows, needs=["mean"], folder=tmp_path))
    file = next(tmp_path.iterdir())
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-50])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        facts = {"format": module.FORMAT, "fingerprint": good.fingerprint, "tokens": "{}"}
        save_file(load_file(file), file, metadata=facts | {damage: "something else"})
    again = run(collect(tiny_llama, windows, needs=["mean"], folder=tmp_path))
    assert_same(good, again)
    assert len(sweeps) == 2
    assert_same(Statistics.load(file), good)


def test_a_folder_that_cannot_be_written_is_named(tiny_llama: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        WorkbenchError, match=r"folder '.*file' \(File exists\); free space there, or set WORKBENCH_CACHE"
    ):
        run(collect(tiny_llama, some_windows(tiny_llama, 2), needs=["mean"], folder=tmp_path / "file"))


def test_loading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="cannot be read"):
        Statistics.load(tmp_path / "none.safetensors")


# what a site may do that is not the rule


def test_a_site_that_sees_a_part_of_the_tokens_has_no_sample() -> None:
    sums = Accumulator(4, {"sample_rows", "mean"}, torch.arange(3), torch.device("cpu"))
    sums.add(torch.ones(2, 4), start=0, tokens=5)
    sums.add(torch.ones(5, 4), start=5, tokens=5)
    site = sums.finish()
    assert site.tokens == 7
    assert site.sample_rows is None
    assert torch.equal(site.mean, torch.ones(4))


def test_a_site_that_sees_nothing_is_an_error() -> None:
    sums = Accumulator(4, {"mean"}, torch.arange(3), torch.device("cpu"))
    sums.add(torch.ones(0, 4), start=0, tokens=5)
    with pytest.raises(WorkbenchError, match="use more tokens"):
        sums.finish()


def test_large_activations_stay_finite_in_the_sample() -> None:
    sums = Accumulator(2, {"sample_rows"}, torch.arange(1), torch.device("cpu"))
    sums.add(torch.tensor([[1e6, -1e6]]), start=0, tokens=1)
    sample = sums.finish().sample_rows
    assert sample is not None
    assert sample.tolist() == [[65504.0, -65504.0]]


def test_annotations_of_shapes_are_enforced() -> None:
    with pytest.raises(Exception, match="sum_sq"):
        SiteStatistics(1, mean=torch.zeros(3), mean_abs=torch.zeros(3), max_abs=torch.zeros(3), sum_sq=torch.zeros(4))


def test_a_real_model_in_good_time(shared_models: Path) -> None:
    """8192 tokens, all levels; the design allows 15 s for a model of this size."""
    loaded = load(str(shared_models / "stories260K"))
    text = read_text(str(shared_models / "stories260K" / "calibration.txt"))
    windows = make_windows(text, loaded.tokenizer, window=256, tokens=8192, context=loaded.context)
    started = time.process_time()
    statistics = run(collect(loaded, windows, needs=LEVELS))
    assert time.process_time() - started < 15
    for matrix in quantizable_matrices(loaded.model):
        site = statistics.of(matrix)
        assert site.tokens == 8192
        assert site.gram is not None
        torch.testing.assert_close(site.gram.diagonal(), site.sum_sq / 8192, rtol=1e-5, atol=1e-8)
        assert torch.linalg.eigvalsh(site.gram.double()).min() > -1e-6 * site.gram.diagonal().sum()
