# Bits for "tiny-llama": 6.502 stored bits a weight as planned.

import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

# module: (bits, group size; None is a row)
SCHEMES = {
    "model.layers.1.self_attn.q_proj": (4, 64),
    "model.layers.1.self_attn.k_proj": (8, 128),
    "model.layers.1.self_attn.v_proj": (3, 64),
    "model.layers.1.self_attn.o_proj": (4, None),
    "model.layers.1.mlp.up_proj": (2, 32),
    "model.layers.1.mlp.down_proj": (4, 64),
    "model.layers.10.self_attn.q_proj": (8, 128),
    "model.layers.10.self_attn.k_proj": (3, 64),
    "model.layers.10.self_attn.v_proj": (4, None),
    "model.layers.10.mlp.gate_proj": (2, 32),
    "model.layers.10.mlp.up_proj": (4, 64),
    "model.layers.10.mlp.down_proj": (8, 128),
}


def quantize(model, dtype=torch.float32, device="cpu"):
    """Replace the modules of the plan, one after the other, and return the model."""
    for name, (bits, group_size) in SCHEMES.items():
        parent, _, last = name.rpartition(".")
        config = BaseQuantizeConfig(nbits=bits, group_size=group_size, axis=1)
        layer = HQQLinear(model.get_submodule(name), config, compute_dtype=dtype, device=device)
        setattr(model.get_submodule(parent), last, layer)
    return model
