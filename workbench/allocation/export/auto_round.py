"""auto-round: its `layer_config`, exact names to widths; Conv1D modules are read as well.

Its AutoScheme is being renamed upstream (options to schemes, avg_bits to bits); `layer_config` is not touched by that.
"""

from __future__ import annotations

import json
from typing import Any

from workbench.allocation.export.checks import lost_methods, require_widths, short_groups
from workbench.allocation.export.subject import Losses, Subject, counted, scheme_of
from workbench.allocation.schema import TensorPlan
from workbench.scheme import UNTOUCHED

TARGET = "auto-round"
WIDTHS = (2, 3, 4, 8)


def export(subject: Subject) -> tuple[str, Losses]:
    """The `layer_config` as JSON.

    Raises:
        WorkbenchError: a width that it does not have.
    """
    require_widths(subject, TARGET, WIDTHS)
    config = {name: _entry(one) for name, one in subject.modules.items()}
    losses = ["steps and codes are not carried: auto-round learns its own rounding (with iters=0 it rounds to nearest)"]
    losses += lost_methods(subject, ("rtn",), "auto-round takes its own")
    short = short_groups(subject)
    if short:
        losses.append(f"the short last group of {counted(short)} is filled up with zeros by auto-round")
    return json.dumps(config, indent=1) + "\n", losses


def _entry(one: TensorPlan) -> dict[str, Any]:
    if one.bits == UNTOUCHED:
        return {"bits": UNTOUCHED}
    bits, group_size, symmetric = scheme_of(one)
    return {"bits": bits, "group_size": group_size, "sym": symmetric, "data_type": "int", "act_bits": 16}
