"""Where a model looks: the numbers of the study against the maps that transformers gives."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import workbench
from workbench import studies
from workbench.errors import WorkbenchError
from workbench.model.load import LoadedModel
from workbench.results import load as load_result
from workbench.results import save
from workbench.studies.attention_reading import summaries
from workbench.vocabulary import unknown_columns

PROMPT = "A bird sat on the tall tree."
RTN = {"quantizer": "rtn", "bits": 2}


def maps_of(loaded: LoadedModel, ids: list[int]) -> torch.Tensor:
    """Attention [layer head tok tok] of a copy of the model that is always eager."""
    model: Any = AutoModelForCausalLM.from_config(
        copy.deepcopy(loaded.model.config), attn_implementation="eager"
    ).eval()
    model.load_state_dict(loaded.model.state_dict())
    with torch.no_grad():
        return torch.cat(model(torch.tensor([ids]), output_attentions=True).attentions).double()


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_numbers_are_those_of_the_maps(name: str, request: pytest.FixtureRequest, finish) -> None:
    loaded = request.getfixturevalue(name)
    found = finish(studies.attention_maps(loaded, prompt=PROMPT, layer=1, head=2))
    document, tables = found.document, found.tables
    maps, count = maps_of(loaded, document["ids"]), len(document["tokens"])
    assert (document["layers"], document["heads"]) == (2, 4) == tuple(maps.shape[:2])
    assert all(unknown_columns(table.columns) == [] for table in tables.values())
    last = torch.tensor(tables["attention_last"]["attention"].tolist()).reshape(2, 4, count).double()
    torch.testing.assert_close(last, maps[:, :, -1], atol=1e-5, rtol=0)
    one = tables["attention_map"]
    dense = torch.zeros(count, count, dtype=torch.float64)
    dense[one["position"].tolist(), one["key"].tolist()] = torch.tensor(one["attention"].tolist()).double()
    torch.testing.assert_close(dense, maps[1, 2], atol=1e-5, rtol=0)
    identity, rolled = torch.eye(count, dtype=torch.float64), torch.eye(count, dtype=torch.float64)
    for layer in maps.mean(1):
        rolled = (identity + layer) / 2 @ rolled
    assert document["rollout"] == pytest.approx(rolled[-1].tolist(), abs=1e-5)
    assert document["rollout_without_sinks"] == pytest.approx(document["rollout"])  # there are none
    heads = tables["attention_heads"]
    assert heads["mean_first_share"].tolist() == pytest.approx(maps[:, :, 1:, 0].mean(-1).flatten().tolist(), abs=1e-5)
    assert heads["mean_sink_share"].isna().all()
    layers = tables["attention_layers"]
    assert layers["mean_first_share"].tolist() == pytest.approx(maps[:, :, 1:, 0].mean((1, 2)).tolist(), abs=1e-5)
    assert document["kl"] == pytest.approx(0, abs=1e-6)
    assert document["repair"] is None


def test_summaries_of_heads_whose_answer_is_known() -> None:
    even = torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None]
    one_back = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    found = summaries(torch.stack([even, torch.eye(4), one_back]), None)
    assert found["spread"] == pytest.approx([4, 1, 1])
    assert found["distance"] == pytest.approx([1.5, 0, 1])
    assert found["first_share"] == pytest.approx([0.25, 0, 0])
    assert found["mean_spread"] == pytest.approx([3, 1, 1])
    assert found["mean_first_share"] == pytest.approx([(1 / 2 + 1 / 3 + 1 / 4) / 3, 0, 1 / 3])
    assert torch.tensor(found["sink_share"]).isnan().all()


def test_sinks_are_told_left_out_and_weighed(tiny_llama: LoadedModel) -> None:
    """A limit below every phi but the largest makes a sink without a change of the model."""
    free = workbench.run(studies.attention_maps(tiny_llama, prompt=PROMPT))
    sizes = free.tables["attention_tokens"].pivot(index="block", columns="position", values="phi").max()
    limit = float(sizes.sort_values().iloc[-2:].mean())
    found = workbench.run(studies.attention_maps(tiny_llama, prompt=PROMPT, limit=limit))
    (sink,) = found.document["sinks"]["positions"]
    assert sink == sizes.idxmax()
    maps = maps_of(tiny_llama, found.document["ids"])
    tokens = found.tables["attention_tokens"]
    with_sink = sorted(set(tokens["block"][tokens["sink"]]))
    count = len(found.document["tokens"])
    assert found.tables["attention_layers"]["count"].tolist() == [int(layer in with_sink) for layer in range(2)]
    for layer in with_sink:
        shares = found.tables["attention_heads"].query("block == @layer")["mean_sink_share"].tolist()
        expected = maps[layer, :, sink + 1 :, sink].mean(-1)
        if sink < count - 1:
            assert shares == pytest.approx(expected.tolist(), abs=1e-5)
    assert sum(found.document["rollout_without_sinks"]) == pytest.approx(1)
    if len(with_sink) == 2 and sink < count - 1:
        assert found.document["rollout_without_sinks"][sink] == pytest.approx(0, abs=1e-9)


def test_a_quantized_model_is_asked_about_the_same_tokens(tiny_llama: LoadedModel, tmp_path) -> None:
    full = workbench.run(studies.attention_maps(tiny_llama, prompt=PROMPT))
    found = workbench.run(studies.attention_maps(tiny_llama, prompt=PROMPT, scheme=RTN))
    assert found.document["ids"] == full.document["ids"]
    assert found.document["sinks"] == full.document["sinks"]
    assert found.document["kl"] > 1e-3
    before, after = (one.tables["attention_heads"]["spread"] for one in (full, found))
    assert (before - after).abs().max() > 1e-3
    repair = found.tables["repair"]
    assert unknown_columns(repair.columns) == []
    assert found.document["repair"]["watched"] == [0]
    assert found.document["repair"]["kl"] == pytest.approx(repair["kl_kept"][0], rel=1e-3)
    assert repair["kl_kept"].min() < found.document["kl"]
    save(found, tmp_path / "result")
    assert load_result(tmp_path / "result") is not None


def test_nothing_is_left_to_repair_where_nothing_is_quantized(tiny_llama: LoadedModel) -> None:
    found = workbench.run(studies.attention_maps(tiny_llama, prompt=PROMPT, scheme={"quantizer": "rtn", "bits": 16}))
    assert found.document["kl"] == pytest.approx(0, abs=1e-6)
    assert found.tables["repair"]["kl_kept"].abs().max() < 1e-6


def test_refusals(tiny_gpt2: LoadedModel) -> None:
    for sentence, asked in (
        ("layer has value 2; this model has the layers 0 to 1", {"layer": 2}),
        ("head has value 4; this model has the heads 0 to 3", {"layer": 0, "head": 4}),
        ("head 1 was given without its layer", {"head": 1}),
        ("the prompt is empty", {"prompt": ""}),
    ):
        with pytest.raises(WorkbenchError, match=sentence):
            workbench.run(studies.attention_maps(tiny_gpt2, **{"prompt": PROMPT} | asked))


def test_a_real_model_repairs_most_by_its_last_token(real) -> None:
    context = studies.Context()
    spec = {"model": str(real), "prompt": "Once upon a time, there was a little girl named", "scheme": RTN}
    found = workbench.run(studies.start("attention_maps", spec, context))
    repair = found.tables["repair"]
    assert repair["kl_kept"].idxmin() == len(repair) - 1
    assert repair["kl_kept"].min() < 0.8 * found.document["kl"]
