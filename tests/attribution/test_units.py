"""Words, sentences and slots of many scripts and tokenizers, and the scores of units."""

# ruff: noqa: RUF001 - letters of other scripts are what is tested

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from attribution_models import IDS, PROMPT, adapted, build, explain, letters
from transformers import AutoTokenizer

from workbench.attribution import aggregate
from workbench.attribution.adapter import Adapter
from workbench.attribution.aggregate import Units, cut, gather, gathering, unit_rows
from workbench.attribution.questions import pose
from workbench.attribution.slots import fill
from workbench.attribution.spans import range_texts, ranges
from workbench.attribution.tokens import Prompt
from workbench.errors import WorkbenchError

DEMO = Path(__file__).resolve().parents[2] / "data" / "demo"
TEXTS = {
    "emoji": ("OK 😀👍🏽 yes", ["OK", "😀👍🏽", "yes"]),
    "family": ("a 👨\u200d👩\u200d👧! b", ["a", "👨\u200d👩\u200d👧", "!", "b"]),
    "glued emoji": ("hi😀there", ["hi", "😀", "there"]),
    "accents": ("cafe\u0301 noir", ["cafe\u0301", "noir"]),
    "hebrew with vowels": ("שָׁלוֹם עולם", ["שָׁלוֹם", "עולם"]),
    "arabic": ("مرحبا بالعالم؟", ["مرحبا", "بالعالم", "؟"]),
    "hindi": ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया", "।"]),
    "zero-width": ("می\u200cخواهم تو", ["می\u200cخواهم", "تو"]),
    "markup": ("<b>no</b>", ["<", "b", ">", "no", "</", "b", ">"]),
}


def reader(name: str, shared_models: Path) -> Adapter:
    tokenizer = (
        letters()
        if name == "letters"
        else AutoTokenizer.from_pretrained(DEMO if name == "demo" else shared_models / "stories260K")
    )
    return Adapter(build("llama"), tokenizer, context=512)


@pytest.fixture(scope="module", params=["letters", "demo", "stories260K"])
def reading(request: pytest.FixtureRequest, shared_models: Path) -> Adapter:
    """A byte-level tokenizer without merges, and two of SentencePiece's make with byte fallback."""
    return reader(request.param, shared_models)


def content(prompt: Prompt, adapter: Adapter, scale: str) -> list[str]:
    cuts = [one for one in ranges(adapter, prompt.ids, scale) if not prompt.special[one[0]]]  # type: ignore[arg-type]
    return range_texts(adapter, prompt.ids, cuts)


@pytest.mark.parametrize("name", list(TEXTS))
def test_words_are_whole_in_every_script(name: str, reading: Adapter) -> None:
    text, expected = TEXTS[name]
    prompt = reading.encode(text)
    assert len(prompt.tokens) > len(expected)
    assert content(prompt, reading, "word") == expected


def test_every_scale_holds_every_token_once(reading: Adapter) -> None:
    prompt = reading.encode(" ".join(text for text, _ in TEXTS.values()))
    for scale in ("token", "word", "clause", "sentence"):
        cuts = ranges(reading, prompt.ids, scale)
        assert [place for first, stop in cuts for place in range(first, stop)] == list(range(len(prompt.tokens)))


def test_sentences_of_other_scripts(reading: Adapter) -> None:
    text = "今天。明天！「好。」走 كيف؟ نعم. क्या। हाँ"
    expected = ["今天。", "明天！", "「好。」", "走 كيف؟", "نعم.", "क्या।", "हाँ"]
    assert content(reading.encode(text), reading, "sentence") == expected


def test_a_text_that_ends_within_a_character_shows_its_bytes(reading: Adapter) -> None:
    whole = reading.encode("yes 😀")
    prompt = whole.take(range(len(whole.tokens) - 1))
    assert content(prompt, reading, "word") == ["yes", "<0xF0><0x9F><0x98>"]


def test_a_token_of_half_a_character_stays_with_its_word() -> None:
    """GPT-2's merges join a space with the first bytes of an emoji."""
    tokenizer = letters()
    adapter = Adapter(build("llama"), tokenizer)
    data = {1: b"hi", 2: b" \xf0\x9f", 3: b"\x98\x80", 4: b" ok"}
    adapter.vocabulary.data = data.__getitem__  # type: ignore[method-assign]
    adapter.tokenizer.decode = lambda ids, **_: "".join(str(i) for i in ids)  # type: ignore[method-assign]
    ids = torch.tensor([[1, 2, 3, 4]])
    assert ranges(adapter, ids, "word") == [(0, 1), (1, 3), (3, 4)]
    assert range_texts(adapter, ids, [(0, 1), (1, 3), (3, 4), (1, 2), (2, 3)])[:3] == ["hi", "😀", "ok"]


