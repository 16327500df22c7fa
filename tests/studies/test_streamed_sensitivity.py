"""Sensitivities of a model that is read block by block: those of the model in memory, and few reads of its blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench import studies
from workbench.model.fit import fit_of
from workbench.model.load import LoadedModel, load
from workbench.model.matrices import quantizable_matrices, read_weight
from workbench.model.streamed_build import layout_of
from workbench.model.streaming import WeightStream, stream_of
from workbench.model.texts import make_windows, read_text
from workbench.progress import run
from workbench.studies import streamed_changes as streaming
from workbench.studies.context import CellsInMemory, Context
from workbench.studies.single_changes import Change, Effect, Ground, single_changes

SIZES: dict[str, Any] = {"tokens": 96, "window": 32}


@pytest.fixture(params=["llama", "opt"])
def folder(request: pytest.FixtureRequest) -> Path:
    """Two families: a tied head, and projections in front of the blocks and behind them."""
    return request.getfixturevalue(f"tiny_{request.param}_folder")


def streamed(folder: Path) -> tuple[LoadedModel, WeightStream]:
    model = load(str(folder)).model
    loaded = load(str(folder), memory_limit=fit_of(layout_of(model), model.config).smallest)
    stream = stream_of(loaded.model)
    assert stream is not None
    quantizable_matrices(loaded.model)  # found by a run of the model
    return loaded, stream


def values_of(loaded: LoadedModel, texts: dict[str, str], **asked: Any) -> Any:
    chosen: dict[str, Any] = {"bits": (2,)} | SIZES | asked
    return run(studies.sensitivity(loaded, calibration=texts["calibration"], **chosen)).document["cells"]


@pytest.mark.parametrize(
    ("by", "measure"),
    [
        ("isolated", "kl"),
        ("spared", "kl"),
        pytest.param("joint-path", "loss", marks=pytest.mark.slow),
        pytest.param("second-order", "loss", marks=pytest.mark.slow),
        pytest.param("isolated", "output-error", marks=pytest.mark.slow),
    ],
)
def test_the_table_is_that_of_the_model_in_memory(folder: Path, by: str, measure: str, texts: dict[str, str]) -> None:
    asked = {"by": by, "measure": measure, "nodes": 1}
    expected, found = (values_of(one, texts, **asked) for one in (load(str(folder)), streamed(folder)[0]))
    assert [cell["matrix"] for cell in found] == [cell["matrix"] for cell in expected]
    for cell, other in zip(found, expected, strict=True):
        assert cell["value"] == pytest.approx(other["value"], abs=1e-6)
        assert cell["stored_bits"] == other["stored_bits"]
    assert max(abs(cell["value"]) for cell in found) > 1e-4


def changes_of(loaded: LoadedModel, levels: tuple[int, ...]) -> list[Change]:
    """Every matrix on even grids, the last matrix first."""

    def make(matrix: Any, count: int) -> Change:
        def weight() -> torch.Tensor:
            own = read_weight(loaded.model, matrix)
            step = 2 * own.abs().max() / count
            return (own / step).round() * step

        return Change(f"{matrix.name}/{count}", matrix, weight, matrix.name)

    return [make(matrix, count) for matrix in reversed(quantizable_matrices(loaded.model)) for count in levels]


def effects(measure: Callable[..., Any], loaded: LoadedModel, ids: torch.Tensor, **chosen: Any) -> dict[str, Any]:
    found: dict[str, list[Effect]] = {}
    changes = changes_of(loaded, chosen.pop("levels", (3,)))
    ground = Ground(loaded, ids, **chosen)
    run(measure(ground, changes, lambda one, effect: found.setdefault(one.key, []).append(effect)))
    return {key: torch.cat([one.loss for one in parts]) for key, parts in found.items()}


def ids_of(loaded: LoadedModel, texts: dict[str, str]) -> torch.Tensor:
    return make_windows(read_text(texts["calibration"]), loaded.tokenizer, context=loaded.context, **SIZES).ids


def test_passes_and_batches_do_not_show(
    tiny_opt_folder: Path, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resident, (loaded, _) = load(str(tiny_opt_folder)), streamed(tiny_opt_folder)
    ids = ids_of(loaded, texts)
    expected = effects(single_changes, resident, ids)
    monkeypatch.setattr(streaming, "CHANGES_AT_ONCE", 5)
    found = effects(streaming.streamed_changes, loaded, ids, at_once=3)
    assert found.keys() == expected.keys()
    for key, losses in found.items():
        torch.testing.assert_close(losses, expected[key], rtol=0, atol=1e-6)


def test_a_pass_reads_every_block_once_however_many_changes_there_are(
    tiny_opt_folder: Path, texts: dict[str, str]
) -> None:
    loaded, stream = streamed(tiny_opt_folder)
    ids = ids_of(loaded, texts)
    counts = []
    for levels in ((3,), (3, 7, 15)):
        stream.forget()
        stream.reads.clear()
        effects(streaming.streamed_changes, loaded, ids, levels=levels)
        counts.append(dict(stream.reads))
    assert counts[0] == counts[1]
    assert set(counts[0].values()) == {2}, "once without a change, once with all of them"


def test_a_sweep_that_was_stopped_goes_on(
    tiny_llama_folder: Path, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "CHANGES_AT_ONCE", 4)
    resident, (loaded, _) = load(str(tiny_llama_folder)), streamed(tiny_llama_folder)
    expected = values_of(resident, texts)
    cells = CellsInMemory()
    steps = studies.sensitivity(loaded, calibration=texts["calibration"], bits=(2,), context=Context(cells), **SIZES)
    while len(cells._cells) < 3:
        next(steps)
    steps.close()
    assert "loss" in next(reversed(cells._cells.values()))
    assert all(one.is_meta for name, one in loaded.model.named_parameters() if ".layers." in name)
    result = run(
        studies.sensitivity(loaded, calibration=texts["calibration"], bits=(2,), context=Context(cells), **SIZES)
    ).document
    assert [one["value"] for one in result["cells"]] == pytest.approx([one["value"] for one in expected], abs=1e-6)
    # in memory the same cells are found, under the same keys
    again = run(
        studies.sensitivity(resident, calibration=texts["calibration"], bits=(2,), context=Context(cells), **SIZES)
    ).document
    assert again["computed"] == 0


def test_rounds_stop_where_they_do_in_memory(tiny_llama_folder: Path, texts: dict[str, str]) -> None:
    asked = {"precision": 0.9, "bits": (2, 8), "tokens": 320}
    models = load(str(tiny_llama_folder)), streamed(tiny_llama_folder)[0]
    expected, found = (values_of(one, texts, **asked) for one in models)
    assert [one["tokens"] for one in found] == [one["tokens"] for one in expected]
    assert len({one["tokens"] for one in found}) > 1
    assert [one["value"] for one in found] == pytest.approx([one["value"] for one in expected], abs=1e-6)


def test_window_scores_are_those_of_the_model_in_memory(folder: Path, texts: dict[str, str]) -> None:
    models = load(str(folder)), streamed(folder)[0]
    sizes: dict[str, Any] = {"tokens": 64, "window": 32, "calibration": texts["calibration"]}
    expected, found = (run(studies.windows(one, **sizes)).document["windows"] for one in models)
    for key in ("loss", "el2n", "grand"):
        assert [one[key] for one in found] == pytest.approx([one[key] for one in expected], rel=1e-6)
