"""How bits are taken: one quantizer a file, found by `workbench.registry.quantizers`.

A quantizer turns a weight `[out, in]` into a `QuantizedWeight`: what would be stored, from which the dense weight that
the model computes with is made.
"""
