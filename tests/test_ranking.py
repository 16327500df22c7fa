"""The tables of quantizers in the README are what their JSON files say, and those what is measured."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

import workbench
from workbench import studies
from workbench.quantizers.driving.schemes import complete_scheme, label_of
from workbench.registry import quantizers
from workbench.settings import PROJECT
from workbench.studies.context import Context

sys.path.insert(0, str(PROJECT / "tools"))
import rank_quantizers as ranking

MODELS = ("demo", "stories260K")
AGAIN = ("rtn", "gptq", "billm")


def held(model: str) -> dict[str, Any]:
    return json.loads((ranking.FOLDER / f"{model}.json").read_text(encoding="utf-8"))


def test_the_readme_holds_the_tables_of_the_measured_figures() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    shown = text.split(ranking.START)[1].split(ranking.END)[0].strip()
    assert shown == ranking.in_readme(), "run tools/rank_quantizers.py table"
    assert (ranking.FOLDER / "README.md").read_text(encoding="utf-8") == ranking.page()


@pytest.mark.parametrize("model", MODELS)
def test_every_quantizer_was_measured(model: str) -> None:
    rows = held(model)["rows"]
    assert {row["scheme"]["quantizer"] for row in rows} == set(quantizers.names())
    assert all(row["label"] == label_of(complete_scheme(row["scheme"])) for row in rows)
    assert all(row["stored_bits"] >= row["nominal_bits"] - 0.02 or row["scheme"]["bits"] is None for row in rows)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("budget", ranking.BUDGETS)
def test_within_a_budget_size_alone_chooses_and_perplexity_alone_ranks(model: str, budget: float) -> None:
    rows = held(model)["rows"]
    chosen = ranking.within_budget(rows, budget)
    assert all(budget - 1 < row["stored_bits"] < budget + ranking.SLACK for row in chosen)
    assert [row["perplexity"] for row in chosen] == sorted(row["perplexity"] for row in chosen)
    for row in chosen:
        same = [
            other
            for other in rows
            if other["scheme"]["quantizer"] == row["scheme"]["quantizer"]
            and other["scheme"]["options"].get("dense") == row["scheme"]["options"].get("dense")
            and other["stored_bits"] < budget + ranking.SLACK
        ]
        assert max(round(other["stored_bits"], 2) for other in same) == round(row["stored_bits"], 2)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_some_of_it_measured_again(model: str, request: pytest.FixtureRequest) -> None:
    document, given, name = held(model), {}, model
    if model != "demo":
        folder = request.getfixturevalue("shared_models") / model
        name, given = str(folder), {key: str(folder / file) for key, file in document["texts"].items()}
    context = Context()
    loaded = context.model(name)
    assert loaded.identity.digest == document["model"]["digest"], "run tools/rank_quantizers.py measure"
    for quantizer in AGAIN:
        row = next(row for row in document["rows"] if row["scheme"]["quantizer"] == quantizer)
        found = workbench.run(studies.evaluate(loaded, scheme=row["scheme"], context=context, **given)).document
        assert found["stored_bits"] == pytest.approx(row["stored_bits"], abs=1e-3)
        assert found["loss"] - found["reference"]["loss"] == pytest.approx(row["delta_loss"], rel=0.05, abs=1e-3)
