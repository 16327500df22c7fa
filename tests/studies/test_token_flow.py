"""The flow from a token to groups of weights: sums that must hold, and rounding that must not be seen where none is."""

from __future__ import annotations

import pytest
import torch

import workbench
from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.model.matrices import quantizable_matrices
from workbench.results import dumps
from workbench.vocabulary import unknown_columns

PROMPT = "the cat sat on a mat"
GROUPED = {"quantizer": "rtn", "bits": 2, "group_size": 32}


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2"])
def test_groups_add_up_matrix_by_matrix(model: str, request: pytest.FixtureRequest, finish) -> None:
    loaded = request.getfixturevalue(model)
    result = finish(studies.token_flow(loaded, prompt=PROMPT, scheme=GROUPED))
    document, frame = result.document, result.tables["flow"]
    matrices = quantizable_matrices(loaded.model)
    assert [one["name"] for one in document["matrices"]] == [matrix.name for matrix in matrices]
    assert document["position"] == len(document["tokens"]) - 1
    assert document["groups"] == len(frame) == sum(-(-matrix.columns // 32) for matrix in matrices)
    for one in document["matrices"]:
        part = frame[frame["matrix"] == one["name"]]
        assert part["flow"].sum() == pytest.approx(one["flow"], rel=1e-5, abs=1e-6)
        assert part["input"].tolist() == list(range(0, 32 * len(part), 32))
    sizes = frame["flow"].abs()
    assert [abs(one["flow"]) for one in document["top"]] == sorted(sizes, reverse=True)[:20]
    assert document["top_share"] == pytest.approx(sum(sorted(sizes)[-20:]) / sizes.sum())
    assert (frame["group_error"] > 0).any()
    assert "NaN" not in dumps(document)
    assert unknown_columns(frame.columns) == []


def test_fewer_bits_have_larger_errors_and_the_flow_does_not_see_them(tiny_llama: LoadedModel) -> None:
    found = {
        bits: workbench.run(studies.token_flow(tiny_llama, prompt=PROMPT, scheme={"quantizer": "rtn", "bits": bits}))
        for bits in (2, 8, 16)
    }
    errors = {bits: result.tables["flow"]["group_error"] for bits, result in found.items()}
    assert (errors[2] > errors[8])[errors[8] > 0].mean() > 0.9
    assert errors[16].isna().all()
    assert found[16].tables["flow"]["flow_lost"].isna().all()
    flows = [torch.tensor(result.tables["flow"]["flow"].tolist()) for result in found.values()]
    assert torch.equal(flows[0], flows[1])
    assert torch.equal(flows[0], flows[2])


def test_other_tokens_and_refusals(tiny_llama: LoadedModel) -> None:
    first = workbench.run(studies.token_flow(tiny_llama, prompt=PROMPT, position=0)).document
    last = workbench.run(studies.token_flow(tiny_llama, prompt=PROMPT)).document
    assert first["position"] == 0
    assert first["top"] != last["top"]
    # behind the last attention nothing of an earlier token reaches the prediction
    assert all(one["flow"] == 0 for one in first["matrices"] if one["block"] == 1 and "mlp" in one["name"])
    with pytest.raises(
        WorkbenchError, match=f"position has value 99; this prompt has the tokens 0 to {last['position']}"
    ):
        workbench.run(studies.token_flow(tiny_llama, prompt=PROMPT, position=99))
    with pytest.raises(WorkbenchError, match="top has value 0"):
        workbench.run(studies.token_flow(tiny_llama, prompt=PROMPT, top=0))
