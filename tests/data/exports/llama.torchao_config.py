# Bits for "tiny-llama": 6.502 stored bits a weight as planned.

import torch
from torchao.quantization import FqnToConfig, IntxWeightOnlyConfig, MappingType, PerAxis, PerGroup

w4_g64_sym = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(64), mapping_type=MappingType.SYMMETRIC)
w8_g128_sym = IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=PerGroup(128), mapping_type=MappingType.SYMMETRIC)
w3_g64_sym = IntxWeightOnlyConfig(weight_dtype=torch.int3, granularity=PerGroup(64), mapping_type=MappingType.SYMMETRIC)
w4_row_sym = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerAxis(0), mapping_type=MappingType.SYMMETRIC)
w2_g32_sym = IntxWeightOnlyConfig(weight_dtype=torch.int2, granularity=PerGroup(32), mapping_type=MappingType.SYMMETRIC)

CONFIG = FqnToConfig(
    {
        "model.layers.1.self_attn.q_proj": w4_g64_sym,
        "model.layers.1.self_attn.k_proj": w8_g128_sym,
        "model.layers.1.self_attn.v_proj": w3_g64_sym,
        "model.layers.1.self_attn.o_proj": w4_row_sym,
        "model.layers.1.mlp.up_proj": w2_g32_sym,
        "model.layers.1.mlp.down_proj": w4_g64_sym,
        "model.layers.10.self_attn.q_proj": w8_g128_sym,
        "model.layers.10.self_attn.k_proj": w3_g64_sym,
        "model.layers.10.self_attn.v_proj": w4_row_sym,
        "model.layers.10.mlp.gate_proj": w2_g32_sym,
        "model.layers.10.mlp.up_proj": w4_g64_sym,
        "model.layers.10.mlp.down_proj": w8_g128_sym,
        "model.layers.1.mlp.gate_proj": None,
        "model.layers.10.self_attn.o_proj": None,
        "lm_head": None,
    }
)

# from transformers import AutoModelForCausalLM, TorchAoConfig
# AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, quantization_config=TorchAoConfig(CONFIG))
