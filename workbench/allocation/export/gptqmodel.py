"""GPTQModel: a quantize_config whose base is the commonest scheme, all others in its ordered `dynamic` block.

Its patterns are PCRE, matched from the start of a module's name; negative ones are looked at first, then the first that
matches wins. Conv1D modules are read as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from workbench.allocation.export.checks import lost_methods, lost_options, require_widths
from workbench.allocation.export.subject import Losses, Subject, anchored, most_common, scheme_of
from workbench.allocation.schema import TensorPlan

TARGET = "GPTQModel"
WIDTHS = (2, 3, 4, 8)

Key = tuple[int, int, bool, bool]


def export(subject: Subject) -> tuple[str, Losses]:
    """The configuration as JSON.

    Raises:
        WorkbenchError: a width that it does not have.
    """
    require_widths(subject, TARGET, WIDTHS)
    found: dict[Key, list[str]] = {}
    for name, one in subject.quantized.items():
        found.setdefault(_key(one), []).append(name)
    base: Any = most_common(_key(one) for one in subject.quantized.values())
    negative = {f"-:{anchored(name)}": {} for name in [*subject.heads, *subject.untouched]}
    positive = {f"+:{_any_of(names)}": _words(key) for key, names in found.items() if key != base}
    config = {**_words(base), "quant_method": "gptq", "dynamic": {**negative, **positive}}
    damping, losses = _damping(subject)
    losses = ["steps and codes are not carried: GPTQModel computes its own", *losses]
    losses += lost_methods(subject, ("gptq",), "GPTQModel quantizes them by GPTQ")
    return json.dumps({**config, **damping}, indent=1) + "\n", losses


def _key(one: TensorPlan) -> Key:
    return (*scheme_of(one), bool(one.method_options.get("act_order", False)))


def _words(key: Key) -> dict[str, Any]:
    bits, group_size, symmetric, act_order = key
    return {"bits": bits, "group_size": group_size, "sym": symmetric, "desc_act": act_order}


def _any_of(names: Sequence[str]) -> str:
    """One pattern for several whole names."""
    return anchored(names[0]) if len(names) == 1 else f"^(?:{'|'.join(re.escape(name) for name in names)})$"


def _damping(subject: Subject) -> tuple[dict[str, Any], Losses]:
    """One damping for all, that of most matrices; GPTQModel walks through a block matrix by matrix."""
    held = [one.method_options for one in subject.quantized.values() if one.method == "gptq"]
    damping = most_common(options.get("damping") for options in held) if held else None
    told = {"damping": damping, "static_groups": False, "inputs": "sequential"}
    losses = lost_options(subject, "gptq", told, each=("act_order", "block"))
    return ({} if damping is None else {"damp_percent": damping}), losses
