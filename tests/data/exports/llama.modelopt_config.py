# Bits for "tiny-llama": 6.502 stored bits a weight as planned.

CONFIG = {
    "quant_cfg": [
        {"quantizer_name": "*", "enable": False},
        {"quantizer_name": "model.layers.1.self_attn.q_proj.weight_quantizer", "cfg": {"num_bits": 4, "block_sizes": {-1: 64}}, "enable": True},
        {"quantizer_name": "model.layers.1.self_attn.k_proj.weight_quantizer", "cfg": {"num_bits": 8, "block_sizes": {-1: 128}}, "enable": True},
        {"quantizer_name": "model.layers.1.self_attn.v_proj.weight_quantizer", "cfg": {"num_bits": 3, "block_sizes": {-1: 64}}, "enable": True},
        {"quantizer_name": "model.layers.1.self_attn.o_proj.weight_quantizer", "cfg": {"num_bits": 4, "axis": 0}, "enable": True},
        {"quantizer_name": "model.layers.1.mlp.up_proj.weight_quantizer", "cfg": {"num_bits": 2, "block_sizes": {-1: 32}}, "enable": True},
        {"quantizer_name": "model.layers.1.mlp.down_proj.weight_quantizer", "cfg": {"num_bits": 4, "block_sizes": {-1: 64}}, "enable": True},
        {"quantizer_name": "model.layers.10.self_attn.q_proj.weight_quantizer", "cfg": {"num_bits": 8, "block_sizes": {-1: 128}}, "enable": True},
        {"quantizer_name": "model.layers.10.self_attn.k_proj.weight_quantizer", "cfg": {"num_bits": 3, "block_sizes": {-1: 64}}, "enable": True},
        {"quantizer_name": "model.layers.10.self_attn.v_proj.weight_quantizer", "cfg": {"num_bits": 4, "axis": 0}, "enable": True},
        {"quantizer_name": "model.layers.10.mlp.gate_proj.weight_quantizer", "cfg": {"num_bits": 2, "block_sizes": {-1: 32}}, "enable": True},
        {"quantizer_name": "model.layers.10.mlp.up_proj.weight_quantizer", "cfg": {"num_bits": 4, "block_sizes": {-1: 64}}, "enable": True},
        {"quantizer_name": "model.layers.10.mlp.down_proj.weight_quantizer", "cfg": {"num_bits": 8, "block_sizes": {-1: 128}}, "enable": True},
    ],
    "algorithm": "max",
}

# import modelopt.torch.quantization as mtq
# mtq.quantize(model, CONFIG, forward_loop=None)
