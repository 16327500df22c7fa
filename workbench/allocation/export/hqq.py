"""HQQ: a Python file that replaces the linear modules of a model by `HQQLinear`, each with its own width.

transformers cannot quantize with HQQ on the way in at present (5.23), and its `dynamic_config` names kinds of modules,
not modules; the library itself can do both.
"""

from __future__ import annotations

from workbench.allocation.export.checks import lost_methods, require_linear, require_whole_groups, require_widths
from workbench.allocation.export.source import python_file, quoted
from workbench.allocation.export.subject import Losses, Subject, counted, scheme_of

TARGET = "HQQ"
WIDTHS = (1, 2, 3, 4, 8)

_IMPORTS = ("import torch", "from hqq.core.quantize import BaseQuantizeConfig, HQQLinear")
_APPLY = '''\
def quantize(model, dtype=torch.float32, device="cpu"):
    """Replace the modules of the plan, one after the other, and return the model."""
    for name, (bits, group_size) in SCHEMES.items():
        parent, _, last = name.rpartition(".")
        config = BaseQuantizeConfig(nbits=bits, group_size=group_size, axis=1)
        layer = HQQLinear(model.get_submodule(name), config, compute_dtype=dtype, device=device)
        setattr(model.get_submodule(parent), last, layer)
    return model'''


def export(subject: Subject) -> tuple[str, Losses]:
    """The Python file.

    Raises:
        WorkbenchError: Conv1D modules, short last groups, a width that it does not have.
    """
    require_linear(subject, TARGET)
    require_widths(subject, TARGET, WIDTHS)
    require_whole_groups(subject, TARGET)
    held = {name: scheme_of(one) for name, one in subject.quantized.items()}
    lines = [
        f"    {quoted(name)}: ({bits}, {group if group > 0 else None})," for name, (bits, group, _) in held.items()
    ]
    body = "\n".join(["# module: (bits, group size; None is a row)", "SCHEMES = {", *lines, "}", "", "", _APPLY])
    losses = ["steps and codes are not carried: HQQ computes its own"]
    losses += lost_methods(subject, ("hqq",), "HQQ solves for its own zero points")
    even = [name for name, (_, _, symmetric) in held.items() if symmetric]
    if even:
        losses.append(f"{counted(even)} without zero points get some: HQQ has no symmetric grid")
    return python_file(subject, _IMPORTS, body), losses
