"""Text of others: as Markdown, as CSV cell, for Plotly, as token."""

import string

import pytest

from workbench.ui import escape


def test_every_punctuation_mark_is_escaped_for_markdown() -> None:
    text = escape.markdown(string.punctuation).replace(escape.JOINER, "")
    assert text == "".join("\\" + mark for mark in string.punctuation)


@pytest.mark.parametrize("text", ["plain words", "Ünïcödé 日本", "tab\there"])
def test_text_without_punctuation_is_left_alone(text: str) -> None:
    assert escape.markdown(text) == text


def test_what_streamlit_would_recognise_after_unescaping_is_broken_up() -> None:
    assert f":{escape.JOINER}" in escape.markdown(":smile:").replace("\\", "")
    assert f"https{escape.JOINER}" in escape.markdown("see https://evil.example")
    assert f"www{escape.JOINER}" in escape.markdown("www.evil.example")


def test_backticks_of_a_sentence_set_code_and_nothing_else_is_read() -> None:
    assert escape.sentence("call `a_b *c*`, not _d_") == r"call `a_b *c*`\, not \_d\_"
    assert escape.sentence("one ` alone") == escape.markdown("one ` alone")
    assert escape.sentence("an empty `` pair") == escape.markdown("an empty ") + escape.markdown(" pair")


def test_markdown_is_one_line() -> None:
    assert "\n" not in escape.markdown("a\n# b\n\n- c")


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_formulas_are_defused_for_spreadsheets(formula: str) -> None:
    assert escape.cell(formula) == "'" + formula


@pytest.mark.parametrize("value", [-1.5, 3, None, "plain", " =not a formula"])
def test_other_cells_stay(value: object) -> None:
    assert escape.cell(value) == value


def test_plotly_reads_no_markup() -> None:
    assert escape.plotly_text("<b>a</b> & c") == "&lt;b&gt;a&lt;/b&gt; &amp; c"


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" sad", "·sad"),
        ("sad", "sad"),
        ("a b", "a b"),
        ("  ", "··"),
        ("", ""),
        ("a ", "a·"),
        ("\n", "↵"),
        ("\r\n", "␍↵"),
        ("\tx", "⇥x"),
        ("<0xE2>", "⟨0xE2⟩"),
        ("<0xE2><0x82>", "⟨0xE2⟩⟨0x82⟩"),
    ],
)
def test_blanks_of_tokens_can_be_seen(token: str, shown: str) -> None:
    assert escape.visible(token) == shown
