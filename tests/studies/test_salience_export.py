"""Scores and masks as files, scores summed to groups, channels and matrices, and the picture of a matrix."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

import workbench
from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.results import load as load_result
from workbench.results import save
from workbench.scheme import Scheme
from workbench.studies.salience_masks import top_masks
from workbench.studies.salience_scopes import ScopeTables, group_of, group_sums, picture
from workbench.vocabulary import unknown_columns


def test_masks_mark_the_top_by_matrix_row_and_model() -> None:
    torch.manual_seed(0)
    scores = {"a": torch.randn(4, 50), "b": 10 * torch.randn(6, 30)}
    by_matrix = top_masks(scores, 0.03, "matrix")
    assert [int(one.sum()) for one in by_matrix.values()] == [math.ceil(0.03 * 200), math.ceil(0.03 * 180)]
    for name, mask in by_matrix.items():
        assert scores[name].abs()[mask].min() >= scores[name].abs()[~mask].max()
    by_row = top_masks(scores, 0.03, "row")
    assert by_row["a"].sum(1).tolist() == [2] * 4
    assert by_row["b"].sum(1).tolist() == [1] * 6
    everywhere = top_masks(scores, 0.03, "global")
    assert sum(int(one.sum()) for one in everywhere.values()) == math.ceil(0.03 * 380)
    assert int(everywhere["a"].sum()) < int(everywhere["b"].sum())
    assert {one.dtype for one in everywhere.values()} == {torch.bool}
    assert [one.shape for one in everywhere.values()] == [one.shape for one in scores.values()]


def test_the_files_hold_the_scores_and_their_mask(tiny_llama, finish, tmp_path: Path) -> None:
    found = finish(studies.salience_export(tiny_llama, metric="magnitude", top=0.1))
    save(found, tmp_path / "result")
    held = load_result(tmp_path / "result")
    assert held is not None
    assert set(held.files) == {"scores.safetensors", "mask.safetensors"}
    scores, mask = (load(held.file(name)) for name in ("scores.safetensors", "mask.safetensors"))
    matrices = quantizable_matrices(tiny_llama.model)
    assert set(scores) == {matrix.name for matrix in matrices}
    for matrix in matrices:
        weight = read_weight(tiny_llama.model, matrix).abs()
        torch.testing.assert_close(scores[matrix.name], weight)
        assert int(mask[matrix.name].sum()) == math.ceil(0.1 * weight.numel())
    document = held.document
    assert document["files"] == {name: len(held.file(name)) for name in held.files}
    assert document["mask"]["kept"] == sum(int(one.sum()) for one in mask.values())
    table = held.tables["scores"]
    assert unknown_columns(table.columns) == []
    assert len(table) == sum(matrix.columns for matrix in matrices)
    assert table["score"].sum() == pytest.approx(sum(float(one.double().sum()) for one in scores.values()))


def test_a_metric_of_one_number_a_matrix_has_no_mask(tiny_llama, finish) -> None:
    found = finish(studies.salience_export(tiny_llama, metric="kl"))
    assert list(found.files) == ["scores.safetensors"]
    assert found.document["mask"] is None
    assert found.document["quantization"]["scheme"]["bits"] == 3


def test_refusals(tiny_llama, texts, monkeypatch: pytest.MonkeyPatch) -> None:
    for sentence, asked in (
        ("unknown scope of a mask 'column'", {"mask_scope": "column"}),
        ("above 0 and below 1", {"top": 1.5}),
        ("gives one number a channel", {"metric": "activation", "mask_scope": "row"}),
    ):
        with pytest.raises(WorkbenchError, match=sentence):
            workbench.run(studies.salience_export(tiny_llama, **{"metric": "magnitude", **asked}))
    monkeypatch.setattr(import_module("workbench.studies.salience_export"), "LIMIT", 1000)
    with pytest.raises(WorkbenchError, match="--tensors FILE"):
        workbench.run(studies.salience_export(tiny_llama, metric="magnitude"))


def test_sums_of_groups_keep_a_short_last_group() -> None:
    size = torch.arange(14.0).reshape(2, 7)
    assert group_sums(size, 3).tolist() == [[3, 12, 6], [24, 33, 13]]
    schemes = {"a": Scheme("rtn", 3, 32), "b": Scheme("rtn", 3, 32)}
    assert group_of(schemes) == 32
    assert group_of({"a": Scheme("rtn", 3, -1)}) == group_of(None) == 64


def test_a_picture_is_the_means_of_its_cells() -> None:
    size = torch.arange(30.0).reshape(5, 6)
    outputs, inputs, cells = picture(size, 3, 2)
    assert outputs.tolist() == [0, 2, 4]
    assert inputs.tolist() == [0, 3]
    wide = size.numpy()
    expected = [[wide[o : o + 2, i : i + 3].mean() for i in (0, 3)] for o in (0, 2, 4)]
    np.testing.assert_allclose(cells, expected)


def test_scopes_of_a_model_add_up(tiny_llama, finish) -> None:
    found = finish(studies.salience(tiny_llama, metric="magnitude"))
    scopes, matrices = found.tables["scopes"], quantizable_matrices(tiny_llama.model)
    for name in ("scopes", "scope_histogram", "scope_coverage", "picture"):
        assert unknown_columns(found.tables[name].columns) == []
    for matrix in matrices:
        weight = read_weight(tiny_llama.model, matrix).abs().double()
        mine = {row["scope"]: row for row in scopes[scopes["matrix"] == matrix.name].to_dict("records")}
        groups = -(-matrix.columns // found.document["group_size"])
        assert mine["group"]["mean"] == pytest.approx(float(weight.sum()) / (matrix.rows * groups))
        assert mine["channel"]["max"] == pytest.approx(float(weight.sum(0).max()))
        assert mine["matrix"]["mean"] == pytest.approx(float(weight.sum()))
    whole = found.tables["scope_coverage"]
    assert whole[whole["matrix"].isna()]["salience_share"].iloc[-1] == pytest.approx(1)
    assert len(found.tables["picture"]) <= 2**18


def test_metrics_of_channels_and_matrices_have_fewer_scopes(tiny_llama, texts, finish) -> None:
    for metric in ("activation", "kl"):
        calibration = {"calibration": texts["calibration"]} if metric == "activation" else {}
        found = finish(studies.salience(tiny_llama, metric=metric, tokens=256, window=64, **calibration))
        assert set(found.tables["scopes"]["scope"]) == {"matrix"}
        assert found.tables["picture"].empty


def test_many_matrices_have_smaller_pictures(tiny_llama) -> None:
    matrix, scores = quantizable_matrices(tiny_llama.model)[0], torch.rand(300, 200)
    for count, cells in ((1, 100 * 50), (1000, 300)):
        tables = ScopeTables(64, count)
        tables.add(matrix, scores)
        assert len(tables.frames()["picture"]) <= cells