def test_units_of_signed_scores_add_up_to_the_tokens(reading: Adapter) -> None:
    filled, slots = fill("Say {what}: 😀 ok. Bye {who} now", {"what": "no way", "who": "Anna"})
    prompt = reading.encode(filled)
    units = cut(reading, prompt, slots)
    scores = torch.randn(len(prompt.tokens), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for scale in ("token", "word", "sentence", "slot"):
        rows = unit_rows(reading, prompt, units, scale, scores, "sum")
        assert sum(row["score"] for row in rows) == pytest.approx(float(scores.sum()))
        assert [row["start"] for row in rows][1:] == [row["end"] for row in rows][:-1]
        row = rows[-1]
        assert row["score"] == pytest.approx(float(scores[row["start"] : row["end"]].sum()))
    named = {row["slot"]: row["text"] for row in unit_rows(reading, prompt, units, "slot", scores, "sum")}
    assert (named["what"], named["who"]) == ("no way", "Anna")


def test_sizes_without_a_sign_are_not_added(llama: Adapter) -> None:
    assert (gathering(None, True), gathering(None, False), gathering("mean", True)) == ("sum", "max", "mean")
    scores = torch.tensor([1.0, -3.0, 2.0, 5.0], dtype=torch.float64)
    cuts = [(0, 3), (3, 4)]
    assert gather(scores, cuts, "max").tolist() == [-3.0, 5.0]
    assert gather(scores, cuts, "mean").tolist() == [0.0, 5.0]
    assert gather(scores, [], "max").tolist() == []
    with pytest.raises(WorkbenchError, match="unknown way to gather scores 'median'; choose one of: sum, max, mean"):
        gathering("median", True)


def test_a_granularity_is_checked() -> None:
    assert aggregate.check_granularity(None, []) is None
    with pytest.raises(WorkbenchError, match="unknown granularity 'line'; choose one of: token, word, sentence, slot"):
        aggregate.check_granularity("line", [])
    with pytest.raises(WorkbenchError, match="no slots were given"):
        aggregate.check_granularity("slot", [])


def test_what_is_explained_has_words_of_its_own(stories: Adapter) -> None:
    posed = pose(stories, stories.encode("there was a girl named"), "continuation: Lily and", " Li")
    cuts = ranges(posed.adapter, posed.prompt.ids, "word")
    texts = range_texts(posed.adapter, posed.prompt.ids, cuts)
    assert texts[-4:] == ["named", "Lily", "and", "Li"]
    assert ranges(posed.adapter, posed.prompt.ids, "sentence")[-2:] == [cuts[-3][:1] + cuts[-2][1:], cuts[-1]]


def test_slots_are_fields_or_texts() -> None:
    filled, slots = fill("{a} and {b}, {a} {c} x", {"a": "one", "b": "two", "x": "{c}"})
    assert filled == "one and two, one {c} x"
    assert [(slot.name, filled[slot.start : slot.stop]) for slot in slots] == [
        ("a", "one"),
        ("b", "two"),
        ("a", "one"),
        ("x", "{c}"),
    ]
    assert fill("{a}", None) == ("{a}", [])
    assert fill("{ab} {a}", {"a": "1", "ab": "2"})[0] == "2 1"


@pytest.mark.parametrize(
    ("prompt", "slots", "message"),
    [
        ("x", {"a": "y"}, r"slot 'a' is not in the prompt: neither the field \{a\} nor its text 'y'"),
        ("{a}", {"a": ""}, "slot 'a' has value ''; give a name and a text"),
        ("{a}", {"": "x"}, "slot '' has value 'x'"),
        ("{a}", {"a": 3}, "slot 'a' has value 3"),
        ("one two", {"a": "one t", "b": "two"}, "slots 'a' and 'b' overlap"),
    ],
)
def test_bad_slots_are_refused(prompt: str, slots: dict[str, str], message: str) -> None:
    with pytest.raises(WorkbenchError, match=message):
        fill(prompt, slots)


def test_slots_without_a_token_of_their_own_are_refused(llama: Adapter) -> None:
    def place(prompt: Prompt, text: str, slots: dict[str, str]) -> Units:
        return cut(llama, prompt, fill(text, slots)[1])

    text = "w4w5 w6"
    with pytest.raises(WorkbenchError, match="slot 'b' has no token of its own"):
        place(llama.encode(text), text, {"a": "w4", "b": "w5"})
    long = "w7 " + "w4 " * 70
    with pytest.raises(WorkbenchError, match="slot 'a' has no token of its own: it was cut"):
        place(llama.encode(long, cut=True), long, {"a": "w7"})
    slow = Prompt("w4", IDS, ("a",) * 8, None, (False,) * 8)
    with pytest.raises(WorkbenchError, match="cannot tell where its tokens stand"):
        place(slow, "w4", {"a": "w4"})


def test_a_slot_is_found_behind_what_was_cut() -> None:
    adapter = adapted("llama")
    text = "w4 " * 4000 + "w9 w8 w7"
    prompt = adapter.encode(text, cut=True)
    placed = cut(adapter, prompt, fill(text, {"end": "w8 w7"})[1]).slots
    assert [(prompt.tokens[start:stop]) for _, start, stop in placed] == [("w8", "w7")]


@pytest.mark.parametrize("name", ["integrated_gradients", "occlusion"])
def test_words_of_whole_word_tokens_score_as_tokens(name: str, llama: Adapter) -> None:
    prompt = llama.encode(PROMPT)
    found: Callable[[str], list[float]] = lambda scale: [  # noqa: E731
        row["score"]
        for row in unit_rows(llama, prompt, cut(llama, prompt, []), scale, scores, "sum")  # type: ignore[arg-type]
    ]
    scores = explain(name, llama).scores
    assert found("token") == found("word") == pytest.approx(scores.tolist())
