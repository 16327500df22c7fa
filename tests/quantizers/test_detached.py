"""Detached weights: back at their full value, honestly counted, shared out to meet the budget."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

import workbench
from workbench.errors import WorkbenchError
from workbench.model.gradients import gradient_sweep
from workbench.model.load import LoadedModel
from workbench.model.matrices import read_weight
from workbench.model.texts import Windows, make_windows, read_text
from workbench.progress import Steps
from workbench.quantizers.arithmetic.detach_steps import detach_in_steps
from workbench.quantizers.driving.model_task import ModelTask, Weights
from workbench.quantizers.rtn import rtn
from workbench.quantizers.weight import QuantizedWeight
from workbench.quantizers.weights.detached import DenseAndSparse, detach, largest, outlier_ratios
from workbench.scheme import Scheme
from workbench.studies.choice import find_matrices


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(24, 128, generator=torch.Generator().manual_seed(3))


def test_detached_weights_have_their_full_value_and_the_others_do_not_move(weight: torch.Tensor) -> None:
    dense, mask = rtn(weight, bits=2, group_size=64), largest(weight, 0.05)
    mixed = detach(dense, weight, mask)
    values, before = mixed.dequantize(), dense.dequantize()
    assert torch.equal(values[~mask], before[~mask])
    torch.testing.assert_close(values[mask], weight[mask], rtol=0, atol=float((weight - before).abs().max()) * 2**-11)


def test_bits_are_those_of_all_that_is_held(weight: torch.Tensor) -> None:
    dense, mask = rtn(weight, bits=2, group_size=64), largest(weight, 0.005)
    mixed = detach(dense, weight, mask)
    assert isinstance(mixed, DenseAndSparse)
    assert mixed.detached == int(mask.sum()) == int(0.005 * weight.numel())
    share = mixed.detached / weight.numel()
    assert mixed.nominal_bits == pytest.approx(2 + 48 * share)
    rows = 32 * (24 + 1) / weight.numel()
    assert mixed.stored_bits == pytest.approx(dense.stored_bits + 48 * share + rows)


def test_nothing_detached_is_the_quantized_weight_itself(weight: torch.Tensor) -> None:
    dense = rtn(weight, bits=2, group_size=64)
    assert detach(dense, weight, torch.zeros_like(weight, dtype=torch.bool)) is dense
    with pytest.raises(WorkbenchError, match="cannot be detached by a mask"):
        detach(dense, weight[:1], torch.zeros(1, 128, dtype=torch.bool))


def test_ratios_meet_the_budget_and_follow_the_mean_salience() -> None:
    sizes = {"a": 1000, "b": 3000, "c": 6000}
    ratios = outlier_ratios({"a": 4.0, "b": 3.0, "c": 6.0}, sizes, 0.0025)
    assert sum(ratios[name] * sizes[name] for name in sizes) == pytest.approx(0.0025 * 10_000)
    assert ratios["a"] == pytest.approx(4 * ratios["b"])
    assert ratios["b"] == pytest.approx(ratios["c"])


def test_no_matrix_takes_more_than_ten_times_the_budget() -> None:
    sizes = {"a": 100, "b": 4950, "c": 4950}
    ratios = outlier_ratios({"a": 1e6, "b": 2.0, "c": 1.0}, sizes, 0.01)
    assert ratios["a"] == pytest.approx(0.1)
    assert sum(ratios[name] * sizes[name] for name in sizes) == pytest.approx(0.01 * 10_000)
    assert ratios["b"] == pytest.approx(2 * ratios["c"])
    assert outlier_ratios(dict.fromkeys(sizes, 0.0), sizes, 0.01) == dict.fromkeys(sizes, 0.01)
    with pytest.raises(WorkbenchError, match="must lie between 0 and"):
        outlier_ratios({"a": 1.0}, {"a": 1}, 0.2)


def test_steps_detach_the_budget_exactly_and_what_matters_most(tiny_llama: LoadedModel, tmp_path) -> None:
    (tmp_path / "text.txt").write_text("The dog sat by the door. " * 40)
    text = read_text(str(tmp_path / "text.txt"))
    windows = make_windows(text, tiny_llama.tokenizer, window=64, tokens=256, context=tiny_llama.context)
    matrices = find_matrices(tiny_llama)
    quantized = {m.name: rtn(read_weight(tiny_llama.model, m), bits=2, group_size=32) for m in matrices}
    total = sum(m.parameters for m in matrices)
    task, full = _task(tiny_llama, windows), {m.name: read_weight(tiny_llama.model, m) for m in matrices}
    masks = workbench.run(detach_in_steps(task, quantized, budget=0.01, steps=2))
    found = {name: detach(weight, full[name], masks[name]) for name, weight in quantized.items()}
    counts = [weight.detached for weight in found.values() if isinstance(weight, DenseAndSparse)]
    assert sum(counts) == int(0.01 * total)
    stored = sum(8 * weight.nbytes for weight in found.values())
    plain = sum(8 * weight.nbytes for weight in quantized.values())
    assert stored == plain + 48 * sum(counts) + 32 * sum(
        w.shape[0] + 1 for w in found.values() if w.shape and isinstance(w, DenseAndSparse)
    )
    before, after = (_path_mass(tiny_llama, windows, held) for held in (quantized, found))
    assert after < 0.99 * before  # more than a random hundredth would take away
    with pytest.raises(WorkbenchError, match="above 0 and below 1"):
        workbench.run(detach_in_steps(task, quantized, budget=1.5))


def test_one_step_detaches_the_largest_path_integrals(tiny_llama: LoadedModel, tmp_path) -> None:
    (tmp_path / "text.txt").write_text("The dog sat by the door. " * 40)
    text = read_text(str(tmp_path / "text.txt"))
    windows = make_windows(text, tiny_llama.tokenizer, window=64, tokens=256, context=tiny_llama.context)
    matrices = find_matrices(tiny_llama)
    quantized = {m.name: rtn(read_weight(tiny_llama.model, m), bits=2, group_size=32) for m in matrices}
    scores = _path_scores(tiny_llama, windows, quantized)
    changed = workbench.run(detach_in_steps(_task(tiny_llama, windows), quantized, budget=0.01, steps=1))
    inside = min(float(scores[name][mask].min()) for name, mask in changed.items() if mask.any())
    outside = max(float(scores[name][~mask].max()) for name, mask in changed.items())
    assert inside >= outside


def _task(loaded: LoadedModel, windows: Windows) -> ModelTask:
    def below(scheme: Scheme, weights: Weights | None) -> Steps[dict[str, QuantizedWeight]]:
        raise AssertionError("nothing is quantized here")

    return ModelTask(loaded, tuple(find_matrices(loaded)), windows, below)


def _path_scores(loaded: LoadedModel, windows: Windows, held: Mapping[str, QuantizedWeight]) -> dict[str, torch.Tensor]:
    scores: dict[str, torch.Tensor] = {}
    weights = {name: weight.dequantize() for name, weight in held.items()}
    workbench.run(
        gradient_sweep(
            loaded, windows, needs={"path"}, weights=weights, nodes=4,
            consume=lambda matrix, stats: scores.update({matrix.name: stats.get("path_abs")}),
        )
    )  # fmt: skip
    return scores


def _path_mass(loaded: LoadedModel, windows: Windows, held: Mapping[str, QuantizedWeight]) -> float:
    return float(sum(one.double().sum() for one in _path_scores(loaded, windows, held).values()))
