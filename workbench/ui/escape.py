"""Text of others (prompts, tokens, file names, error sentences), made safe for each place it is shown in.

`st.text`, `st.code(language=None)` and table cells show text as it is and need nothing. Everything that Streamlit
reads as Markdown (labels, captions, `st.error`, options of pills and radios) goes through `markdown`, since even
plain Markdown fetches remote images. Plotly reads a small HTML of its own, and spreadsheets read formulas.
"""

from __future__ import annotations

import re
import string

JOINER = "\u2060"
"""WORD JOINER: takes no room, and breaks up what Streamlit would still recognise after Markdown escapes are undone."""

_PUNCTUATION = re.compile("([" + re.escape(string.punctuation) + "])")
_SECOND_PASS = re.compile(r"(:(?=[\w+-])|https?(?=:)|www(?=\.)|@|(?<=[<-])-|-(?=>))", re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def markdown(text: object) -> str:
    """The text as Markdown that renders as exactly that text, on one line.

    Every ASCII punctuation mark gets a backslash. Emoji short codes, icon and colour directives, bare links and
    arrows are recognised by Streamlit in the text *after* the backslashes are gone; an invisible WORD JOINER breaks
    those up.
    """
    line = " ".join(str(text).split("\n"))
    return _PUNCTUATION.sub(r"\\\1", _SECOND_PASS.sub(rf"\1{JOINER}", line))


def sentence(text: str) -> str:
    """As `markdown`, for sentences of ours: what stands between backticks is set as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return markdown(text)
    return "".join(f"`{part}`" if place % 2 and part.strip() else markdown(part) for place, part in enumerate(parts))


def cell(value: object) -> object:
    """A value for a CSV file: text that a spreadsheet would run as a formula gets a leading apostrophe."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value


def plotly_text(text: object) -> str:
    """Text for Plotly's titles, labels and hover boxes, where `<b>` and `&lt;` would otherwise be read as markup."""
    return visible(str(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def visible(token: str) -> str:
    """A token's text with its blanks made visible: `·` for a space at an end, `↵` for a line break, `⇥` for a tab.

    A byte that is no whole character, `<0xE2>`, is set as `⟨0xE2⟩`.
    """
    text = re.sub(r"<0x([0-9A-Fa-f]{2})>", r"⟨0x\1⟩", token)
    text = text.replace("\r", "␍").replace("\n", "↵").replace("\t", "⇥")
    body = text.strip(" ")
    start = len(text) - len(text.lstrip(" "))
    end = len(text) - start - len(body) if body else 0
    return "·" * start + body + "·" * end
