# Bits for "tiny-opt": 7.807 stored bits a weight as planned.

import torch
from torchao.quantization import FqnToConfig, IntxWeightOnlyConfig, MappingType, PerAxis, PerGroup

w4_g64_sym = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(64), mapping_type=MappingType.SYMMETRIC)
w8_g128_sym = IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=PerGroup(128), mapping_type=MappingType.SYMMETRIC)
w3_g64_sym = IntxWeightOnlyConfig(weight_dtype=torch.int3, granularity=PerGroup(64), mapping_type=MappingType.SYMMETRIC)
w4_row_sym = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerAxis(0), mapping_type=MappingType.SYMMETRIC)
w2_g32_sym = IntxWeightOnlyConfig(weight_dtype=torch.int2, granularity=PerGroup(32), mapping_type=MappingType.SYMMETRIC)

CONFIG = FqnToConfig(
    {
        "model.decoder.layers.1.self_attn.k_proj": w4_g64_sym,
        "model.decoder.layers.1.self_attn.v_proj": w8_g128_sym,
        "model.decoder.layers.1.self_attn.q_proj": w3_g64_sym,
        "model.decoder.layers.1.self_attn.out_proj": w4_row_sym,
        "model.decoder.layers.1.fc2": w2_g32_sym,
        "model.decoder.layers.10.self_attn.k_proj": w4_g64_sym,
        "model.decoder.layers.10.self_attn.v_proj": w8_g128_sym,
        "model.decoder.layers.10.self_attn.q_proj": w3_g64_sym,
        "model.decoder.layers.10.self_attn.out_proj": w4_row_sym,
        "model.decoder.layers.10.fc2": w2_g32_sym,
        "model.decoder.layers.1.fc1": None,
        "model.decoder.layers.10.fc1": None,
        "lm_head": None,
    }
)

# from transformers import AutoModelForCausalLM, TorchAoConfig
# AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, quantization_config=TorchAoConfig(CONFIG))
