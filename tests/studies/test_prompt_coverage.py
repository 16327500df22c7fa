"""A prompt against the calibration text: the text itself is covered, and the numbers are those of the gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr

import workbench
from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices
from workbench.studies.prompt_verdict import coverage_of, summary, verdict
from workbench.vocabulary import unknown_columns

SMALL = {"tokens": 256, "window": 64}
PROMPT = "A bird sat on the tall tree and sang."


def snip(loaded: LoadedModel, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """|w dL/dw| by the model's own loss on one sequence."""
    model, matrices = loaded.model, quantizable_matrices(loaded.model)
    parameters = [model.get_parameter(matrix.name) for matrix in matrices]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            loss: Any = model(input_ids=ids, labels=ids).loss
        gradients = torch.autograd.grad(loss, parameters)
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
    return {m.name: (p.detach() * g).abs() for m, p, g in zip(matrices, parameters, gradients, strict=True)}


def test_numbers_are_those_of_gradient_times_weight(tiny_llama: LoadedModel, texts, finish) -> None:
    chosen = {"calibration": texts["calibration"], "tokens": 64, "window": 64}
    found = finish(studies.prompt_coverage(tiny_llama, prompt=PROMPT, **chosen))
    assert unknown_columns(found.tables["prompt_coverage"].columns) == []
    assert unknown_columns(found.tables["channels"].columns) == []
    own = torch.tensor([tiny_llama.tokenizer(PROMPT)["input_ids"]])
    assert found.document["tokens"] == own.shape[1]
    text = Path(texts["calibration"]).read_text(encoding="utf-8")
    standard = torch.tensor([tiny_llama.tokenizer(text, add_special_tokens=False)["input_ids"][:64]])
    mine, other = snip(tiny_llama, own), snip(tiny_llama, standard)
    for row in found.document["matrices"]:
        channels = [scores[row["matrix"]].double().sum(0) for scores in (mine, other)]
        assert row["spearman"] == pytest.approx(spearmanr(*channels).statistic, abs=0.02)
        weights = [scores[row["matrix"]].flatten() for scores in (mine, other)]
        count = -(-len(weights[0]) // 100)
        tops = [set(one.topk(count).indices.tolist()) for one in weights]
        assert row["weight_overlap"] == pytest.approx(len(tops[0] & tops[1]) / count, abs=0.03)


def test_a_prompt_that_is_the_text_is_covered(tiny_gpt2: LoadedModel, texts) -> None:
    text = Path(texts["calibration"]).read_text(encoding="utf-8")
    ids = tiny_gpt2.tokenizer(text)["input_ids"][:64]
    prompt = tiny_gpt2.tokenizer.decode(ids)
    chosen = {"calibration": texts["calibration"], "tokens": 64, "window": 64}
    document = workbench.run(studies.prompt_coverage(tiny_gpt2, prompt=prompt, **chosen)).document
    assert document["prompt_summary"]["overlap"] == 1
    assert document["prompt_summary"]["weight_overlap"] == 1
    assert document["prompt_summary"]["spearman"] == pytest.approx(1)
    assert document["covered"] == "yes"
    assert document["verdict"].startswith("Covered: ")
    assert len(document["passages"]) == 12
    assert document["passage_tokens"] == 64


def one(overlap: float, weights: float, spearman: float | None) -> dict[str, Any]:
    found = {"overlap": overlap, "weight_overlap": weights, "spearman": spearman}
    return {"common": round(40 * overlap), "salient": 40, **found}


def test_the_verdict_counts_what_lies_below_every_passage() -> None:
    passages = [one(0.2, 0.1, 0.4), one(0.4, 0.2, 0.6)]
    cases = {"yes": one(0.2, 0.1, 0.4), "partly": one(0.1, 0.2, 0.5), "no": one(0.1, 0.05, 0.3)}
    for answer, prompt in cases.items():
        assert coverage_of(prompt, passages) == answer
    assert "One lies below" in verdict(cases["partly"], passages)
    assert "All lie below" in verdict(cases["no"], passages)
    assert "too short" in verdict(cases["yes"], [])
    assert coverage_of(one(0.2, 0.1, None), passages) == "yes"
    rows = [{"common": 1, "salient": 1, "weight_overlap": 0.5, "spearman": None}, {**one(0, 0.1, 0.2), "salient": 3}]
    assert summary(rows)["overlap"] == pytest.approx(1 / 4)
    assert summary(rows)["weight_overlap"] == pytest.approx(0.3)
    assert summary(rows)["spearman"] == 0.2


def test_refusals(tiny_gpt2: LoadedModel, texts) -> None:
    chosen = {"calibration": texts["calibration"], **SMALL}
    for sentence, asked in (
        ("the prompt has 1 token;", {"prompt": "a"}),
        ("the prompt has 0 tokens", {"prompt": ""}),
        ("above 0 and below 1", {"prompt": PROMPT, "top": 0.0}),
    ):
        with pytest.raises(WorkbenchError, match=sentence):
            workbench.run(studies.prompt_coverage(tiny_gpt2, **asked, **chosen))
