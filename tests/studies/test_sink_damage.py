"""What sinks cost: against maps and damage cells by hand; nothing where nothing is quantized or nothing is kept."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

import workbench
from workbench import studies
from workbench.attribution.adapter import Adapter
from workbench.attribution.heads import watch_attention
from workbench.attribution.held_states import block_states
from workbench.attribution.sinks import Sinks, find_sinks
from workbench.model.load import LoadedModel
from workbench.model.overlay import overlay
from workbench.results import dumps
from workbench.studies.attribute import quantized_weights
from workbench.studies.context import Context
from workbench.studies.sink_damage import answer, damage_on_sinks, layer_table, look, marks, panel
from workbench.vocabulary import unknown_columns

PROMPT = "A bird sat on the tall tree."
RTN = {"quantizer": "rtn", "bits": 2}


class Case:
    """A tiny model, its sinks with a limit that makes some, and its quantized weights."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.adapter = Adapter(loaded.model, loaded.tokenizer, loaded.context)
        self.ids = self.adapter.encode(PROMPT).ids
        free = find_sinks(self.adapter, self.ids)
        limit = float(free.phi.max(0).values.sort().values[-3])
        self.sinks = find_sinks(self.adapter, self.ids, limit=limit)
        self.weights = workbench.run(quantized_weights(loaded, RTN, None, None, Context())) or {}
        self.loaded = loaded


def test_rows_are_those_of_the_attention_maps(tiny_llama: LoadedModel) -> None:
    case = Case(tiny_llama)
    assert len(case.sinks.positions) == 2
    seen = look(case.adapter, case.ids, case.sinks)
    maps: list[torch.Tensor] = []
    watch_attention(case.adapter, case.ids, lambda layer: maps.append(layer.probabilities.double()))
    first, watched = case.sinks.positions[0], case.sinks.positions
    rows = [at for at in range(case.ids.shape[1]) if at > first and at not in watched]
    for layer, share in enumerate(seen.shares):
        expected = sum(float(maps[layer][:, row, watched].sum()) for row in rows) / (len(rows) * len(maps[layer]))
        assert share == pytest.approx(expected, rel=1e-6)
    assert seen.phi == pytest.approx(case.sinks.phi[:, watched].max(1).values.tolist(), rel=1e-6)


def test_losses_are_those_of_the_model_itself_and_all_tokens_kept_mend_all_but_the_last_block(
    tiny_llama: LoadedModel,
) -> None:
    case = Case(tiny_llama)
    full = answer(case.adapter, case.ids)
    with torch.no_grad():
        logits = tiny_llama.model(input_ids=case.ids).logits[0]
    assert full.losses.tolist() == pytest.approx(
        cross_entropy(logits[:-1], case.ids[0, 1:], reduction="none").tolist(), abs=1e-5
    )
    states = block_states(case.adapter, case.ids)
    everything = torch.ones(case.ids.shape[1], dtype=torch.bool)
    before_last = {name: weight for name, weight in case.weights.items() if "layers.1." not in name}
    with overlay(tiny_llama.model, before_last):
        moved = answer(case.adapter, case.ids)
        kept = answer(case.adapter, case.ids, states, everything)
        nothing = answer(case.adapter, case.ids, states, ~everything)
    assert (moved.losses - full.losses).abs().max() > 1e-3
    torch.testing.assert_close(kept.logits, full.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(kept.losses, full.losses, atol=1e-5, rtol=0)
    assert torch.equal(nothing.logits, moved.logits)


def test_shares_of_a_damage_map_whose_answer_is_known() -> None:
    parts = torch.tensor([[3.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, -1.0, 1.0]], dtype=torch.float64)
    phi = torch.tensor([[1.0, 1.0, 9.0, 1.0], [9.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    found = damage_on_sinks(parts, Sinks((0,), phi, torch.tensor([5.0, 5.0], dtype=torch.float64)))
    assert (found["watched"], found["are_sinks"]) == ([0, 2], True)
    assert found["by_matrix"] == [0.75, 0.0, 0.5]
    assert found["share"] == pytest.approx(5 / 8)
    assert (found["damage"], found["even_share"]) == (3.0, 0.5)


def test_nothing_is_lost_where_nothing_is_quantized(tiny_llama: LoadedModel) -> None:
    whole = {"quantizer": "rtn", "bits": 16}
    found = workbench.run(studies.attention_maps(tiny_llama, prompt=PROMPT, scheme=whole))
    for name in ("value", "loss", "kl"):
        one = found.document["sink_damage"][name]
        assert (one["damage"], one["left"], one["sinks"], one["share"]) == (0, 0, 0, None)
    layers = found.tables["sink_layers"]
    assert layers["full_share"].tolist() == layers["quantized_share"].tolist()
    assert layers["full_phi"].tolist() == layers["quantized_phi"].tolist()
    sinks = workbench.run(studies.damage_map(tiny_llama, prompt=PROMPT, scheme=whole)).document["sinks"]
    assert (sinks["damage"], sinks["share"], set(sinks["by_matrix"])) == (0, 0, {0.0})
    assert workbench.run(studies.attention_maps(tiny_llama, prompt=PROMPT)).document["sink_damage"] is None


def test_documents_of_a_quantized_model(tiny_gpt2: LoadedModel) -> None:
    maps = workbench.run(studies.attention_maps(tiny_gpt2, prompt=PROMPT, scheme=RTN))
    held = maps.document["sink_damage"]
    assert held["kl"]["damage"] == pytest.approx(maps.document["kl"], rel=1e-3)
    assert held["kl"]["left"] == pytest.approx(maps.document["repair"]["kl"], rel=1e-3)
    assert held["value"]["sinks"] == pytest.approx(held["value"]["damage"] - held["value"]["left"])
    damage = workbench.run(studies.damage_map(tiny_gpt2, prompt=PROMPT, scheme=RTN))
    cells, sinks = damage.tables["damage"], damage.document["sinks"]
    on = cells[cells["position"].isin(sinks["watched"])]
    assert sinks["share"] == pytest.approx(on["damage"].abs().sum() / cells["damage"].abs().sum())
    assert sinks["damage"] == pytest.approx(on["damage"].sum())
    for table in (maps.tables["sink_layers"], damage.tables["damage_on_sinks"]):
        assert unknown_columns(table.columns) == []
    assert "NaN" not in dumps([maps.document, damage.document])


def test_the_last_token_alone_has_no_prediction_and_no_row_behind_it(tiny_llama: LoadedModel) -> None:
    """A sink at the end: nothing looks at it from behind."""
    case = Case(tiny_llama)
    phi = torch.ones_like(case.sinks.phi)
    phi[:, -1] = 9
    sinks = Sinks(case.sinks.dimensions, phi, torch.full((2,), 5.0, dtype=torch.float64))
    seen = look(case.adapter, case.ids, sinks)
    assert layer_table(seen, seen)["full_share"].isna().all()
    found = panel(seen, seen, seen.answer, sinks, "x")
    assert found["predictions"] == case.ids.shape[1] - 1
    assert int(marks(sinks).sum()) == 1
