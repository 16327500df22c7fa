"""What a scheme asks of its quantizer: its options checked, and what the method fixes by itself filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.model.sites import SiteStatistics
from workbench.model.weightstats import WeightStatistics
from workbench.quantizers.weight import QuantizedWeight
from workbench.registry import Method, quantizers
from workbench.scheme import UNTOUCHED, WIDTHS, Scheme


def complete_scheme(document: Mapping[str, Any] | Scheme) -> Scheme:
    """A scheme with its quantizer looked up and its options checked and completed.

    A method with a group size of its own (a whole row, a block) gets it whatever was chosen.

    Raises:
        WorkbenchError: unknown quantizer or option, a width that the quantizer does not have, or a symmetric grid where
            it has none.
    """
    scheme = document if isinstance(document, Scheme) else Scheme.from_json(document)
    method = quantizers.get(scheme.quantizer)
    _check_width(method, scheme.bits)
    if scheme.symmetric and method.traits.get("asymmetric_only"):
        raise WorkbenchError(f"quantizer {method.name!r} has no symmetric grid; leave symmetric off")
    group = method.traits.get("fixed_group", scheme.group_size)
    symmetric = scheme.symmetric and not method.traits.get("symmetric_only")
    return Scheme(scheme.quantizer, scheme.bits, group, symmetric, method.parse_options(scheme.options))


def _check_width(method: Method, bits: int | None) -> None:
    if method.traits.get("fixed_width"):
        if bits is not None:
            raise WorkbenchError(f"quantizer {method.name!r} has a fixed width and takes no bits; {bits} given")
        return
    widths = tuple(method.traits.get("widths", WIDTHS))
    choices = ", ".join(map(str, widths))
    if bits is None:
        raise WorkbenchError(f"quantizer {method.name!r} needs bits; choose one of: {choices}")
    if bits not in (*widths, UNTOUCHED):
        raise WorkbenchError(f"quantizer {method.name!r} has no {bits} bits; choose one of: {choices}")


def arguments_of(scheme: Scheme) -> dict[str, Any]:
    """The keywords that a scheme's quantizer is called with."""
    widths = {} if scheme.bits is None else {"bits": scheme.bits}
    return {**widths, "group_size": scheme.group_size, "symmetric": scheme.symmetric, **scheme.options}


def quantize_matrix(weight: Tensor, stats: SiteStatistics | WeightStatistics | None, scheme: Scheme) -> QuantizedWeight:
    """One matrix `[out, in]` under one complete scheme of a method that looks at single matrices.

    Raises:
        WorkbenchError: the method looks at more than one matrix, or whatever it refuses.
    """
    method = quantizers.get(scheme.quantizer)
    if method.traits["scope"] != "matrix":
        raise WorkbenchError(f"quantizer {method.name!r} looks at a whole {method.traits['scope']}, not at a matrix")
    return method(weight, stats, **arguments_of(scheme))


def reads_text(scheme: Scheme) -> bool:
    """Whether the weights that a scheme gives depend on the calibration text: by itself, or by the quantizer below."""
    method = quantizers.get(scheme.quantizer)
    if scheme.bits == UNTOUCHED:
        return False
    if method.traits["scope"] == "model":
        return bool(method.needs) or reads_text(inner_scheme(scheme.options["dense"], scheme))
    return bool(method.needs) or method.traits["scope"] == "block"


def inner_scheme(name: str, outer: Scheme) -> Scheme:
    """The scheme of the quantizer below another one: the same width and groups, its own default options.

    Raises:
        WorkbenchError: no such quantizer, one that cannot have that width, or one that works on top of another itself.
    """
    traits = quantizers.get(name).traits
    if traits["scope"] == "model":
        raise WorkbenchError(f"quantizer {name!r} works on top of another one itself; choose a plain quantizer")
    bits = None if traits.get("fixed_width") else outer.bits
    return complete_scheme(Scheme(name, bits, outer.group_size, outer.symmetric))


def label_of(scheme: Scheme) -> str:
    """A short name of a complete scheme that tells it from others: width, group, and options that are not defaults."""
    options = {one.name: one.default for one in quantizers.get(scheme.quantizer).options}
    others = [f"{name} {value}" for name, value in scheme.options.items() if value != options.get(name)]
    return ", ".join([scheme.label, *others])
