"""What is looked at in a model folder before transformers sees any of it. No torch here.

A configuration can ask for code to be run: `auto_map` names a file of the repository, and in transformers before 5.3 an
`_attn_implementation_internal` fetched a kernel from the hub (CVE-2026-4372). The former is refused, keys of the latter
kind are dropped. Weights that are already quantized are refused: what a bit costs is measured from full weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError, shown
from workbench.model.tensor_files import read_json, refuse

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
TOKENIZER_EXTRAS = ("merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
REMOTE_CODE = ("auto_map", "custom_pipelines", "trust_remote_code")
QUANTIZED = ("quantization_config", "compression_config")
# Keys by which a configuration could choose code paths, file names or kernels; all of them are ours to choose.
OURS = ("attn_implementation", "experts_implementation", "transformers_weights", "fusion_config", "kernel_config")


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a folder, refused where it is unsafe or of the wrong kind, cleaned of keys that are ours.

    Raises:
        WorkbenchError: no folder, no config.json, no JSON object, remote code, quantized, or an encoder in it.
    """
    file = folder / "config.json"
    if not folder.is_dir():
        raise WorkbenchError(f"model {shown(folder.name)} has no folder on this machine")
    if not file.is_file():
        raise WorkbenchError(f"folder {shown(folder.name)} is not a model: it has no config.json")
    document = read_json(file)
    _refuse_remote_code(file, document)
    for key in QUANTIZED:
        if document.get(key):
            refuse(file, f"has a {key}: the weights are already quantized, and the workbench starts from full weights")
    if document.get("is_encoder_decoder"):
        refuse(file, "has is_encoder_decoder true; only decoder-only language models can be opened")
    return _clean(document)


def check_tokenizer_files(folder: Path) -> None:
    """Refuse a folder without a tokenizer, or with one that wants code to be run."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise WorkbenchError(
            f"model {shown(folder.name)} has no tokenizer: none of {', '.join(TOKENIZER_FILES)} is there"
        )
    settings = folder / "tokenizer_config.json"
    if settings.is_file():
        _refuse_remote_code(settings, read_json(settings, 2**24))


def _refuse_remote_code(file: Path, document: dict[str, Any]) -> None:
    for key, value in _items(document):
        if key in REMOTE_CODE and value:
            refuse(
                file,
                f"has the key {key!r}, which asks for code of the repository to be run; such models are not opened",
            )


def _items(node: Any) -> Iterator[tuple[str, Any]]:
    """All keys with their values, at any depth."""
    if isinstance(node, dict):
        yield from node.items()
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _items(child)


def _clean(node: Any) -> Any:
    """A copy without private keys and without those that are ours to choose, at any depth."""
    if isinstance(node, dict):
        return {key: _clean(value) for key, value in node.items() if not key.startswith("_") and key not in OURS}
    return [_clean(value) for value in node] if isinstance(node, list) else node
