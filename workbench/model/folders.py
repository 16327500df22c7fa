"""From the name of a model to the folder that holds it. No torch here: the keys of jobs are made from these folders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import WorkbenchError, shown
from workbench.settings import demo_folder, local_models

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[\w.-]{1,96})?", re.ASCII)
# A pattern with a star would also match sub-folders (onnx exports and the like), hence "model*" and plain names.
DOWNLOADED = (
    *("config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer*", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model"),
    "1_Pooling/config.json",
)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder in Hugging Face format.

    Attributes:
        id: what the model is called in results: `demo`, the folder's name or the hub id, never a path.
        path: the folder, resolved.
        revision: the commit of a downloaded model, otherwise None.
    """

    id: str
    path: Path
    revision: str | None = None


def find_folder(name: str) -> ModelFolder | None:
    """The folder on this machine that a name means, or None: `demo`, a local model's name, a path, in this order."""
    if name == "demo":
        return ModelFolder("demo", demo_folder())
    offered = local_models()
    if name in offered:
        return ModelFolder(name, offered[name])
    path = _as_folder(name)
    if path is None:
        return None
    # "demo" alone means the embedded model and its texts; another folder of that name must not be taken for it
    embedded = path == demo_folder().resolve()
    called = "demo" if embedded else path.name or "root"
    return ModelFolder("./demo" if called == "demo" and not embedded else called, path)


def _as_folder(name: str) -> Path | None:
    try:
        path = Path(name).expanduser().resolve()
        return path if name.strip() and path.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, a home folder that is not there
        return None


def open_folder(name: str, *, allow_download: bool = False) -> ModelFolder:
    """The folder that a name means, fetched from the hub when that is allowed.

    Raises:
        WorkbenchError: there is no such model here and a download is not allowed or fails.
    """
    found = find_folder(name)
    if found is not None:
        return found
    if allow_download:
        return download(name)
    offered = ", ".join(list(local_models())[:8])
    choices = f"'demo', one of the local models ({offered})" if offered else "'demo'"
    raise WorkbenchError(
        f"model {shown(name)} is not there; choose {choices} or a folder in Hugging Face format "
        "(a model of the hub is fetched only when downloads are allowed)"
    )


def download(name: str) -> ModelFolder:
    """Fetch configuration, safetensors and tokenizer of a hub model into the hub's own cache.

    Raises:
        WorkbenchError: not a hub id, or the hub does not give the model.
    """
    if not HUB_ID.fullmatch(name):
        raise WorkbenchError(f"model {shown(name)} is neither a folder nor a hub id such as 'owner/name'")
    from huggingface_hub import snapshot_download

    try:
        path = Path(snapshot_download(name, allow_patterns=list(DOWNLOADED)))
    except Exception as error:  # the hub client raises errors of several libraries without a common base
        raise WorkbenchError(f"model {shown(name)} could not be downloaded: {type(error).__name__}") from error
    return ModelFolder(name, path, path.name)


def cached_snapshot(name: str) -> Path | None:
    """The folder of an earlier download of a hub model, without asking the hub."""
    if not HUB_ID.fullmatch(name):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None
