"""A list of llama.cpp's tensor types, `pattern=type` between white space; a type becomes a plain grid of its width.

A pattern is found anywhere in a tensor's name, and the first that is wins (older versions of llama.cpp let the last
win: where two would differ, it is said).
"""

from __future__ import annotations

import re

from workbench.allocation.export.gguf_names import gguf_names
from workbench.allocation.export.gguf_types import OTHERS, TYPES
from workbench.allocation.importing.assemble import Document, Imported, Wanted, assemble
from workbench.errors import WorkbenchError, shown, unknown

FORM = "llama.cpp tensor-type list"
BLOCK = 32
"""Columns of a block in most types; those of the K types hold 16 or 32, with their steps in few bits."""

Line = tuple[re.Pattern[str], str]


def read(text: str, inspected: Document) -> Imported:
    """The plan.

    Raises:
        WorkbenchError: a line that is no pattern=type, an unknown type, names that GGUF does not have.
    """
    lines = [_line(one) for one in text.split()]
    names = gguf_names([matrix["name"] for matrix in inspected["matrices"]], inspected["model"]["architecture"])
    losses = ["a type's own blocks, steps and offsets are not read: a plain grid of groups of 32 stands for it"]
    wanted: dict[str, Wanted] = {}
    used: set[str] = set()
    for name, called in names.items():
        found = [line for line in lines if line[0].search(called)]
        if not found:
            continue
        used |= {line[0].pattern for line in found}
        wanted[name] = _wanted(found[0][1])
        if len({kind for _, kind in found}) > 1:
            losses.append(f"several lines name {called}: the first, {found[0][1]}, is taken (older versions: the last)")
    idle = [pattern.pattern for pattern, _ in lines if pattern.pattern not in used]
    losses += [f"the pattern {shown(one)} matches no matrix of this model" for one in idle]
    return assemble(wanted, inspected, FORM, losses)


def looks_like(text: str) -> bool:
    """Whether every word of a text is a `pattern=type`."""
    words = text.split()
    return bool(words) and all("=" in word for word in words)


def _line(word: str) -> Line:
    pattern, _, kind = word.rpartition("=")
    try:
        return re.compile(pattern), kind
    except (re.error, RecursionError) as error:
        raise WorkbenchError(f"the pattern {shown(pattern)} cannot be read: {error}") from None


def _wanted(kind: str) -> Wanted:
    written = {one.name.lower(): one for one in TYPES}
    held = written.get(kind.lower())
    if held is not None:
        return Wanted(held.bits, BLOCK, held.symmetric)
    if kind.lower() not in OTHERS:
        raise unknown("llama.cpp type", kind, (*(one.name for one in TYPES), *OTHERS))
    return Wanted(OTHERS[kind.lower()], BLOCK, False)
