"""Which window drives the statistics: EL2N and GraNd against their definitions and against the Fisher matrix."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.gradients import gradient_sweep
from workbench.progress import run
from workbench.results import dumps
from workbench.studies.texts import calibration_windows
from workbench.studies.windows import el2n
from workbench.vocabulary import unknown_columns

SIZES: dict[str, Any] = {"tokens": 256, "window": 32}


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_squared_grand_adds_up_to_the_trace_of_the_fisher_matrix(name: str, request, texts, finish) -> None:
    loaded = request.getfixturevalue(name)
    result = finish(studies.windows(loaded, calibration=texts["calibration"], **SIZES))
    rows = result.document["windows"]
    text = calibration_windows(loaded, texts["calibration"], 256, 32)
    trace: list[float] = []
    facts = run(
        gradient_sweep(
            loaded, text, needs={"grad_sq"}, consume=lambda m, known: trace.append(known.get("grad_sq").sum().item())
        )
    )
    assert len(rows) == facts.windows == 8
    assert sum(row["grand"] ** 2 for row in rows) / 8 == pytest.approx(sum(trace), rel=1e-4)
    assert result.document["fisher_trace"] == pytest.approx(sum(trace), rel=1e-4)
    assert sum(row["loss"] for row in rows) / 8 == pytest.approx(facts.loss, rel=1e-5)
    assert sum(row["fisher_share"] for row in rows) == pytest.approx(1)
    assert all(0 <= row["el2n"] <= math.sqrt(2) for row in rows)
    assert unknown_columns(result.tables["windows"].columns) == []
    assert "Window " in result.document["verdict"]
    assert all(row["text"] and "\n" not in row["text"] for row in rows)
    assert "NaN" not in dumps(result.document)


def test_el2n_is_zero_for_the_sure_and_right_and_most_for_the_sure_and_wrong() -> None:
    sure = torch.tensor([[50.0, 0.0, 0.0], [50.0, 0.0, 0.0]])
    assert el2n(sure, torch.tensor([0, 0])) == pytest.approx(0, abs=1e-6)
    assert el2n(sure, torch.tensor([1, 2])) == pytest.approx(math.sqrt(2), rel=1e-6)
    even = torch.zeros(1, 4)
    assert el2n(even, torch.tensor([3])) == pytest.approx(math.sqrt(0.75**2 + 3 * 0.25**2), rel=1e-6)


def test_a_window_of_other_text_stands_out(tiny_llama, finish, tmp_path) -> None:
    """Seven windows alike and one unlike: the gradient of the odd one differs, and the table says which it is."""
    file = tmp_path / "text.txt"
    file.write_text("abcdefghijklmnopqrstuvwxyz012345" * 3 + "!" * 32 + "abcdefghijklmnopqrstuvwxyz012345" * 4)
    rows = finish(studies.windows(tiny_llama, calibration=str(file), window=32)).document["windows"]
    assert len({round(row["grand"], 5) for index, row in enumerate(rows) if index != 3}) == 1
    assert rows[3]["grand"] != pytest.approx(rows[0]["grand"], rel=0.01)
    assert rows[3]["text"] == "!" * 16


def test_as_a_job_and_without_a_next_token(tiny_llama_folder, texts, finish, tmp_path) -> None:
    single = tmp_path / "one.txt"
    single.write_text("x")
    spec = {"model": str(tiny_llama_folder), **SIZES}
    result = finish(studies.start("windows", {**spec, "calibration": texts["calibration"]}, studies.Context()))
    assert len(result.tables["windows"]) == 8
    with pytest.raises(WorkbenchError, match="tokens"):
        finish(studies.start("windows", {**spec, "calibration": str(single)}, studies.Context()))
