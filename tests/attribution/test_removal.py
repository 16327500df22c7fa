"""Tokens removed one set after the other: the model is asked once a set, and exact scores win every comparison."""

from __future__ import annotations

import pytest
import torch
from attribution_models import CONTRAST, IDS, LOGIT, Toy, ToyConfig, words

import workbench
from workbench.attribution.adapter import Adapter
from workbench.errors import WorkbenchError
from workbench.registry import attribution
from workbench.studies.map_scores import Judge
from workbench.studies.removal import Removal, marked_units


@pytest.fixture
def adding() -> Adapter:
    """A model whose logits are sums over the tokens, so that integrated gradients are the summands."""
    torch.manual_seed(0)
    return Adapter(Toy(ToyConfig(power=1)).double().eval(), words())


def test_exact_scores_of_a_sum_beat_every_random_order(adding: Adapter) -> None:
    scores = attribution.get("integrated_gradients")(adding, IDS, LOGIT).scores
    judge = Judge(Removal(adding, IDS, LOGIT), orders=50)
    workbench.run(judge.prepare())
    found = workbench.run(judge.judge(scores, signed=True))
    reverse = workbench.run(judge.judge(-scores, signed=True))
    assert found["infidelity"] == pytest.approx(0, abs=1e-10)
    assert list(found["sensitivity_n"].values()) == pytest.approx([1, 1, 1])
    for name in ("deletion", "insertion"):
        assert found[f"{name}_z"] > 1 > -1 > reverse[f"{name}_z"]
        assert found[f"{name}_percentile"] >= 0.99


def test_values_are_those_of_the_model_on_the_other_prompt(llama: Adapter) -> None:
    removal = Removal(llama, IDS, CONTRAST, classes=(5, 70))
    assert (removal.units, removal.classes, removal.baseline) == (7, [40, 70, 5], "eos")
    keep = torch.tensor([[True] * 7, [True, False, True, True, False, True, True]])
    logits = llama.model(torch.cat([IDS, torch.tensor([[1, 17, 2, 90, 8, 2, 12, 45]])])).logits[:, -1].detach()
    torch.testing.assert_close(removal.target_value(keep), CONTRAST.value(logits).double(), atol=1e-5, rtol=0)
    shares = logits.softmax(-1)[:, [40, 70, 5]].double()
    torch.testing.assert_close(removal.probabilities(keep), shares, atol=1e-6, rtol=0)
    torch.testing.assert_close(removal.measure("logprob")(keep), shares[:, 0].log(), atol=1e-5, rtol=0)


def test_every_set_is_put_to_the_model_once(llama: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    removal, rows = Removal(llama, IDS, LOGIT), []
    plain = Adapter.read_logits
    monkeypatch.setattr(Adapter, "read_logits", lambda self, embeds: rows.append(len(embeds)) or plain(self, embeds))
    keep = torch.eye(7, dtype=torch.bool)
    expected = workbench.run(removal.measured(lambda: removal.target_value(torch.cat([keep, keep])), "twice"))
    assert sum(rows) == 7
    assert torch.equal(removal.target_value(keep), expected[:7])
    assert sum(rows) == 7


def test_marked_text_is_found_in_tokens() -> None:
    offsets = [(0, 0), (0, 3), (3, 7), (7, 11)]
    places = torch.tensor([1, 2, 3])
    assert marked_units(offsets, "the cat sat", ["cat"], places).tolist() == [False, True, False]
    assert marked_units(offsets, "the cat sat", ["t s", "the"], places).tolist() == [True, True, True]
    assert marked_units(offsets, "the cat sat", [[2, 3]], places).tolist() == [
        False,
        True,
        False,
    ]
    assert marked_units(None, "the cat sat", [[1, 4]], places).tolist() == [True] * 3
    with pytest.raises(WorkbenchError, match="are no span"):
        marked_units(offsets, "the cat sat", [[2, 99]], places)
    for found, text in ((None, "cat"), (offsets, "dog"), (offsets, "")):
        with pytest.raises(WorkbenchError):
            marked_units(found, "the cat sat", [text], places)
