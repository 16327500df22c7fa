"""What a plan may choose from and must keep: quantizers, widths, limits, ties; the same on both pages of plans."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.scheme import WIDTHS
from workbench.ui import controls, defaults, method_options, quantization, session, traits
from workbench.ui.defaults import Limits, Mix, Question, Spec, Texts
from workbench.ui.escape import markdown

WAYS = {
    "isolated": "each matrix alone",
    "joint-path": "its share of all together (joint path)",
    "second-order": "gradient and curvature (second order)",
    "spared": "all but this one",
}
"""Way of the study `sensitivity` -> what a person calls it."""

COSTS = {"loss": "rise of the loss", "kl": "divergence from the full model", "output-error": "output error"}
OF_LOSS_ALONE = ("joint-path", "second-order")
SOLVED_ON = ("isolated", "joint-path", "second-order")
NO_LIMIT = 0
"""Stands for no limit among the widths: a select box shows None as nothing chosen."""


def mix_choice() -> Mix:
    """Draw which quantizers and widths a plan may mix, with the quantizers' own settings.

    Raises:
        WorkbenchError: none of the quantizers has one of the widths.
    """
    known = {name: one for name, one in session.descriptions("quantizers").items() if not traits.has_fixed_width(one)}
    about = "A plan may give each matrix another one of these. Methods of a fixed width leave nothing to choose."
    first = [name for name in defaults.Mix().quantizers if name in known] or list(known)[:1]
    names = controls.several("Quantizers to choose from", list(known), first, key="quantizers", help=about)
    described = [known[name] for name in names]
    possible = [bits for bits in WIDTHS if any(traits.widths(one, [bits]) for one in described)]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        usual = [bits for bits in defaults.WIDTHS if bits in possible] or possible
        widths = controls.segments_many("Bits", possible, usual, key="widths")
        group = quantization.group_choice()
        symmetric = any(traits.has_grid_choice(one) for one in described) and quantization.symmetric_choice()
    fixed = {one["name"]: traits.fixed_words(one) for one in described if traits.fixed_words(one)}
    if fixed:
        told = "; ".join(f"{markdown(name)}: {', '.join(words)}" for name, words in fixed.items())
        st.caption(f"Fixed by the method itself. {told}.")
    options = method_options.folded_together(described)
    able = tuple(one["name"] for one in described if traits.widths(one, widths))
    if not able:
        listed = ", ".join(map(str, widths))
        raise WorkbenchError(f"None of the chosen quantizers ({', '.join(names)}) has one of the widths {listed}.")
    return Mix(able, tuple(widths), group, symmetric, {name: options[name] for name in able})


def schemes(mix: Mix) -> list[Spec]:
    """Every quantizer of the mix at every width that it has, those of a quantizer together."""
    known = session.descriptions("quantizers")
    return [
        traits.scheme(known[name], bits, mix.group_size, mix.symmetric, mix.options.get(name))
        for name in mix.quantizers
        for bits in traits.widths(known[name], sorted(mix.widths))
    ]


def fixed_choice() -> list[Spec]:
    """Draw which methods of a fixed width are measured beside the others, none at first; a plan cannot choose them."""
    known = {name: one for name, one in session.descriptions("quantizers").items() if traits.has_fixed_width(one)}
    about = "Methods with one width of their own leave a plan nothing to choose; here each is one more point."
    names = controls.several("Methods of a fixed width, as points", list(known), [], key="fixed", help=about)
    return [traits.scheme(known[name], None, defaults.Mix().group_size, False, None) for name in names]


def cost_choice() -> tuple[str, str]:
    """Draw what a matrix is priced by; returns `measure` and `by` of the sensitivity study."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        by = controls.select(
            "Solved on what is measured with", list(WAYS), "isolated", key="by", show=WAYS.__getitem__, width=330,
            help="Each matrix alone is measured; shares and curvature come from gradients with all matrices quantized "
            "at once, much quicker, and often better below 4 bits.",
        )  # fmt: skip
        offered = ["loss"] if by in OF_LOSS_ALONE else list(COSTS)
        measure = controls.select("Cost of a matrix", offered, "loss", key="measure", show=COSTS.__getitem__, width=260)
    return measure, by


def questions(model: str, texts: Texts, mix: Mix, *, measure: str, by: str) -> dict[str, Question]:
    """The sensitivity study of each quantizer of the mix, by its name."""
    known = session.descriptions("quantizers")
    found: dict[str, Question] = {}
    for name in mix.quantizers:
        family = traits.scheme(known[name], None, mix.group_size, mix.symmetric, mix.options.get(name))
        widths = traits.widths(known[name], sorted(mix.widths))
        found[name] = defaults.sensitivity(model, texts, scheme=family, widths=widths, measure=measure, by=by)
    return found


def limits_choice(widths: Sequence[int]) -> Limits:
    """Draw the least and the most width, and whether matrices that engines fuse must be alike."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        floor = _limit("Least width", widths, "floor")
        ceiling = _limit("Most width", widths, "ceiling")
        fused = fused_choice()
    return Limits(floor, ceiling, fused)


def fused_choice() -> bool:
    """Draw the switch for ties."""
    about = "Engines that fuse q, k and v, or gate and up, need one scheme for them. What that costs is shown."
    return controls.toggle("Fused matrices alike: q, k, v; gate, up", key="fused", help=about)


def ways_choice() -> list[str]:
    """Draw which tables plans are solved on where measuring decides between them."""
    about = "A plan is solved on each of these tables; measuring decides between them and the uniform plans."
    offered, usual = list(SOLVED_ON), list(defaults.WAYS)
    return controls.several("Candidates solved on", offered, usual, key="ways", show=WAYS.__getitem__, help=about)


def _limit(label: str, widths: Sequence[int], key: str) -> int | None:
    bits = controls.select(
        label, [NO_LIMIT, *sorted(widths)], NO_LIMIT, key=key, width=130, help="Of all matrices that are not locked.",
        show=lambda bits: "none" if bits == NO_LIMIT else f"{bits} bits",
    )  # fmt: skip
    return None if bits == NO_LIMIT else bits
