"""Studies of what quantization costs, held against plain computations on the same model."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.overlay import overlay
from workbench.model.texts import make_windows, read_text
from workbench.quantizers.driving.schemes import quantize_matrix
from workbench.results import dumps
from workbench.scheme import Scheme

SIZES = {"tokens": 256, "window": 32}
THREE = {"quantizer": "rtn", "bits": 3, "group_size": 64, "symmetric": False, "options": {}}


def plain_loss(loaded, windows) -> float:
    """The mean loss in float64, written down once more without any of our measures."""
    logits = loaded.model(input_ids=windows.ids).logits.double()
    chosen = logits[:, :-1].log_softmax(-1).gather(-1, windows.ids[:, 1:, None])
    return float(-chosen.mean())


def state(loaded) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}


def test_evaluate_gives_the_loss_of_the_model_with_rounded_weights(tiny_llama, texts, finish) -> None:
    before = state(tiny_llama)
    document = finish(studies.evaluate(tiny_llama, scheme=THREE, **texts, **SIZES)).document
    windows = make_windows(read_text(texts["text"]), tiny_llama.tokenizer, context=tiny_llama.context, **SIZES)
    assert document["reference"]["loss"] == pytest.approx(plain_loss(tiny_llama, windows), rel=1e-5)
    rounded = {
        matrix.name: quantize_matrix(read_weight(tiny_llama.model, matrix), None, Scheme(bits=3)).dequantize()
        for matrix in quantizable_matrices(tiny_llama.model)
    }
    with overlay(tiny_llama.model, rounded):
        expected = plain_loss(tiny_llama, windows)
    assert document["loss"] == pytest.approx(expected, rel=1e-5)
    assert document["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    assert document["delta_loss"] == pytest.approx(document["loss"] - document["reference"]["loss"], abs=1e-9)
    assert document["nominal_bits"] == 3
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_llama.model.state_dict().items())


def test_evaluate_without_a_choice_is_the_full_model(tiny_gpt2, texts, finish) -> None:
    document = finish(studies.evaluate(tiny_gpt2, text=texts["text"], **SIZES)).document
    assert document["loss"] == document["reference"]["loss"]
    assert (document["kl_mean"], document["kl_p99"], document["top1_agreement"]) == (0, 0, 1)
    assert document["stored_bits"] == 16


def test_calibration_and_evaluation_may_not_be_the_same_text(tiny_llama, texts, finish) -> None:
    same = {"calibration": texts["text"], "text": texts["text"]}
    with pytest.raises(WorkbenchError, match="are the same"):
        finish(studies.evaluate(tiny_llama, scheme=THREE, **same, **SIZES))


def test_another_model_has_no_default_text_and_the_error_names_the_flag(tiny_llama, finish) -> None:
    with pytest.raises(WorkbenchError, match="--text"):
        finish(studies.evaluate(tiny_llama, **SIZES))


def test_isolated_sensitivity_is_the_loss_change_of_one_matrix(tiny_llama, texts, finish) -> None:
    steps = studies.sensitivity(tiny_llama, bits=[2, 4], calibration=texts["calibration"], **SIZES)
    document = finish(steps).document
    matrices = quantizable_matrices(tiny_llama.model)
    assert len(document["cells"]) == 2 * len(matrices)
    windows = make_windows(read_text(texts["calibration"]), tiny_llama.tokenizer, context=tiny_llama.context, **SIZES)
    cell = next(c for c in document["cells"] if c["matrix"] == matrices[3].name and c["bits"] == 2)
    rounded = quantize_matrix(read_weight(tiny_llama.model, matrices[3]), None, Scheme(bits=2)).dequantize()
    full = plain_loss(tiny_llama, windows)
    with overlay(tiny_llama.model, {matrices[3].name: rounded}):
        assert cell["value"] == pytest.approx(plain_loss(tiny_llama, windows) - full, abs=2e-6)
    assert document["reference_loss"] == pytest.approx(full, rel=1e-6)


def test_sensitivity_continues_where_it_was_stopped(tiny_llama, texts, finish) -> None:
    context = studies.Context()
    asked = {"bits": [2, 3], "calibration": texts["calibration"], **SIZES}
    unbroken = finish(studies.sensitivity(tiny_llama, **asked)).document
    broken = studies.sensitivity(tiny_llama, **asked, context=context)
    # one cell is put away when the next one begins: stop in the middle of the sweep
    for progress in broken:
        if progress.done / progress.total > 0.55:
            break
    broken.close()
    continued = finish(studies.sensitivity(tiny_llama, **asked, context=context)).document
    assert continued["reused"] > 0
    assert continued["computed"] > 0
    assert continued["reused"] + continued["computed"] == len(unbroken["cells"])
    assert continued["cells"] == unbroken["cells"]
    again = finish(studies.sensitivity(tiny_llama, **asked, context=context)).document
    assert (again["computed"], again["cells"]) == (0, unbroken["cells"])


def test_spared_is_all_minus_all_but_one(tiny_gpt2, texts, finish) -> None:
    asked = {"bits": [2], "calibration": texts["calibration"], **SIZES}
    cells = finish(studies.sensitivity(tiny_gpt2, by="spared", **asked)).document["cells"]
    matrices = quantizable_matrices(tiny_gpt2.model)
    rounded = {
        matrix.name: quantize_matrix(read_weight(tiny_gpt2.model, matrix), None, Scheme(bits=2)).dequantize()
        for matrix in matrices
    }
    windows = make_windows(read_text(texts["calibration"]), tiny_gpt2.tokenizer, context=tiny_gpt2.context, **SIZES)
    with overlay(tiny_gpt2.model, rounded):
        together = plain_loss(tiny_gpt2, windows)
    with overlay(tiny_gpt2.model, {name: weight for name, weight in rounded.items() if name != matrices[0].name}):
        expected = together - plain_loss(tiny_gpt2, windows)
    assert cells[0]["value"] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("measure", ["loss", "kl", "output-error"])
def test_every_measure_gives_finite_cells(measure: str, tiny_gpt2, texts, finish) -> None:
    steps = studies.sensitivity(tiny_gpt2, bits=[3], measure=measure, calibration=texts["calibration"], **SIZES)
    result = finish(steps)
    assert all(math.isfinite(cell["value"]) for cell in result.document["cells"])
    assert (result.document["cells"][0]["standard_error"] is None) == (measure == "output-error")
    assert "NaN" not in dumps(result.document)


def test_unknown_words_name_the_choices(tiny_llama, texts, finish) -> None:
    asked = {"calibration": texts["calibration"], **SIZES}
    with pytest.raises(WorkbenchError, match="isolated, spared"):
        finish(studies.sensitivity(tiny_llama, by="guess", **asked))
    with pytest.raises(WorkbenchError, match="loss, kl, output-error"):
        finish(studies.sensitivity(tiny_llama, measure="guess", **asked))
    with pytest.raises(WorkbenchError, match="99"):
        finish(studies.sensitivity(tiny_llama, bits=[99], **asked))
    with pytest.raises(WorkbenchError, match="rtn"):
        finish(studies.sensitivity(tiny_llama, quantizer="nope", **asked))


def test_layer_error_falls_as_bits_are_added_and_fits_the_size_formula(tiny_llama, texts, finish) -> None:
    schemes = [{**THREE, "bits": bits} for bits in (2, 3, 4, 8)]
    result = finish(studies.layer_error(tiny_llama, schemes=schemes, calibration=texts["calibration"], **SIZES))
    table = result.tables["layer_error"]
    assert list(table["label"].unique()) == [f"rtn {bits} bit g64" for bits in (2, 3, 4, 8)]
    assert [one["bits"] for one in result.document["schemes"]] == [2, 3, 4, 8]
    for _, rows in table.groupby("matrix"):
        ordered = rows.sort_values("bits")
        assert ordered["output_error"].is_monotonic_decreasing
        assert ordered["sqnr_db"].is_monotonic_increasing
    wide = table[(table["role"] == "q_proj") & (table["bits"] == 3)]
    assert (wide["stored_bits"] == 3.5).all()
    assert (wide["parameters"] == 64 * 64).all()
    for few in ([], [THREE] * 65):
        with pytest.raises(WorkbenchError, match="1 to 64"):
            finish(studies.layer_error(tiny_llama, schemes=few, calibration=texts["calibration"], **SIZES))


def test_tradeoff_equals_evaluate_point_by_point(tiny_llama, texts, finish) -> None:
    context = studies.Context()
    points = [{"label": "three", "scheme": THREE}, {"label": "two", "scheme": {**THREE, "bits": 2}}]
    steps = studies.tradeoff(tiny_llama, points=points, **texts, **SIZES, context=context)
    found = finish(steps).document
    for point, row in zip(points, found["points"], strict=True):
        alone = finish(studies.evaluate(tiny_llama, scheme=point["scheme"], **texts, **SIZES)).document
        for key in ("perplexity", "loss", "standard_error", "delta_loss", "kl_mean", "top1_agreement", "stored_bits"):
            assert row[key] == pytest.approx(alone[key], rel=1e-9, abs=1e-12)
    again = finish(studies.tradeoff(tiny_llama, points=points, **texts, **SIZES, context=context)).document
    assert again == found


def test_a_matrix_in_detail(tiny_llama, texts, finish) -> None:
    name = quantizable_matrices(tiny_llama.model)[0].name
    calibration = {"calibration": texts["calibration"], **SIZES}
    result = finish(studies.matrix_detail(tiny_llama, matrix=name, scheme=THREE, **calibration))
    table = finish(studies.layer_error(tiny_llama, schemes=[THREE], **calibration)).tables["layer_error"]
    row = table[table["matrix"] == name].iloc[0]
    for key in ("weight_error", "output_error", "sqnr_db", "cosine", "stored_bits"):
        assert result.document[key] == pytest.approx(row[key], rel=1e-9)
    histogram = result.tables["histogram"]
    assert histogram["original"].sum() == histogram["quantized"].sum() == 64 * 64
    levels = result.tables["levels"]
    assert len(levels) == 8
    assert levels["count"].sum() == 64
    with pytest.raises(WorkbenchError, match="no matrix"):
        finish(studies.matrix_detail(tiny_llama, matrix="<b>nope</b>", scheme=THREE, **calibration))


def test_the_detail_of_a_method_with_a_table_a_row_knows_its_boundaries(tiny_llama, texts, finish) -> None:
    matrix = quantizable_matrices(tiny_llama.model)[0]
    calibration = {"calibration": texts["calibration"], **SIZES}
    scheme = {"quantizer": "codebook", "bits": 2, "group_size": -1, "symmetric": False, "options": {}}
    result = finish(studies.matrix_detail(tiny_llama, matrix=matrix.name, scheme=scheme, **calibration))
    weight = read_weight(tiny_llama.model, matrix).double()
    values = quantize_matrix(weight.float(), None, Scheme("codebook", 2, -1)).dequantize().double()
    near = 0
    for row, rounded in zip(weight.tolist(), values.tolist(), strict=True):
        levels = sorted(set(rounded))
        for value in row:
            pairs = itertools.pairwise(levels)
            near += any(abs(value - (low + high) / 2) < 0.05 * (high - low) for low, high in pairs)
    assert result.document["near_boundary_share"] == pytest.approx(near / weight.numel())
    assert result.document["levels_of"] == "row"
    assert len(result.tables["levels"]) == 4
    several = {"quantizer": "hqq", "bits": 2, "group_size": 32, "symmetric": False, "options": {}}
    grids = finish(studies.matrix_detail(tiny_llama, matrix=matrix.name, scheme=several, **calibration))
    assert grids.document["near_boundary_share"] is None


@pytest.mark.slow
def test_perplexity_grows_as_bits_go_on_a_real_model(real, finish) -> None:
    context = studies.Context()
    model = context.model(str(real))
    found = [
        finish(
            studies.evaluate(
                model,
                scheme={**THREE, "bits": bits},
                text=str(real / "sampled.txt"),
                calibration=str(real / "calibration.txt"),
                tokens=4096,
                context=context,
            )
        ).document
        for bits in (8, 4, 3, 2)
    ]
    full, perplexities = found[0]["reference"]["perplexity"], [document["perplexity"] for document in found]
    assert perplexities == sorted(perplexities)
    # at 8 bits the difference is noise of either sign
    assert perplexities[0] == pytest.approx(full, rel=0.005)
    assert 1.05 < perplexities[1] / full < 1.3
