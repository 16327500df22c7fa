"""torchao: a Python file that builds an `FqnToConfig`, for `quantize_` and for transformers' `TorchAoConfig`.

The configuration is built from objects, because the form that torchao saves is private to a version of it.
"""

from __future__ import annotations

from workbench.allocation.export.checks import (
    lost_methods,
    require_linear,
    require_whole_groups,
    require_widths,
)
from workbench.allocation.export.source import python_file, quoted
from workbench.allocation.export.subject import Losses, Scheme, Subject, by_scheme, label, scheme_of

TARGET = "torchao"
WIDTHS = (2, 3, 4, 8)

_IMPORTS = (
    "import torch",
    "from torchao.quantization import FqnToConfig, IntxWeightOnlyConfig, MappingType, PerAxis, PerGroup",
)
_USE = """\
# from transformers import AutoModelForCausalLM, TorchAoConfig
# AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, quantization_config=TorchAoConfig(CONFIG))"""


def export(subject: Subject) -> tuple[str, Losses]:
    """The Python file.

    Raises:
        WorkbenchError: Conv1D modules, short last groups, a width that it does not have.
    """
    require_linear(subject, TARGET)
    require_widths(subject, TARGET, WIDTHS)
    require_whole_groups(subject, TARGET)
    schemes = [f"{label(scheme)} = {_config(scheme)}" for scheme in by_scheme(subject.quantized)]
    lines = [f"        {quoted(name)}: {label(scheme_of(one))}," for name, one in subject.quantized.items()]
    lines += [f"        {quoted(name)}: None," for name in [*subject.untouched, *subject.heads]]
    body = "\n".join([*schemes, "", "CONFIG = FqnToConfig(", "    {", *lines, "    }", ")", "", _USE])
    losses = ["steps and codes are not carried: torchao rounds to nearest on its own grid"]
    losses += lost_methods(subject, ("rtn",), "torchao rounds to nearest")
    losses.append("widths below 8 bits take a byte a weight in torchao's own tensors: quality without the memory")
    return python_file(subject, _IMPORTS, body), losses


def _config(scheme: Scheme) -> str:
    bits, group_size, symmetric = scheme
    grain = f"PerGroup({group_size})" if group_size > 0 else "PerAxis(0)"
    mapping = "SYMMETRIC" if symmetric else "ASYMMETRIC"
    return (
        f"IntxWeightOnlyConfig(weight_dtype=torch.int{bits}, granularity={grain}, mapping_type=MappingType.{mapping})"
    )
