"""Fields of a document that anybody may have written, each checked before it is used."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.errors import WorkbenchError, shown


def whole(document: Mapping[str, Any], name: str, usual: int | None, place: str) -> int:
    """A whole number; `usual` where the field is not there.

    Raises:
        WorkbenchError: it is missing, or no whole number.
    """
    value = document.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int):
        raise WorkbenchError(f"{name} of {place} has value {shown(value)}; it should be a whole number")
    return value


def truth(document: Mapping[str, Any], name: str, usual: bool, place: str) -> bool:
    """True or false; `usual` where the field is not there.

    Raises:
        WorkbenchError: something else.
    """
    value = document.get(name, usual)
    if not isinstance(value, bool):
        raise WorkbenchError(f"{name} of {place} has value {shown(value)}; it should be true or false")
    return value


def mapping(value: Any, place: str) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        WorkbenchError: something else.
    """
    if not isinstance(value, Mapping):
        raise WorkbenchError(f"{place} has value {shown(value)}; it should be an object")
    return value


def no_such_matrix(name: str, known: Sequence[str]) -> WorkbenchError:
    """The error for a name that the model does not have, with the nearest ones."""
    near = ", ".join(difflib.get_close_matches(name[:200], known, n=3, cutoff=0.0))
    return WorkbenchError(f"the model has no matrix {shown(name)}; the nearest names are: {near}")
