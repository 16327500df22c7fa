"""A plan in the words of another tool: one target a file, each from a plan to a text and a list of what is lost.

No torch here, so that pages may offer the same texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.allocation.export import (
    auto_round,
    compressed_tensors,
    gptqmodel,
    hqq,
    llama_cpp,
    llm_compressor,
    modelopt,
    torchao,
)
from workbench.allocation.export.subject import Losses, Subject, subject_of
from workbench.allocation.plan import Plan, read_plan
from workbench.errors import unknown


@dataclass(frozen=True)
class Target:
    """A tool that a plan can be told.

    Attributes:
        write: from the plan to its text and the losses.
        file: what such a text is called as a file.
        mime: its type for a browser.
        what: the text in a few words, for people.
    """

    write: Callable[[Subject], tuple[str, Losses]]
    file: str
    mime: str
    what: str


JSON, YAML, PYTHON, PLAIN = "application/json", "application/yaml", "text/x-python", "text/plain"

TARGETS: dict[str, Target] = {
    "compressed-tensors": Target(compressed_tensors.export, "quantization_config.json", JSON, "quantization_config"),
    "llm-compressor": Target(llm_compressor.export, "recipe.yaml", YAML, "recipe"),
    "gptqmodel": Target(gptqmodel.export, "quantize_config.json", JSON, "quantize_config with a dynamic block"),
    "auto-round": Target(auto_round.export, "layer_config.json", JSON, "layer_config"),
    "torchao": Target(torchao.export, "torchao_config.py", PYTHON, "FqnToConfig in Python"),
    "modelopt": Target(modelopt.export, "modelopt_config.py", PYTHON, "quant_cfg in Python"),
    "hqq": Target(hqq.export, "hqq_plan.py", PYTHON, "HQQLinear per module in Python"),
    "llama.cpp": Target(llama_cpp.export, "tensor-types.txt", PLAIN, "lines for --tensor-type-file"),
}


@dataclass(frozen=True)
class Exported:
    """A plan in a target's words.

    Attributes:
        text: the target's own text.
        losses: what it cannot carry, a sentence each.
        file: a name for the text as a file.
        mime: its type for a browser.
    """

    text: str
    losses: tuple[str, ...]
    file: str
    mime: str


def export(plan: Plan | Mapping[str, Any], target: str, *, cells: Mapping[str, Any] | None = None) -> Exported:
    """A plan in a target's words.

    Args:
        plan: the plan, or its JSON document.
        target: one of `TARGETS`.
        cells: a sensitivity document, for a target that solves the budget again at its own sizes (llama.cpp).

    Raises:
        WorkbenchError: no such target, no plan, or one that the target cannot say: the sentence names the reason.
    """
    if target not in TARGETS:
        raise unknown("target", target, tuple(TARGETS))
    subject = subject_of(plan if isinstance(plan, Plan) else read_plan(dict(plan)))
    held = TARGETS[target]
    if cells is not None and target == "llama.cpp":
        text, losses = llama_cpp.export(subject, cells)
    else:
        text, losses = held.write(subject)
        losses += ["--from is for llama.cpp alone, whose sizes are its own; the plan stands as it is"] if cells else []
    return Exported(text, tuple(losses), held.file, held.mime)
