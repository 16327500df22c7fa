"""Targets: how they are written, what they compute, what is refused."""

from __future__ import annotations

import pytest
import torch
from attribution_models import IDS, PROMPT

from workbench.attribution.adapter import Adapter
from workbench.attribution.targets import Target, parse_target, top_tokens
from workbench.errors import WorkbenchError


def test_values_are_those_of_torch() -> None:
    logits = torch.randn(3, 10, dtype=torch.float64)
    chances = logits.log_softmax(-1)
    torch.testing.assert_close(Target("logit", (4,), ("a",)).value(logits), logits[:, 4])
    torch.testing.assert_close(Target("logprob", (4,), ("a",)).value(logits), chances[:, 4])
    contrast = Target("contrast", (4, 7), ("a", "b")).value(logits)
    torch.testing.assert_close(contrast, chances[:, 4] - chances[:, 7])


def test_an_empty_target_is_the_models_own_choice(llama: Adapter) -> None:
    prompt = llama.encode(PROMPT)
    best = int(llama.model(IDS).logits[0, -1].argmax())
    assert parse_target(llama, prompt).token_ids == (best,)
    assert parse_target(llama, prompt, "logprob:").kind == "logprob"
    assert parse_target(llama, prompt, "logprob:").token_ids == (best,)


@pytest.mark.parametrize(
    ("written", "contrast", "kind", "ids"),
    [
        ("w20", None, "logit", (20,)),
        (" w20", None, "logit", (20,)),
        ("logit:w20", "", "logit", (20,)),
        ("id:20", None, "logit", (20,)),
        ("logprob:id:95", None, "logprob", (95,)),
        ("logprob:</s>", None, "logprob", (2,)),
        ("w20", "w21", "contrast", (20, 21)),
        ("logprob:w20", "id:21", "contrast", (20, 21)),
    ],
)
def test_spellings(llama: Adapter, written: str, contrast: str | None, kind: str, ids: tuple[int, ...]) -> None:
    target = parse_target(llama, llama.encode(PROMPT), written, contrast)
    assert (target.kind, target.token_ids) == (kind, ids)
    assert target.texts == tuple(llama.vocabulary.text(index) for index in ids)
    assert target.notes == ()


@pytest.mark.parametrize(
    ("written", "contrast", "message"),
    [
        ("id:96", None, "target 'id:96' is not a token id; write id: and a whole number from 0 to 95"),
        ("id:-1", None, "not a token id"),
        ("id:1e1", None, "not a token id"),
        ("id:", None, "not a token id"),
        ("w20", "id:x", "contrast 'id:x' is not a token id"),
        ("w20", "id:20", "same token 'w20'"),
        (" ", None, "target ' ' gives no token"),
        ("nonsense", None, "target 'nonsense' is unknown to this tokenizer"),
        ("x" * 10_001, None, "target has 10001 characters"),
        ("w20", "\udfff", "contrast is not valid text"),
    ],
)
def test_bad_targets_are_refused(llama: Adapter, written: str, contrast: str | None, message: str) -> None:
    with pytest.raises(WorkbenchError, match=message):
        parse_target(llama, llama.encode(PROMPT), written, contrast)


def test_a_text_of_several_tokens_stands_for_its_first(stories: Adapter) -> None:
    target = parse_target(stories, stories.encode("Once upon a time, there was a girl named"), " lily")
    assert target.texts == (" l",)
    assert target.notes == ("the target ' lily' is 2 tokens (' l', 'ily'); its first, ' l', is explained",)


def test_a_whole_word_is_one_token(stories: Adapter) -> None:
    prompt = stories.encode("Once upon a time, there was a girl named")
    target = parse_target(stories, prompt, " Lily", " Timmy")
    assert target.label == "logit of ' Lily' minus logit of ' Timmy'"
    assert target.notes == ()
    assert parse_target(stories, prompt).texts == (" Lily",)


def test_a_forgotten_space_is_pointed_out(stories: Adapter) -> None:
    prompt = stories.encode("Once upon a time, there was a girl named")
    assert "' a' is another token" in parse_target(stories, prompt, "a").notes[0]
    assert parse_target(stories, prompt, " a").notes == ()
    assert parse_target(stories, prompt, ".").notes == ()


def test_top_tokens_are_in_order_and_their_chances_add_up(llama: Adapter) -> None:
    logits = llama.predict(IDS)
    rows = top_tokens(llama, logits, 500)
    assert len(rows) == 96
    assert [row["logit"] for row in rows] == sorted(logits.tolist(), reverse=True)
    assert sum(torch.tensor(row["logprob"]).exp() for row in rows) == pytest.approx(1.0, abs=1e-5)
    assert rows[0]["id"] == int(logits.argmax())
    assert rows[0]["token"] == llama.vocabulary.text(rows[0]["id"])
