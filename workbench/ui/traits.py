"""What a quantizer says it can do, for the controls of pages and the schemes that they make. No Streamlit here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.scheme import WIDTHS
from workbench.ui import defaults
from workbench.ui.defaults import Spec

Description = Mapping[str, Any]


def has_fixed_width(described: Description) -> bool:
    """Whether the method decides by itself how many bits it takes."""
    return bool(described["traits"].get("fixed_width"))


def widths(described: Description, offered: Sequence[int] = WIDTHS) -> list[int]:
    """Those of the offered widths that the method has; none where it has a width of its own."""
    return [] if has_fixed_width(described) else [b for b in offered if b in described["traits"].get("widths", WIDTHS)]


def reads_text(described: Description) -> bool:
    """Whether the weights that the method gives may depend on the calibration text."""
    return bool(described["needs"]) or described["traits"].get("scope") in ("block", "model")


def own_group(described: Description) -> int | None:
    """The one group size that the method has, -1 for whole rows; None where it can be chosen."""
    return described["traits"].get("fixed_group")


def has_grid_choice(described: Description) -> bool:
    """Whether the method has a symmetric and an asymmetric grid."""
    return not (described["traits"].get("asymmetric_only") or described["traits"].get("symmetric_only"))


def scheme(
    described: Description, bits: int | None, group: int, symmetric: bool, options: Mapping[str, Any] | None = None
) -> Spec:
    """A scheme of the method: what is chosen where it leaves a choice, else its own."""
    own = own_group(described)
    return defaults.scheme(
        described["name"],
        None if has_fixed_width(described) else bits,
        group if own is None else own,
        symmetric and has_grid_choice(described),
        options,
    )


def group_words(group: int) -> str:
    """A group size in words."""
    return "whole row" if group == -1 else str(group)


def in_words(described: Description) -> str:
    """Which widths, groups and grids the method has."""
    free = [
        *([] if has_fixed_width(described) else [f"{_listed(widths(described))} bits"]),
        *([] if own_group(described) is not None else ["groups of a chosen size"]),
    ]
    return ", ".join([*free, *fixed_words(described)])


def fixed_words(described: Description) -> list[str]:
    """What the method decides by itself, in words: width, groups, grid."""
    group, said = own_group(described), described["traits"]
    parts = {
        "a width of its own": has_fixed_width(described),
        "whole rows": group == -1,
        f"groups of {group}": group is not None and group != -1,
        "no symmetric grid": bool(said.get("asymmetric_only")),
        "always a symmetric grid": bool(said.get("symmetric_only")),
    }
    return [words for words, holds in parts.items() if holds]


def _listed(numbers: Sequence[int]) -> str:
    words = [str(number) for number in numbers]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
