"""NVIDIA ModelOpt: a Python file with the list form of `quant_cfg` for `mtq.quantize`; Conv1D is read as well.

A later entry overrides an earlier one: all quantizers are switched off first, then those of the plan on.
"""

from __future__ import annotations

from workbench.allocation.export.checks import lost_methods, lost_zero_points, require_widths
from workbench.allocation.export.source import python_file, quoted
from workbench.allocation.export.subject import Losses, Subject, counted, scheme_of
from workbench.allocation.schema import TensorPlan

TARGET = "ModelOpt"
WIDTHS = (2, 3, 4, 8)
SIMULATED = (2, 3)
"""Widths that its own checkpoint export has no name for."""

_OFF = '        {"quantizer_name": "*", "enable": False},'
_USE = """\
# import modelopt.torch.quantization as mtq
# mtq.quantize(model, CONFIG, forward_loop=None)"""


def export(subject: Subject) -> tuple[str, Losses]:
    """The Python file.

    Raises:
        WorkbenchError: a width that it does not have.
    """
    require_widths(subject, TARGET, WIDTHS)
    entries = [_entry(name, one) for name, one in subject.quantized.items()]
    body = "\n".join(
        ["CONFIG = {", '    "quant_cfg": [', _OFF, *entries, "    ],", '    "algorithm": "max",', "}", "", _USE]
    )
    losses = ["steps and codes are not carried: ModelOpt takes its own from the largest weight of a group"]
    losses += lost_methods(subject, ("rtn",), "ModelOpt rounds to nearest under the algorithm 'max'")
    losses += lost_zero_points(subject, "its integer weights are symmetric")
    simulated = [name for name, one in subject.quantized.items() if one.bits in SIMULATED]
    if simulated:
        losses.append(f"{counted(simulated)} of 2 or 3 bits: simulated only, its checkpoint export has no such format")
    return python_file(subject, (), body), losses


def _entry(name: str, one: TensorPlan) -> str:
    bits, group_size, _ = scheme_of(one)
    grain = f'"block_sizes": {{-1: {group_size}}}' if group_size > 0 else '"axis": 0'
    place = quoted(f"{name}.weight_quantizer")
    return f'        {{"quantizer_name": {place}, "cfg": {{"num_bits": {bits}, {grain}}}, "enable": True}},'
