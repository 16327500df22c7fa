"""Gradients of a model that reads its blocks when they run: those of the model in memory, one block at a time."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.model.chain_alone import gradient_alone
from workbench.model.fit import Fit, fit_of
from workbench.model.gradients import SweepFacts, gradient_sweep
from workbench.model.load import LoadedModel, load
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.memory import bound_memory
from workbench.model.streamed_build import layout_of
from workbench.model.streaming import WeightStream, held_bytes, stream_of
from workbench.model.texts import Text, Windows, make_windows
from workbench.model.weightstats import NEEDS, WeightStatistics
from workbench.progress import run

TEXT = Text("test", ("One day a small bird found a red button in the grass and took it home to her nest. " * 12,))
FIELDS = ("grad", "grad_sq", "path_abs", "path_signed", "hessian_step", "hessian_gradient", "synflow", "quantized")
Found = dict[str, WeightStatistics]


@pytest.fixture(params=["llama", "gpt2", "opt"])
def folder(request: pytest.FixtureRequest) -> Path:
    """Three families: a tied head, transposed weights with biases, projections in front of the blocks and behind."""
    return request.getfixturevalue(f"tiny_{request.param}_folder")


def fit_to(folder: Path) -> Fit:
    model = load(str(folder)).model
    return fit_of(layout_of(model), model.config)


def streamed(folder: Path) -> tuple[LoadedModel, WeightStream]:
    loaded = load(str(folder), memory_limit=fit_to(folder).smallest)
    stream = stream_of(loaded.model)
    assert stream is not None
    quantizable_matrices(loaded.model)  # found by a run of the model
    stream.forget()
    stream.reads.clear()
    return loaded, stream


def windows_of(loaded: LoadedModel) -> Windows:
    return make_windows(TEXT, loaded.tokenizer, window=24, tokens=72, context=loaded.context)


def rounded(loaded: LoadedModel, levels: int = 7) -> dict[str, torch.Tensor]:
    quantized = {}
    for matrix in quantizable_matrices(loaded.model):
        weight = read_weight(loaded.model, matrix)
        step = 2 * weight.abs().max() / levels
        quantized[matrix.name] = (weight / step).round() * step
    return quantized


def sweep(loaded: LoadedModel, **asked: Any) -> tuple[Found, SweepFacts]:
    found: Found = {}
    steps = gradient_sweep(loaded, windows_of(loaded), consume=lambda m, known: found.update({m.name: known}), **asked)
    return found, run(steps)


def test_every_statistic_is_that_of_the_model_in_memory(folder: Path) -> None:
    resident, (loaded, _) = load(str(folder)), streamed(folder)
    asked: dict[str, Any] = {"needs": set(NEEDS), "weights": rounded(resident), "nodes": 1}
    (expected, facts), (found, here) = sweep(resident, **asked), sweep(loaded, **asked)
    assert list(found) == list(expected)
    for field in FIELDS:
        for name, known in found.items():
            mine, theirs = known.get(field), expected[name].get(field)
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6 * float(theirs.abs().max()))
        assert any(known.get(field).any() for known in found.values())
    assert here.loss == pytest.approx(facts.loss, rel=1e-6)
    assert here.path_losses == pytest.approx(facts.path_losses, rel=1e-6)
    assert (here.windows, here.tokens, here.changed) == (facts.windows, facts.tokens, facts.changed)


def test_hessian_products_are_those_of_the_model_in_memory_to_the_bit(folder: Path) -> None:
    """Both ways round in float32, three windows that no binary fraction weights: only the same order gives the same."""
    resident, (loaded, _) = load(str(folder)), streamed(folder)
    exact = replace(resident, model=copy.deepcopy(resident.model).double())
    asked: dict[str, Any] = {"needs": {"grad", "hessian_step", "hessian_gradient"}, "weights": rounded(resident)}
    truth, there, here = (sweep(one, **asked)[0] for one in (exact, resident, loaded))
    for field in ("hessian_step", "hessian_gradient"):
        for name in truth:
            wide, other = truth[name].get(field), there[name].get(field)
            assert torch.equal(here[name].get(field), other)
            assert (other.double() - wide).norm() <= 1e-5 * wide.norm()


def test_a_pass_reads_every_block_once_on_each_way(folder: Path) -> None:
    """Forward and back; where the way back begins, the last block is still there."""
    loaded, stream = streamed(folder)
    *others, last = _paths(loaded)
    sweep(loaded, needs={"grad"})
    assert stream.reads == {last: 1} | dict.fromkeys(others, 2)
    assert stream.held == ()


def _paths(loaded: LoadedModel) -> list[str]:
    return list(dict.fromkeys(m.module.split(f".{m.block}.")[0] + f".{m.block}" for m in _inside(loaded)))


def _inside(loaded: LoadedModel) -> list[Any]:
    return [matrix for matrix in quantizable_matrices(loaded.model) if matrix.block is not None]


@pytest.mark.parametrize("ending", ["closed", "raised"])
def test_nothing_of_a_block_stays_when_it_ends_half_way(tiny_llama_folder: Path, ending: str) -> None:
    loaded, stream = streamed(tiny_llama_folder)
    room, weights = stream.room, rounded(loaded)
    needs = {"grad_sq", "path", "hessian_gradient", "synflow"}

    def consume(*_: Any) -> None:
        raise KeyboardInterrupt

    steps = gradient_sweep(loaded, windows_of(loaded), needs=needs, weights=weights, nodes=1, consume=consume)
    if ending == "closed":
        for _ in range(30):
            next(steps)
            assert _is_bare(loaded)
            assert torch.is_grad_enabled()
        steps.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            run(steps)
    assert _is_bare(loaded)
    assert stream.room == room


def _is_bare(loaded: LoadedModel) -> bool:
    inside = {f"{path}." for path in _paths(loaded)}
    held = [one for name, one in loaded.model.named_parameters() if name.startswith(tuple(inside))]
    hooks = [path for path, one in loaded.model.named_modules() if one._forward_hooks or one._forward_pre_hooks]
    return all(one.is_meta and not one.requires_grad for one in held) and not hooks


def test_the_gradient_of_one_matrix_alone_is_the_same_without_streaming(folder: Path) -> None:
    resident, (loaded, _) = load(str(folder)), streamed(folder)
    batches = list(windows_of(resident).ids.split(1))
    for matrix in (quantizable_matrices(resident.model)[0], quantizable_matrices(resident.model)[-2]):
        weight = rounded(resident)[matrix.name]
        values = {matrix.name: (weight.T if matrix.transposed else weight).contiguous()}
        there, here = (run(gradient_alone(one.model, matrix, values, batches, "")) for one in (resident, loaded))
        torch.testing.assert_close(here, there, rtol=0, atol=1e-6 * float(there.abs().max()))


def test_a_limit_that_is_too_small_says_the_smallest_that_would_do(tiny_llama_folder: Path) -> None:
    loaded, stream = streamed(tiny_llama_folder)
    fit = fit_to(tiny_llama_folder)
    needs = {"hessian_step"}
    bound_memory(1000)
    with pytest.raises(WorkbenchError, match=r"smallest memory limit that would do is .* MiB") as refused:
        sweep(loaded, needs=needs, weights=rounded(loaded))
    assert "\n" not in str(refused.value)
    least = int(float(str(refused.value).split("do is ")[1].split()[0]) * 2**20)
    assert fit.smallest <= least < fit.resident
    bound_memory(least - held_bytes(loaded.model))
    assert len(sweep(loaded, needs=needs, weights=rounded(loaded))[0]) == len(quantizable_matrices(loaded.model))
    with pytest.raises(WorkbenchError, match=r"GiB of memory; the limit is"):
        sweep(loaded, needs={"grad"}, memory=1000)
    assert stream.room >= fit.block
