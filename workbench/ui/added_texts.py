"""Calibration texts that a person puts together: a text that there is, with passages in front of it.

They lie in the cache folder as collections of documents (`workbench.model.text_files`), which say what was added to
what. The passages come first because quantizers read the beginning of a text alone. The text that they are added to is
read and never written. No Streamlit here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import settings
from workbench.errors import WorkbenchError
from workbench.model.text_files import COLLECTION, read_documents

MOST = 20
"""Most texts that are kept at a time."""

PASSAGES, CHARACTERS, COPIES = 64, 10_000, 64
"""Most passages of one text, most characters of one, most times that one is put in."""


@dataclass(frozen=True)
class Added:
    """What was added to which text.

    Attributes:
        base: the text that it was added to, as the controls show it.
        passages: the texts that were added.
        copies: how many times each of them stands in the text.
    """

    base: str
    passages: tuple[str, ...]
    copies: int


def folder() -> Path:
    """Where these texts lie."""
    return settings.cache_folder() / "texts"


def offered() -> dict[str, str]:
    """The texts as controls show them -> their paths, by name."""
    try:
        files = sorted(folder().glob(f"*{COLLECTION}"))
    except OSError:
        return {}
    return {path.stem: str(path) for path in files if path.is_file()}


def about(shown: str) -> Added | None:
    """What such a text is made of; None for a text that was not made here."""
    path = offered().get(shown)
    held = None if path is None else _read(path)
    return None if held is None else Added(str(held["base"]), tuple(held["added"]), int(held["copies"]))


def add(base: str, name: str, passages: Sequence[str], copies: int) -> str:
    """Write a text with passages in front; one that is made of the same things takes the place of its equal.

    A text that was made here itself keeps the passages that it has.

    Args:
        base: the text to add to, as the controls show it.
        name: the same as a TEXT name.
        passages: what is added; those that it has already count once.
        copies: times that each passage, an old one too, is put in.

    Returns:
        How controls show the new text.

    Raises:
        WorkbenchError: nothing to add or too much, a text that cannot be read, or one that cannot be written.
    """
    documents, before = read_documents(name), about(base)
    if before is not None:
        documents = documents[len(before.passages) * before.copies :]
        base, passages = before.base, [*before.passages, *passages]
    found = list(dict.fromkeys(one.strip() for one in passages if one.strip()))
    _check(found, copies)
    held = {"base": base, "added": found, "copies": copies, "documents": [*(found * copies), *documents]}
    text = json.dumps(held, ensure_ascii=False, indent=0)
    shown = _shown(base, len(found), text)
    if shown not in offered() and len(offered()) >= MOST:
        raise WorkbenchError(f"{MOST} calibration texts of your own are kept at a time; remove one first")
    _write(folder() / f"{shown}{COLLECTION}", text)
    return shown


def remove(shown: str) -> None:
    """Delete a text that was made here; nothing happens to any other."""
    path = offered().get(shown)
    if path is not None:
        Path(path).unlink(missing_ok=True)


def _check(passages: Sequence[str], copies: int) -> None:
    if not 0 < len(passages) <= PASSAGES:
        raise WorkbenchError(f"{len(passages)} passages were chosen; a calibration text takes 1 to {PASSAGES} of them")
    longest = max(len(one) for one in passages)
    if longest > CHARACTERS:
        raise WorkbenchError(f"a passage has {longest} characters; at most {CHARACTERS} are taken")
    if not 1 <= copies <= COPIES:
        raise WorkbenchError(f"copies has value {copies}; it must lie between 1 and {COPIES}")


def _shown(base: str, count: int, text: str) -> str:
    """A name that says what it is; only plain letters of the base's name come into it."""
    stem = re.sub(r"[^\w. -]+", " ", base.removesuffix(".txt")).strip(" .")[:60] or "text"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{stem} with {count} added ({digest})"


def _write(path: Path, text: str) -> None:
    """Write a file so that it is either whole or absent."""
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as stream:
            partial = Path(stream.name)
            stream.write(text)
        os.replace(partial, path)
    except (OSError, UnicodeEncodeError) as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        raise WorkbenchError(f"the calibration text could not be written: {type(error).__name__}") from error


def _read(path: str) -> dict[str, Any] | None:
    """The file's own words on itself; None for one that was not made here."""
    try:
        held = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(held, dict) and isinstance(held.get("added"), list) and isinstance(held.get("copies"), int)
    return held if whole and "base" in held else None
