"""compressed-tensors: the `quantization_config` of a checkpoint with mixed widths (format `pack-quantized`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.allocation.export.checks import lost_methods, require_linear, require_whole_groups
from workbench.allocation.export.subject import Losses, Scheme, Subject, anchored, by_scheme, counted, label

TARGET = "compressed-tensors"


def export(subject: Subject) -> tuple[str, Losses]:
    """The configuration as JSON.

    Raises:
        WorkbenchError: Conv1D modules, or short last groups.
    """
    require_linear(subject, TARGET)
    require_whole_groups(subject, TARGET)
    schemes = by_scheme(subject.quantized)
    config = quantization_config(schemes, [*subject.untouched, *subject.heads])
    losses = lost_methods(subject, ("rtn",), "the configuration names the grid alone")
    uneven = [name for name, one in subject.quantized.items() if not one.symmetric]
    if uneven:
        losses.append(
            f"{counted(uneven)} with zero points: compressed-tensors 0.18 to 0.20 cannot load them, 0.15 to 0.17 can; "
            "`workbench allocate --symmetric` solves without"
        )
    losses.append(
        "codes and steps are not in a configuration; `workbench quantize --format compressed-tensors` writes "
        "the checkpoint"
    )
    return json.dumps({"quantization_config": config}, indent=1) + "\n", losses


def quantization_config(schemes: Mapping[Scheme, Sequence[str]], ignored: Sequence[str]) -> dict[str, Any]:
    """The entry of a model's config.json.

    Args:
        schemes: the modules of each scheme.
        ignored: linear modules that are left as they are.
    """
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {label(scheme): config_group(scheme, names) for scheme, names in schemes.items()},
        "ignore": list(ignored),
        "kv_cache_scheme": None,
    }


def config_group(scheme: Scheme, names: Sequence[str]) -> dict[str, Any]:
    """One scheme and the modules that it is for, each by a pattern that matches nothing else."""
    return {
        "targets": [f"re:{anchored(name)}" for name in names],
        "weights": weight_arguments(scheme),
        "input_activations": None,
        "output_activations": None,
        "format": "pack-quantized",
    }


def weight_arguments(scheme: Scheme) -> dict[str, Any]:
    """The grid in the format's words."""
    bits, group_size, symmetric = scheme
    grouped = group_size > 0
    return {
        "num_bits": bits,
        "type": "int",
        "symmetric": symmetric,
        "strategy": "group" if grouped else "channel",
        "group_size": group_size if grouped else None,
        "dynamic": False,
        "observer": "minmax",
    }
