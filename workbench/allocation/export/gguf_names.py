"""Names of tensors in GGUF: by the package gguf where it is installed, by our own table for models built like Llama."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from workbench.errors import WorkbenchError, shown

_LLAMA = re.compile(r"model\.layers\.(\d+)\.(self_attn|mlp)\.(\w+)\.weight")
_ROLES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
# Architectures of transformers whose name in GGUF is not the first word of their class.
_CALLED = {
    "MistralForCausalLM": "llama",
    "PhiForCausalLM": "phi2",
    "GPTNeoXForCausalLM": "gptneox",
    "GPT2LMHeadModel": "gpt2",
}


def gguf_names(names: Iterable[str], architecture: str) -> dict[str, str]:
    """Parameter name -> its name in GGUF, with `.weight`.

    Raises:
        WorkbenchError: the names are not built like Llama's, and gguf is not installed or does not know them either.
    """
    asked = list(names)
    found = {name: by_table(name) for name in asked}
    if any(one is None for one in found.values()):
        found = _by_package(asked, architecture)
    unnamed = next((name for name, one in found.items() if one is None), None)
    if unnamed is not None:
        raise WorkbenchError(f"GGUF has no name for {shown(unnamed)} of a {architecture}, so llama.cpp cannot be told")
    return {name: one for name, one in found.items() if one is not None}


def by_table(name: str) -> str | None:
    """The name in GGUF of a matrix of a Llama; None for any other."""
    match = _LLAMA.fullmatch(name)
    return f"blk.{match[1]}.{_ROLES[match[3]]}.weight" if match and match[3] in _ROLES else None


def _by_package(names: list[str], architecture: str) -> dict[str, str | None]:
    try:
        gguf: Any = import_module("gguf")
    except ImportError:
        raise WorkbenchError(
            f"a {architecture} has names that are not built like Llama's; with the package gguf installed they can be "
            "put into llama.cpp's words (pip install gguf)"
        ) from None
    called = _CALLED.get(architecture, architecture.partition("For")[0].lower())
    kind = next((number for number, one in gguf.MODEL_ARCH_NAMES.items() if one == called), None)
    if kind is None:
        raise WorkbenchError(f"llama.cpp has no architecture for a {architecture}: the package gguf does not know one")
    blocks = 1 + max((int(number) for name in names for number in re.findall(r"\.(\d+)\.", name)), default=0)
    table = gguf.get_tensor_name_map(kind, blocks)
    return {name: table.get_name(name, try_suffixes=(".weight",)) for name in names}
