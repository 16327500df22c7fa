"""Several tokens in one line, as a person writes them. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence


def read_tokens(text: str) -> list[str]:
    """Token texts with commas between them; quotation marks keep the blanks and commas inside them."""
    found, rest = [], text.strip()
    while rest:
        if rest[0] == '"' and '"' in rest[1:]:
            one, _, rest = rest[1:].partition('"')
            rest = rest.strip().removeprefix(",")
        else:
            one, _, rest = rest.partition(",")
            one = one.strip()
        found += [one] if one else []
        rest = rest.strip()
    return found


def quoted(tokens: Sequence[str]) -> str:
    """The line that `read_tokens` reads as these tokens, unless one of them holds a quotation mark."""
    return ", ".join(f'"{one}"' for one in tokens)
