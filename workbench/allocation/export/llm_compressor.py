"""llm-compressor: a recipe in YAML, one modifier a method, one config group a scheme.

It computes steps and codes itself, so ours are lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from workbench.allocation.export.checks import (
    lost_methods,
    lost_options,
    lost_zero_points,
    require_linear,
    require_whole_groups,
)
from workbench.allocation.export.compressed_tensors import weight_arguments
from workbench.allocation.export.subject import Losses, Subject, anchored, by_scheme, label, most_common
from workbench.allocation.schema import TensorPlan

TARGET = "llm-compressor"
MODIFIERS = {"rtn": "QuantizationModifier", "gptq": "GPTQModifier"}
PLAIN = MODIFIERS["rtn"]


def export(subject: Subject) -> tuple[str, Losses]:
    """The recipe.

    Raises:
        WorkbenchError: Conv1D modules, or short last groups.
    """
    require_linear(subject, TARGET)
    require_whole_groups(subject, TARGET)
    ignored = [*subject.untouched, *subject.heads]
    modifiers = {}
    for modifier in dict.fromkeys(MODIFIERS.values()):
        held = {n: one for n, one in subject.quantized.items() if MODIFIERS.get(one.method, PLAIN) == modifier}
        if held:
            modifiers[modifier] = {"ignore": ignored, "config_groups": _groups(held)}
    losses = ["steps and codes are not carried: llm-compressor computes its own"]
    losses += lost_methods(subject, MODIFIERS, f"these are rounded to nearest by {PLAIN}")
    if "GPTQModifier" in modifiers:
        options, lost = _gptq(subject)
        modifiers["GPTQModifier"] |= options
        losses += lost
    losses += _zero_points(subject)
    return yaml.safe_dump({"default_stage": {"default_modifiers": modifiers}}, sort_keys=False, width=120), losses


def _groups(held: dict[str, TensorPlan]) -> dict[str, Any]:
    return {
        label(scheme): {"targets": _targets(names), "weights": weight_arguments(scheme)}
        for scheme, names in by_scheme(held).items()
    }


def _targets(names: Sequence[str]) -> list[str]:
    return [f"re:{anchored(name)}" for name in names]


def _gptq(subject: Subject) -> tuple[dict[str, Any], Losses]:
    """Options of the one GPTQModifier, those of most matrices; its reordered columns have groups of their own order."""
    held = [one.method_options for one in subject.quantized.values() if one.method == "gptq"]
    told: dict[str, Any] = {name: most_common(o.get(name) for o in held) for name in ("damping", "block", "act_order")}
    static = {"static_groups": bool(told["act_order"]), "inputs": "quantized"}
    losses = lost_options(subject, "gptq", {**told, **static})
    words = {"dampening_frac": told["damping"], "block_size": told["block"]}
    options = {name: value for name, value in words.items() if value is not None}
    return {**options, "actorder": "static" if told["act_order"] else None}, losses


def _zero_points(subject: Subject) -> Losses:
    return lost_zero_points(
        subject, "the recipe asks for them, but compressed-tensors 0.18 to 0.20 cannot load what it then writes"
    )
