# Bits for "tiny-gpt2": 6.247 stored bits a weight as planned.

CONFIG = {
    "quant_cfg": [
        {"quantizer_name": "*", "enable": False},
        {"quantizer_name": "transformer.h.1.attn.c_attn.weight_quantizer", "cfg": {"num_bits": 4, "block_sizes": {-1: 64}}, "enable": True},
        {"quantizer_name": "transformer.h.1.attn.c_proj.weight_quantizer", "cfg": {"num_bits": 8, "block_sizes": {-1: 128}}, "enable": True},
        {"quantizer_name": "transformer.h.1.mlp.c_fc.weight_quantizer", "cfg": {"num_bits": 3, "block_sizes": {-1: 64}}, "enable": True},
        {"quantizer_name": "transformer.h.1.mlp.c_proj.weight_quantizer", "cfg": {"num_bits": 4, "axis": 0}, "enable": True},
        {"quantizer_name": "transformer.h.10.attn.c_proj.weight_quantizer", "cfg": {"num_bits": 2, "block_sizes": {-1: 32}}, "enable": True},
        {"quantizer_name": "transformer.h.10.mlp.c_fc.weight_quantizer", "cfg": {"num_bits": 4, "block_sizes": {-1: 64}}, "enable": True},
        {"quantizer_name": "transformer.h.10.mlp.c_proj.weight_quantizer", "cfg": {"num_bits": 8, "block_sizes": {-1: 128}}, "enable": True},
    ],
    "algorithm": "max",
}

# import modelopt.torch.quantization as mtq
# mtq.quantize(model, CONFIG, forward_loop=None)
