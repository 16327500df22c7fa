"""Options that go together: a command names a group, and the console script has an option for each of its fields."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let every parameter whose type is a dataclass stand for options, one a field; the command gets the dataclass.

    Typer reads options from signatures, and knows no groups; this writes the signature that it reads.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    own = inspect.signature(command)

    @functools.wraps(command)
    def with_groups(**given: Any) -> None:
        made = {
            name: kind(**{one.name: given.pop(one.name) for one in fields(kind) if one.init})
            for name, kind in groups.items()
        }
        command(**given, **made)

    parameters: list[inspect.Parameter] = []
    for name, one in own.parameters.items():
        keyword = one.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        parameters += _options(groups[name]) if name in groups else [keyword]
    with_groups.__dict__.pop("__wrapped__", None)  # what follows is the command's whole form, for Typer too
    with_groups.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_groups.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return with_groups


def _options(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=_default(one), annotation=hints[one.name])
        for one in fields(kind)
        if one.init
    ]


def _default(one: Field[Any]) -> Any:
    return inspect.Parameter.empty if one.default is MISSING else one.default
