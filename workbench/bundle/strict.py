"""What is let in at all: names of files, and strict JSON; and how a bundle is refused."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from workbench.errors import shown

MANIFEST, CELLS = "manifest.json", "cells.json"
HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
ENDINGS = (".json", ".parquet", ".safetensors")
NAME = re.compile(
    r"manifest\.json|cells\.json"
    r"|results/[0-9a-f]{64}/[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\.(json|parquet|safetensors)"
    r"|statistics/[A-Za-z0-9][A-Za-z0-9_.-]{0,249}\.safetensors",
    re.ASCII,
)
"""Every name that a bundle may hold: no path leads out of it, none is hidden, none needs quoting on any system."""


class Fault(Exception):
    """What is wrong with a bundle, as the end of a sentence; `opening` names the file in front of it."""


def check_name(name: str) -> None:
    """Refuse what is no name of a file in a bundle.

    Raises:
        Fault: the name leads out of the bundle, is hidden, or has another ending.
    """
    if not NAME.fullmatch(name):
        raise Fault(
            f"it holds a file named {shown(name)}; a bundle holds {MANIFEST}, {CELLS}, results/KEY/NAME and "
            f"statistics/NAME alone, with the endings {', '.join(ENDINGS)}"
        )


def parse_json(raw: bytes, what: str) -> Any:
    """Strict JSON in UTF-8: no NaN, no Infinity, no key twice.

    Raises:
        Fault: it is something else.
    """
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Fault(f"{what} is no JSON ({shown(str(error), 60)})") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) < len(pairs):
        raise ValueError("it holds a key twice")
    return held
