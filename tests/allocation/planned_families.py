"""Plans of several schemes for models built like Llama, GPT-2 and OPT, with the layers 1 and 10 to tell apart."""

from __future__ import annotations

from typing import Any

from workbench.allocation.importing.assemble import Wanted, assemble
from workbench.allocation.plan import Plan

LAYERS = (1, 10)
FAMILIES: dict[str, tuple[str, str, dict[str, tuple[int, int]]]] = {
    "llama": (
        "LlamaForCausalLM",
        "model.layers.{}.",
        {
            "self_attn.q_proj": (256, 256),
            "self_attn.k_proj": (128, 256),
            "self_attn.v_proj": (128, 256),
            "self_attn.o_proj": (256, 256),
            "mlp.gate_proj": (512, 256),
            "mlp.up_proj": (512, 256),
            "mlp.down_proj": (256, 512),
        },
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        "transformer.h.{}.",
        {
            "attn.c_attn": (768, 256),
            "attn.c_proj": (256, 256),
            "mlp.c_fc": (1024, 256),
            "mlp.c_proj": (256, 1024),
        },
    ),
    "opt": (
        "OPTForCausalLM",
        "model.decoder.layers.{}.",
        {
            "self_attn.k_proj": (256, 256),
            "self_attn.v_proj": (256, 256),
            "self_attn.q_proj": (256, 256),
            "self_attn.out_proj": (256, 256),
            "fc1": (1024, 256),
            "fc2": (256, 1024),
        },
    ),
}
# of the matrices in order, round and round: every width that most targets have, rows and groups, one left alone
SCHEMES = (
    Wanted(4, 64, True),
    Wanted(8, 128, True),
    Wanted(3, 64, True),
    Wanted(4, -1, True),
    Wanted(16),
    Wanted(2, 32, True),
)


def inspected(family: str) -> dict[str, Any]:
    """What `inspect` would print of such a model, as far as a plan reads it."""
    architecture, stem, roles = FAMILIES[family]
    names = {f"{stem.format(layer)}{role}.weight": shape for layer in LAYERS for role, shape in roles.items()}
    return {
        "model": {
            "id": f"tiny-{family}",
            "architecture": architecture,
            "dtype": "float32",
            "config_sha256": "1" * 64,
            "weights_sha256": "2" * 64,
        },
        "matrices": [
            {"name": name, "shape": list(shape), "parameters": shape[0] * shape[1]} for name, shape in names.items()
        ],
        "skipped": [{"name": "lm_head.weight", "reason": "output head: left in full precision", "parameters": 1}],
    }


def plan_of(family: str, schemes: tuple[Wanted, ...] = SCHEMES) -> Plan:
    """The plan of a family."""
    facts = inspected(family)
    wanted = {one["name"]: schemes[place % len(schemes)] for place, one in enumerate(facts["matrices"])}
    return assemble(wanted, facts, "test", []).plan


def modules_of(plan: Plan) -> dict[str, int]:
    """Path of every module -> its bits."""
    return {name.removesuffix(".weight"): one.bits for name, one in plan.tensors.items()}
