"""Which input tokens matter: one method a file, found by `workbench.registry.attribution`.

Beside the methods: `adapter` (the model), `tokens` (the tokenizer), `targets` (what is explained), `baselines` (where a
path starts), `result` (what a method returns) and `flow` (gradient x weight per matrix and token, which is no method).
"""
