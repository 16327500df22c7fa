"""Methods that work on top of another quantizer: ReQuant's detached weights and the clip that keeps a distribution."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import workbench
from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.texts import Windows, make_windows, read_text
from workbench.progress import run
from workbench.quantizers.driver import quantize_model
from workbench.quantizers.driving.schemes import complete_scheme
from workbench.quantizers.kl_precalibration import best_clip, divergence
from workbench.quantizers.rtn import rtn
from workbench.quantizers.weight import QuantizedWeight
from workbench.quantizers.weights.detached import DenseAndSparse
from workbench.studies.context import Context


@pytest.fixture
def windows(tiny_llama: LoadedModel, tmp_path: Path) -> Windows:
    (tmp_path / "text.txt").write_text("The small dog sat by the old door. It was cold. " * 20)
    text = read_text(str(tmp_path / "text.txt"))
    return make_windows(text, tiny_llama.tokenizer, window=64, tokens=256, context=tiny_llama.context)


def quantized(loaded: LoadedModel, windows: Windows, **scheme: Any) -> dict[str, QuantizedWeight]:
    one = complete_scheme({"group_size": 32, "symmetric": False, "bits": 2, **scheme})
    return run(quantize_model(loaded, {m.name: one for m in quantizable_matrices(loaded.model)}, windows)).weights


@pytest.mark.parametrize("dense", ["rtn", "gptq", "awq", "billm", "squeezellm"])
def test_requant_detaches_its_budget_from_any_quantizer(tiny_llama: LoadedModel, windows: Windows, dense: str) -> None:
    found = quantized(tiny_llama, windows, quantizer="requant", options={"dense": dense, "steps": 1, "nodes": 1})
    total, sparse = 0, 0
    for matrix in quantizable_matrices(tiny_llama.model):
        held, weight = found[matrix.name], read_weight(tiny_llama.model, matrix)
        total += weight.numel()
        if isinstance(held, DenseAndSparse):
            sparse += held.detached
            rows = torch.repeat_interleave(torch.arange(matrix.rows), held.sparse.row_start.diff())
            places = rows, held.sparse.columns.long()
            torch.testing.assert_close(held.dequantize()[places], weight[places], rtol=1e-3, atol=1e-4)
    taken = 2 * 0.0025 * total
    if dense == "squeezellm":  # which detaches weights of its own, too
        assert sparse >= 0.8 * taken
    else:
        assert 0.9 * taken <= sparse <= taken  # rounded down in each matrix, and one weight may be chosen twice


def test_requant_with_nothing_to_detach_is_the_quantizer_below(tiny_llama: LoadedModel, windows: Windows) -> None:
    options = {"dense": "gptq", "outliers": 0, "significant": 0}
    found = quantized(tiny_llama, windows, quantizer="requant", options=options)
    plain = quantized(tiny_llama, windows, quantizer="gptq")
    assert all(torch.equal(found[name].dequantize(), plain[name].dequantize()) for name in plain)


def test_requant_refuses_a_quantizer_below_that_is_none(tiny_llama: LoadedModel, windows: Windows) -> None:
    with pytest.raises(WorkbenchError, match="unknown quantizer 'nf4'"):
        quantized(tiny_llama, windows, quantizer="requant", options={"dense": "nf4"})
    with pytest.raises(WorkbenchError, match="works on top of another one itself"):
        quantized(tiny_llama, windows, quantizer="requant", options={"dense": "kl_precalibration"})


def heavy_tailed(rows: int = 64, columns: int = 256) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return 0.02 * torch.distributions.StudentT(4.0).sample(torch.Size((rows, columns)))


def test_divergence_of_the_distribution_falls_with_bits_and_is_never_negative() -> None:
    weight = heavy_tailed()
    top = float(weight.abs().max())
    found = [divergence(weight, top, bits=bits, group_size=64) for bits in (2, 3, 4, 8)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.01
    assert min(found) >= 0


def test_divergence_against_histograms_of_many_points() -> None:
    """Each rounded weight spread over its cell by a thousand points, and the bins counted."""
    weight, bits, group = heavy_tailed(16, 64), 3, 32
    limit = 0.8 * float(weight.abs().max())
    held = rtn(weight.clamp(-limit, limit), bits=bits, group_size=group)
    step = held.packed.scale.double().repeat_interleave(group, dim=1)
    points = held.dequantize().double()[..., None] + step[..., None] * (torch.arange(1000) + 0.5 - 500) / 1000
    top, bins = float(weight.abs().max()), max(8, weight.numel() // 64)
    full = torch.histc(weight.double(), bins, -top, top) / weight.numel()
    spread = torch.histc(points.clamp(-top, top), bins, -top, top) / points.numel()
    by_hand = sum(p * math.log(p / (q + 1e-12)) for p, q in zip(full.tolist(), spread.tolist(), strict=True) if p > 0)
    assert divergence(weight, limit, bits=bits, group_size=group) == pytest.approx(by_hand, rel=0.02)


def test_the_clip_is_the_best_of_those_that_are_tried_and_blind_to_places() -> None:
    weight = heavy_tailed()
    limit = best_clip(weight, bits=3, group_size=-1)
    chosen = divergence(weight, limit, bits=3, group_size=-1)
    top = float(weight.abs().max())
    assert all(chosen <= divergence(weight, share * top, bits=3, group_size=-1) + 1e-12 for share in (0.5, 0.75, 1.0))
    assert best_clip(torch.zeros(4, 64), bits=3, group_size=32) == 0.0
    rows = weight[torch.randperm(len(weight), generator=torch.Generator().manual_seed(1))]
    assert best_clip(rows, bits=3, group_size=-1) == pytest.approx(limit)


@pytest.mark.slow
@pytest.mark.parametrize("dense", ["gptq", "awq"])
@pytest.mark.parametrize("model", ["demo", "stories260K"])
def test_half_a_percent_detached_improves_perplexity(model: str, dense: str, request: pytest.FixtureRequest) -> None:
    texts, name = {}, model
    if model != "demo":
        folder = request.getfixturevalue("shared_models") / model
        name = str(folder)
        texts = {"calibration": str(folder / "calibration.txt"), "text": str(folder / "sampled.txt")}
    context = Context()
    loaded = context.model(name)

    def rise(**scheme: Any) -> float:
        steps = studies.evaluate(loaded, scheme={"bits": 3, "group_size": 64, **scheme}, context=context, **texts)
        return workbench.run(steps).document["delta_loss"]

    assert rise(quantizer="requant", options={"dense": dense}) < 0.95 * rise(quantizer=dense)
