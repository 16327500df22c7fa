"""A prompt in the tokenizer's chat template: the template is held fixed, and only the user's words are scored."""

from __future__ import annotations

import pytest
import torch
from attribution_models import adapted, build, explain, letters, quick, words

from workbench.attribution.adapter import Adapter
from workbench.attribution.aggregate import settle
from workbench.attribution.chat import encode_chat
from workbench.attribution.pieces import Vocabulary
from workbench.attribution.questions import pose
from workbench.attribution.slots import fill, slot_ranges
from workbench.errors import WorkbenchError
from workbench.registry import attribution

TEMPLATE = (
    "{{ bos_token }} w4 {% for one in messages %}w5 {{ one['content'] | trim }} </s>{% endfor %}"
    "{% if add_generation_prompt %} w6{% endif %}"
)


def chatting(template: str | None = TEMPLATE) -> Vocabulary:
    tokenizer = words()
    tokenizer.chat_template = template
    return Vocabulary(tokenizer)


@pytest.fixture(scope="module")
def chat() -> Adapter:
    return Adapter(build("llama"), chatting().tokenizer)


def test_the_template_is_around_the_prompt_and_fixed() -> None:
    prompt = encode_chat(chatting(), " w20 w5 w21\n", 64)
    assert prompt.text == "<s> w4 w5 w20 w5 w21 </s> w6"
    assert prompt.ids.tolist() == [[1, 4, 5, 20, 5, 21, 2, 6]]
    assert prompt.fixed == (True, True, True, False, False, False, True, True)
    reference = chatting().tokenizer.apply_chat_template(
        [{"role": "user", "content": "w20 w5 w21"}], add_generation_prompt=True, return_dict=False
    )
    assert list(reference) == prompt.ids[0].tolist()


def test_a_slot_is_found_in_the_turn() -> None:
    text = "  w20 {x}"
    filled, slots = fill(text, {"x": "w5 w21"})
    prompt = encode_chat(chatting(), filled, 64)
    assert [(slot.name, start, stop) for slot, start, stop in slot_ranges(prompt, slots)] == [("x", 4, 6)]


@pytest.mark.parametrize("name", attribution.names())
def test_every_method_holds_the_template(name: str, chat: Adapter) -> None:
    posed = pose(chat, encode_chat(chat.vocabulary, "w20 w5 w21", 64), "w30")
    raw = attribution.get(name)(posed.adapter, posed.prompt.ids, posed.target, **quick(name))
    found = settle(raw, posed.prompt.fixed)
    fixed = torch.tensor(posed.prompt.fixed)
    assert found.held_fixed == posed.prompt.fixed
    assert not found.scores[fixed].any()
    assert found.scores[~fixed].any()
    assert found.value == pytest.approx(float(chat.predict(posed.prompt.ids)[30]), abs=1e-5)
    if raw.baseline is not None:  # tokens were replaced: those of the template were not
        assert not raw.scores[fixed].any()
        assert found.held_score is None


def test_occlusion_replaces_the_users_words_alone(chat: Adapter) -> None:
    posed = pose(chat, encode_chat(chat.vocabulary, "w20 w5 w21", 64), "w30")
    scores = attribution.get("occlusion")(posed.adapter, posed.prompt.ids, posed.target).scores
    for place in (3, 4, 5):
        erased = posed.prompt.ids.clone()
        erased[0, place] = 2
        lost = float(chat.predict(posed.prompt.ids)[30] - chat.predict(erased)[30])
        assert float(scores[place]) == pytest.approx(lost, abs=1e-5)


def test_a_long_turn_loses_words_and_no_template() -> None:
    prompt = encode_chat(chatting(), "w9 " + "w20 " * 70, 64, cut=True)
    assert prompt.ids.shape == (1, 64)
    assert prompt.ids[0, [0, 1, 2, 3, 61, 62, 63]].tolist() == [1, 4, 5, 20, 20, 2, 6]
    assert prompt.notes == ("the prompt has 76 tokens and there is room for 64: its first 12 were cut",)
    with pytest.raises(WorkbenchError, match="has 76 tokens; the model reads at most 64"):
        encode_chat(chatting(), "w9 " + "w20 " * 70, 64)
    with pytest.raises(WorkbenchError, match="5 tokens around the prompt are held fixed and the model reads at most 5"):
        encode_chat(chatting(), "w20", 5, cut=True)


@pytest.mark.parametrize(
    ("template", "text", "message"),
    [
        (None, "w20", "this tokenizer has no chat template; leave out chat"),
        ("{{ raise_exception('no users here') }}", "w20", "chat template of this tokenizer fails: .*no users here"),
        ("{{ nothing.at.all }}", "w20", "chat template of this tokenizer fails"),
        ("w4", "w20", "does not keep what the user says in one piece"),
        ("{{ messages[0]['content'] }} {{ messages[0]['content'] }}", "w20", "in one piece"),
        ("{{ messages[0]['content'] | upper }}", "w20 w20", None),
        ("w4 {{ messages[0]['content'] | length }} ", "w20", "in one piece"),
        (TEMPLATE, "  ", "the prompt is empty"),
        (TEMPLATE, "</s>", "gives control tokens alone"),
        (TEMPLATE, "w20 \ud800", "is not valid text at character 4"),
        (TEMPLATE, "w20 " * 4000, "has 16000 characters"),
    ],
)
def test_turns_that_cannot_be_made_are_refused(template: str | None, text: str, message: str | None) -> None:
    if message is None:  # a template that changes letters keeps the place, and the model reads what it made of them
        assert encode_chat(chatting(template), text, 64).text == "W20 W20"
        return
    with pytest.raises(WorkbenchError, match=message):
        encode_chat(chatting(template), text, 64)


def test_a_byte_level_template_without_spaces_parts_tokens_by_letters() -> None:
    tokenizer = letters()
    tokenizer.chat_template = "<|endoftext|>U:{{ messages[0]['content'] }}\nA:"
    prompt = encode_chat(Vocabulary(tokenizer), "é w", None)
    inside = [token for token, fixed in zip(prompt.tokens, prompt.fixed, strict=True) if not fixed]
    assert inside == ["<0xC3>", "<0xA9>", " w"]
    assert prompt.special[0]


def test_a_plain_prompt_is_explained_as_before() -> None:
    adapter = adapted("llama")
    assert pose(adapter, adapter.encode("w20 w5")).adapter is adapter
    assert explain("occlusion", adapter).held_fixed[0]
