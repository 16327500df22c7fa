"""Sentences about a map: their numbers are those of the map, also where there is nothing to say."""

from __future__ import annotations

import re

import pytest
import torch
from attribution_models import LOGIT, PROMPT, explain

from workbench.attribution.adapter import Adapter
from workbench.attribution.result import Attribution
from workbench.attribution.verbalise import strongest, verbalise
from workbench.errors import WorkbenchError
from workbench.ordering import gini


def told(scores: list[float], *, signed: bool = True, gap: float | None = None) -> tuple[str, ...]:
    tokens = [f"w{place}" for place in range(len(scores))]
    found = Attribution(torch.tensor(scores, dtype=torch.float64), 1.0, relative_gap=gap)
    return verbalise(tokens, found, "logit of ' ball'", signed=signed)


def percentages(sentence: str) -> list[float]:
    return [float(number) / 100 for number in re.findall(r"([\d.]+)%", sentence)]


def test_numbers_are_those_of_the_scores() -> None:
    scores = [0.1, 2.0, -0.5, 1.4, -1.5]
    first, second, third, fourth = told(scores, gap=0.0004)
    assert first.startswith("The tokens 'w1' and 'w3' carry")
    assert percentages(first) == [round(3.4 / 3.5, 2)]
    assert "support for the logit of ' ball'" in first
    assert second.startswith("The token 'w4' carries")
    assert percentages(second) == [0.75]
    assert f"Gini {gini(torch.tensor(scores).abs()):.2f}" in third
    assert fourth == "The scores add up to what they explain within 0.04%."
    assert "take them as a ranking" in told(scores, gap=0.2)[-1]


def test_the_named_tokens_are_the_fewest_that_cover_the_mass() -> None:
    scores = torch.tensor([1.0, 5.0, 2.0, 2.0], dtype=torch.float64)
    assert strongest(scores, 0.5).positions == (1,)
    assert strongest(scores, 0.51).positions == (1, 2)
    assert strongest(scores, 1.0).positions == (1, 2, 3, 0)
    assert strongest(scores, 0.51).share == pytest.approx(0.7)
    assert len(strongest(torch.ones(40, dtype=torch.float64)).positions) == 5


def test_there_may_be_nothing_for_or_against() -> None:
    assert told([0.0, 0.0]) == ("No token moves the logit of ' ball': every score is 0.",)
    assert told([-1.0, -3.0])[:2] == (
        "No token supports the logit of ' ball'.",
        "The token 'w1' carries 75% of what speaks against it.",
    )
    single, none = told([2.0])
    assert (percentages(single), none) == ([1.0], "No token speaks against it.")
    unsigned = told([3.0, 1.0], signed=False)
    assert "does not tell for or against" in unsigned[0]
    assert not any("against it" in sentence for sentence in unsigned)


def test_a_real_map_is_told_with_its_own_tokens(llama: Adapter) -> None:
    found = explain("integrated_gradients", llama)
    tokens = llama.encode(PROMPT).tokens
    told = verbalise(tokens, found, LOGIT.label, signed=True)
    best = int(found.scores.argmax())
    assert told[0].split("'")[1] == tokens[best]
    with pytest.raises(WorkbenchError, match="2 tokens were given for 8 scores"):
        verbalise(tokens[:2], found, LOGIT.label, signed=True)
