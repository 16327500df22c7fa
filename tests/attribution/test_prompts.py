"""Prompts: what is added, what is shown, what is refused; and which token a text is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attribution_models import PROMPT, adapted, letters, words
from transformers import AutoTokenizer

from workbench.attribution.adapter import Adapter
from workbench.attribution.tokens import Vocabulary, encode
from workbench.errors import WorkbenchError


@pytest.fixture(scope="module")
def byte_level() -> Vocabulary:
    return Vocabulary(letters())


@pytest.fixture(scope="module")
def sentence_piece(shared_models: Path) -> Vocabulary:
    return Vocabulary(AutoTokenizer.from_pretrained(shared_models / "stories260K"))


def test_special_tokens_are_added_as_the_tokenizer_does(llama: Adapter) -> None:
    prompt = llama.encode("w17 nonsense w33")
    assert prompt.ids.tolist() == [[1, 17, 3, 33]]
    assert prompt.ids.dtype == torch.int64
    assert prompt.tokens == ("<s>", "w17", "<unk>", "w33")
    assert prompt.special == (True, False, False, False)  # an unknown word is content
    assert prompt.offsets == ((0, 0), (0, 3), (4, 12), (13, 16))


def test_a_control_token_in_the_text_is_special(llama: Adapter) -> None:
    assert llama.encode("w17 </s> w33").special == (True, False, True, False)


def test_byte_pieces_are_shown_as_bytes(byte_level: Vocabulary) -> None:
    prompt = encode(byte_level, "a wé\n€", None)
    assert prompt.tokens == ("a", " w", "<0xC3>", "<0xA9>", "\n", "<0xE2>", "<0x82>", "<0xAC>")
    assert prompt.offsets is not None
    assert prompt.offsets[2] == prompt.offsets[3]


def test_every_byte_has_a_token_and_reads_back(byte_level: Vocabulary) -> None:
    shown = [byte_level.text(index) for index in range(1, 257)]
    assert sorted(shown) == sorted([chr(b) for b in range(0x80)] + [f"<0x{b:02X}>" for b in range(0x80, 0x100)])
    assert all(byte_level.find(text) == index + 1 for index, text in enumerate(shown) if len(text) == 1)


def test_byte_fallback_and_space_marks_are_shown_as_text(sentence_piece: Vocabulary) -> None:
    prompt = encode(sentence_piece, "Once upon\n😀", 512)
    assert prompt.tokens == ("<s>", " Once", " upon", "\n", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>")
    assert prompt.special == (True, *[False] * 7)


def test_a_text_is_found_by_what_is_shown(sentence_piece: Vocabulary, byte_level: Vocabulary) -> None:
    named = sentence_piece.find(" Lily")
    assert named is not None
    assert sentence_piece.tokenizer.convert_ids_to_tokens(named) == "▁Lily"
    assert sentence_piece.find("\n") == sentence_piece.tokenizer.convert_tokens_to_ids("<0x0A>")
    assert sentence_piece.find("</s>") == 2
    assert sentence_piece.find(" xylophone") is None
    assert byte_level.find(" w") == 257
    assert byte_level.find("é") is None  # the letter é stands for the byte 0xE9, which is no é


def test_an_id_without_a_token_has_a_name(byte_level: Vocabulary) -> None:
    assert byte_level.text(5000) == "<id 5000>"


def test_a_token_that_is_stored_as_plain_text_is_shown_as_it_is() -> None:
    tokenizer = letters()
    tokenizer.add_tokens(["éa"])
    assert Vocabulary(tokenizer).text(258) == "éa"


def test_a_continuation_is_read_in_its_context(sentence_piece: Vocabulary) -> None:
    ids = sentence_piece.continuation("a girl named", " lily")
    assert [sentence_piece.text(index) for index in ids] == [" l", "ily"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the prompt is empty; at least 1 token of content is needed"),
        ("  \n", "the prompt is empty"),
        ("</s> <s>", "gives 3 tokens, 3 of them control tokens; at least 1 token of content is needed"),
        ("w4 " * 64, "has 65 tokens; the model reads at most 64"),
        ("w4 " * 4000, "has 12000 characters; at most 10000 are read"),
        ("w4 \ud800", "is not valid text at character 3"),
    ],
)
def test_bad_prompts_are_refused_with_numbers(llama: Adapter, text: str, message: str) -> None:
    with pytest.raises(WorkbenchError, match=message):
        llama.encode(text)


def test_the_longest_prompt_that_fits_is_read() -> None:
    adapter = adapted("llama")
    assert adapter.encode("w4 " * 63).ids.shape == (1, 64)
    assert Adapter(adapter.model, words(), context=8).encode(PROMPT).ids.shape == (1, 8)
    with pytest.raises(WorkbenchError, match="at most 7"):
        Adapter(adapter.model, words(), context=7).encode(PROMPT)


def test_an_empty_prompt_without_special_tokens_is_refused(byte_level: Vocabulary) -> None:
    with pytest.raises(WorkbenchError, match="the prompt is empty"):
        encode(byte_level, "", 64)
