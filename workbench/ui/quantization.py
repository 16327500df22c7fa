"""The choice of how bits are taken: one quantizer, or a set of them, with controls for what each method leaves open.

A control has the same key on every page, as in `workbench.ui.choices`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.scheme import GROUP_SIZES, WIDTHS
from workbench.ui import controls, defaults, method_options, session, traits
from workbench.ui.defaults import Spec
from workbench.ui.escape import markdown

SCHEMES_AT_MOST = 64
"""Most combinations that the studies compare at once."""


@dataclass(frozen=True)
class SchemeSet:
    """Several quantizers at several widths.

    Attributes:
        quantizers: the chosen ones.
        schemes: every combination that there is, those of a quantizer together, in the order of the quantizers.
        widths: the chosen widths.
        group: the chosen group size.
        symmetric: the chosen grid.
    """

    quantizers: list[str]
    schemes: list[Spec]
    widths: Sequence[int]
    group: int
    symmetric: bool


def scheme(
    prefix: str = "", *, widths: Sequence[int] = defaults.WIDTHS, bits: int = 4, many: bool = False
) -> dict[str, Any]:
    """Draw a choice of quantization in one row: quantizer, width, group size, zero point, and the quantizer's options.

    Only what the method leaves open can be chosen; a sentence says what it fixes by itself.

    Args:
        prefix: set before the names of the controls, for a page with two of these.
        widths: bits that are offered.
        bits: the width chosen at first.
        many: let several widths be chosen.

    Returns:
        A scheme as in `defaults.scheme`. With `many`, its `bits` is the list of chosen widths, never empty. `bits` is
        None for a quantizer of fixed width.
    """
    known = session.descriptions("quantizers")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        name = controls.select("Quantizer", list(known), "rtn", key=f"{prefix}quantizer", width=230)
        described = known[name]
        chosen = None if traits.has_fixed_width(described) else _widths(described, prefix, widths, bits, many)
        group = 64 if traits.own_group(described) is not None else group_choice(prefix)
        symmetric = traits.has_grid_choice(described) and symmetric_choice(prefix)
    _draw_fixed([described])
    options = method_options.folded(described)
    return {**traits.scheme(described, None, group, symmetric, options), "bits": chosen}


def _widths(described: Spec, prefix: str, offered: Sequence[int], bits: int, many: bool) -> Any:
    """One width, or a sorted list of some that is never empty."""
    possible = traits.widths(described, offered)
    if many:
        return controls.segments_many("Bits", possible, possible, key=f"{prefix}widths")
    about = "Bits that hold one weight, without its share of scales and zero points."
    first = bits if bits in possible else possible[-1]
    return controls.segments("Bits", possible, first, key=f"{prefix}bits", help=about)


def group_choice(prefix: str = "") -> int:
    """Draw the choice of the group size."""
    about = "How many neighbouring weights of a row share one scale."
    sizes, show = list(GROUP_SIZES), traits.group_words
    return controls.select("Group size", sizes, 64, key=f"{prefix}group", show=show, width=130, help=about)


def symmetric_choice(prefix: str = "") -> bool:
    """Draw the choice of a grid without zero point."""
    about = "No zero point: the grid is centred on zero."
    return controls.toggle("Symmetric", key=f"{prefix}symmetric", help=about)


def several_widths(chosen: Spec) -> list[int]:
    """The chosen widths of a scheme made with `many`.

    Raises:
        WorkbenchError: the quantizer has no choice of width, so that there is nothing to compare.
    """
    if chosen["bits"] is None:
        raise WorkbenchError(
            f"Quantizer {chosen['quantizer']!r} has a fixed width; this page compares widths, so choose another "
            "quantizer."
        )
    return chosen["bits"]


def scheme_set() -> SchemeSet:
    """Draw a choice of several quantizers and widths; combinations that there are not are left out, and named.

    Raises:
        WorkbenchError: nothing is left, or more than can be compared at once.
    """
    known = session.descriptions("quantizers")
    first = [name for name in defaults.COMPARED if name in known] or list(known)[:1]
    names = controls.several("Quantizers", list(known), first, key="quantizers", help="The methods that are compared.")
    described = [known[name] for name in names]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        widths = controls.segments_many("Bits", list(WIDTHS), list(defaults.COMPARED_WIDTHS), key="widths")
        group, symmetric = group_choice(), symmetric_choice()
    _draw_fixed(described)
    _draw_missing(described, widths)
    options = method_options.folded_together(described)
    schemes = [
        traits.scheme(one, bits, group, symmetric, options[one["name"]])
        for one in described
        for bits in _possible(one, widths)
    ]
    _check_count(len(schemes), names, widths)
    return SchemeSet(names, schemes, widths, group, symmetric)


def _possible(described: Spec, widths: Sequence[int]) -> list[int | None]:
    return [None] if traits.has_fixed_width(described) else [*traits.widths(described, widths)]


def _draw_fixed(described: Sequence[Spec]) -> None:
    """Say which methods have a width, a group size or a grid of their own, so that the controls do not move them."""
    words = {one["name"]: traits.fixed_words(one) for one in described}
    told = [f"{markdown(name)}: {', '.join(fixed)}" for name, fixed in words.items() if fixed]
    if told:
        st.caption("Fixed by the method itself. " + "; ".join(told) + ".")


def _draw_missing(described: Sequence[Spec], widths: Sequence[int]) -> None:
    """Say which of the chosen combinations there are not."""
    told = []
    for one in described:
        missing = [str(bits) for bits in widths if not traits.has_fixed_width(one) and not traits.widths(one, [bits])]
        if missing:
            told.append(f"{markdown(one['name'])} at {' and '.join(missing)} {'bit' if missing == ['1'] else 'bits'}")
    if told:
        st.caption(f"Left out, because the method does not have this width: {'; '.join(told)}.")


def _check_count(count: int, names: Sequence[str], widths: Sequence[int]) -> None:
    if not count:
        raise WorkbenchError(
            f"None of the chosen quantizers ({', '.join(names)}) has one of the chosen widths "
            f"({', '.join(map(str, widths))}); choose another width."
        )
    if count > SCHEMES_AT_MOST:
        raise WorkbenchError(
            f"{count} combinations of quantizers and widths are chosen; at most {SCHEMES_AT_MOST} can be compared at "
            "once, so take some quantizers or widths away."
        )
