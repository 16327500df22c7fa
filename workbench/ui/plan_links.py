"""From the spec of a study that decides on plans back to the controls that lead to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workbench.allocation.budgets import read_size
from workbench.ui.budget import UNITS, size_key
from workbench.ui.defaults import Spec
from workbench.ui.mixing import NO_LIMIT


def choices_of(spec: Spec) -> Iterator[tuple[str, Any]]:
    """The controls' keys and values of a study `allocate`, `guarded` or `front`; locks lie on the `Desk`."""
    yield from (("quantizers", spec["quantizers"]), ("widths", spec["bits"]))
    yield from (("group", spec["group_size"]), ("symmetric", spec["symmetric"]), ("fused", bool(spec["ties"])))
    for quantizer, options in spec["options"].items():
        yield from ((f"{quantizer}.{name}", value) for name, value in options.items())
    yield from ((key, spec[key] or NO_LIMIT) for key in ("floor", "ceiling") if key in spec)
    yield from ((key, spec[key]) for key in ("ways", "rules") if spec.get(key))
    if "budgets" in spec:
        yield from (("budgets", ", ".join(f"{one:g}" for one in spec["budgets"])), ("swaps", spec["refine_seconds"]))
    elif "max_kl" in spec:
        yield from _guard(spec)
    else:
        yield from _budget(spec)


def _budget(spec: Spec) -> Iterator[tuple[str, Any]]:
    yield "refine", spec["refine_seconds"]
    if spec["budget"] is not None:
        yield from (("count", "bits_per_weight"), ("budget", spec["budget"]))
        return
    size = read_size(spec["file_bytes"])
    yield "count", "file_bytes"
    yield from ((size_key(unit), size / scale) for unit, scale, _ in UNITS)


def _guard(spec: Spec) -> Iterator[tuple[str, Any]]:
    limits = {"kl": spec["max_kl"], "agreement": spec["min_agreement"]}
    for name, limit in limits.items():
        yield f"guard-{name}", limit is not None
        if limit is not None:
            yield f"limit-{name}", limit
    yield "guard-method", spec["method"]
    if spec["prompts"]:
        yield "prompts", "\n".join(spec["prompts"])
