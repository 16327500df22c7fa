"""Which input tokens matter: one method a file, found by `workbench.registry.attribution`.

Beside the methods: `adapter` (the model), `tokens` (the tokenizer), `targets` (what is explained), `baselines` (where a
path starts), `result` (what a method returns); `path`, `masking`, `spans`, `sampling`, `patches`, `rules`, `frozen`,
`heads`, `value_paths` and `mixing`, which methods share; and what is no method: `flow` (gradient x weight per matrix
and token), `damage` (what rounding costs per matrix and token), `sinks`, `verbalise`.
"""
