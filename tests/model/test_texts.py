"""Texts are read safely and cut into the windows that the definition gives."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from workbench.errors import WorkbenchError
from workbench.model import text_files, texts
from workbench.model.load import LoadedModel, load
from workbench.model.texts import Text, Windows, check_disjoint, make_windows, read_text

BOS, EOS, FIRST = 0, 1, 3


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "calibration.txt").write_text("One story.\nIts end.\n\n\n\nAnother story.\n\n", encoding="utf-8")
    (tmp_path / "evaluation.txt").write_text("A third one.", encoding="utf-8")
    monkeypatch.setattr(text_files, "demo_folder", lambda: tmp_path)
    return tmp_path


def test_demo_texts_are_split_at_empty_lines(demo: Path) -> None:
    assert read_text("demo:calibration") == Text("demo:calibration", ("One story.\nIts end.", "Another story."))
    assert read_text("demo:evaluation").documents == ("A third one.",)
    with pytest.raises(WorkbenchError, match="choose one of: demo:calibration, demo:evaluation"):
        read_text("demo:training")


def test_a_file_is_one_document_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "my text.txt").write_bytes("\ufeffÄ story.\n\nMore.\n".encode())
    text = read_text(str(tmp_path / "my text.txt"))
    assert text == Text("my text.txt", ("Ä story.\n\nMore.\n",))
    assert text.sha256 == hashlib.sha256("Ä story.\n\nMore.\n".encode()).hexdigest()


@pytest.mark.parametrize(
    "name", ["", "no such file", "x" * 5000, "a\0b", "~nobody-here/x", "https://example.org/t.txt"]
)
def test_a_file_that_is_not_there(name: str) -> None:
    with pytest.raises(WorkbenchError) as refusal:
        read_text(name)
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    ("held", "said"),
    [(b"", "is empty"), (b" \n\t", "is empty"), (b"ok \xff\xfe", "not UTF-8: byte 3"), (b"a" * 41, "larger")],
)
def test_a_file_that_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bytes, said: str) -> None:
    monkeypatch.setattr(text_files, "MAX_BYTES", 40)
    (tmp_path / "t.txt").write_bytes(held)
    with pytest.raises(WorkbenchError, match=said):
        read_text(str(tmp_path / "t.txt"))


def test_what_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    for name in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(WorkbenchError, match="is not there"):
            read_text(str(name))


def test_wikitext_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(WorkbenchError, match=r"\[hub\]"):
        read_text("wikitext-2")


@pytest.mark.parametrize("allowed", [False, True])
def test_wikitext_is_joined_as_the_papers_do_and_offline_unless_allowed(
    monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    seen: list[Any] = []
    config = SimpleNamespace(HF_HUB_OFFLINE=False)

    def load_dataset(*names: str, split: str) -> dict[str, list[str]]:
        seen.append((*names, split, config.HF_HUB_OFFLINE))
        return {"text": ["", " = Title = ", "Words ."]}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(config=config, load_dataset=load_dataset))
    assert read_text("wikitext-2", allow_download=allowed).documents == ("\n\n = Title = \n\nWords .",)
    assert seen == [("Salesforce/wikitext", "wikitext-2-raw-v1", "test", not allowed)]
    assert config.HF_HUB_OFFLINE is False

    def fail(*_: str, split: str) -> None:
        raise ConnectionError(split)

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(config=config, load_dataset=fail))
    with pytest.raises(WorkbenchError, match="neither in the cache nor downloaded"):
        read_text("wikitext-2", allow_download=allowed)


def windows_of(loaded: LoadedModel, text: Text, window: int | None = 4, tokens: int | None = None) -> Windows:
    return make_windows(text, loaded.tokenizer, window=window, tokens=tokens, context=loaded.context)


def letters(ids: torch.Tensor) -> str:
    """The characters behind ids of the byte-level tokenizer, special tokens as < and >."""
    alphabet = {BOS: "<", EOS: ">"}
    return "".join(alphabet.get(number, chr(number - FIRST + 33)) for number in ids.flatten().tolist())


def test_one_document_is_one_stream_without_special_tokens(tiny_llama: LoadedModel) -> None:
    windows = windows_of(tiny_llama, Text("t", ("abcdefghij",)))
    assert [letters(row) for row in windows.ids] == ["abcd", "efgh"]
    assert (windows.window, windows.tokens, windows.name) == (4, 8, "t")
    assert windows.text_sha256 == hashlib.sha256(b"abcdefghij").hexdigest()


def test_documents_keep_their_special_tokens_and_an_end_of_text(
    tiny_llama: LoadedModel, tiny_gpt2: LoadedModel
) -> None:
    text = Text("t", ("abc", "defg", "h"))
    assert letters(windows_of(tiny_llama, text).ids) == "<abc><defg><"
    assert letters(windows_of(tiny_gpt2, text).ids) == "abc>defg"


def test_tokens_cap_the_windows(tiny_llama: LoadedModel) -> None:
    whole = Text("t", ("abcdefghijklmnop" * 100,))
    assert windows_of(tiny_llama, whole).tokens == 1600
    capped = windows_of(tiny_llama, whole, tokens=11)
    assert letters(capped.ids) == "abcdefgh"
    assert torch.equal(capped.ids, windows_of(tiny_llama, whole).ids[:2])
    many = Text("t", ("abc",) * 50)
    assert torch.equal(windows_of(tiny_llama, many, tokens=11).ids, windows_of(tiny_llama, many).ids[:2])


def test_a_long_text_is_not_encoded_to_its_end(tiny_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    real = texts._ids

    def counting(tokenizer: Any, text: str, *, special: bool) -> list[int]:
        lengths.append(len(text))
        return real(tokenizer, text, special=special)

    monkeypatch.setattr(texts, "_ids", counting)
    windows_of(tiny_llama, Text("t", ("abcd" * 100_000,)), tokens=8)
    assert sum(lengths) == 8 * texts.CHARACTERS_PER_TOKEN


def test_text_of_few_tokens_a_character_is_encoded_whole(
    monkeypatch: pytest.MonkeyPatch, tiny_llama: LoadedModel
) -> None:
    """A tokenizer that makes one token of a hundred letters: the first look is too short, the second is not."""
    monkeypatch.setattr(texts, "_ids", lambda tokenizer, text, *, special: [FIRST] * (len(text) // 100))
    assert windows_of(tiny_llama, Text("t", ("a" * 5000,)), tokens=50).tokens == 48


def test_the_window_defaults_to_the_context(tiny_llama: LoadedModel) -> None:
    text = Text("t", ("abcd" * 2000,))
    assert windows_of(tiny_llama, text, window=None).window == 128
    assert make_windows(text, tiny_llama.tokenizer, window=None, tokens=None, context=10**6).window == 2048


@pytest.mark.parametrize(
    ("window", "tokens", "said"),
    [
        (129, None, "129; it must lie between 2 and the model's context of 128"),
        (1, None, "window has value 1"),
        (-4, None, "window has value -4"),
        (64, None, "has 10 tokens; one window is 64: choose a longer text or a smaller window"),
        (8, 7, "tokens has value 7; it must be at least one window of 8"),
        (8, 0, "tokens has value 0"),
    ],
)
def test_windows_that_cannot_be(tiny_llama: LoadedModel, window: int, tokens: int | None, said: str) -> None:
    with pytest.raises(WorkbenchError, match=said):
        windows_of(tiny_llama, Text("t", ("abcdefghij",)), window, tokens)


def test_hashes_follow_their_definition(tiny_llama: LoadedModel) -> None:
    windows = windows_of(tiny_llama, Text("t", ("abcdefgh",)))
    ids = b"".join(int(number).to_bytes(8, "little") for number in windows.ids.flatten())
    assert windows.token_ids_sha256 == hashlib.sha256(ids).hexdigest()
    longer = windows_of(tiny_llama, Text("t", ("abcdefgh",)), window=8)
    assert longer.token_ids_sha256 == windows.token_ids_sha256
    assert longer.digest != windows.digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("same text",), ("same text",)),
        (("a story", "b story"), ("a  story\n\n\nb\tstory\n",)),
        (("b story",), ("a story", "b story", "c story")),
    ],
)
def test_calibration_and_evaluation_must_differ(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    for first, second in ((one, other), (other, one)):
        with pytest.raises(WorkbenchError, match="the same"):
            check_disjoint(Text("first", first), Text("second", second))


def test_different_texts_are_fine() -> None:
    check_disjoint(Text("first", ("a story", "b story")), Text("second", ("a story", "c story")))


def test_perplexity_of_a_real_model_on_its_own_text(shared_models: Path) -> None:
    """4.18 was measured independently: the first 20 windows of 256 tokens, one stream, no BOS."""
    loaded = load(str(shared_models / "stories260K"))
    text = read_text(str(shared_models / "stories260K" / "sampled.txt"))
    ids = make_windows(text, loaded.tokenizer, window=256, tokens=20 * 256, context=loaded.context).ids
    with torch.no_grad():
        logits = loaded.model(input_ids=ids, use_cache=False).logits
    loss = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert float(loss.exp()) == pytest.approx(4.18, abs=0.005)
