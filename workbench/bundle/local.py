"""A spec as this machine asks it: the same model and the same texts may lie elsewhere here, or not at all.

What is not here gets a name that no file and no model of the hub can have, made of its own name and its digest, such
as `llama@0c1d2e3f4a5b`: two models of one name stay apart, and nothing that lies here is taken for either.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench import settings
from workbench.bundle.manifest import Study
from workbench.errors import WorkbenchError
from workbench.jobs.keys import TEXT_KEYS
from workbench.model.fingerprint import folder_digest
from workbench.model.folders import find_folder

HUB = "hub:"
DIGITS = 12
"""Digits of a digest in a name."""

LARGEST_TEXT = 2**31
Names = dict[str, str]


def local_spec(study: Study) -> dict[str, Any]:
    """The spec with the names that its model and its text files have on this machine."""
    model = _model(study.spec["model"], study.model)
    named = [key for key in TEXT_KEYS if isinstance(study.spec.get(key), str)]
    return {**study.spec, "model": model, **{key: _text(study.spec[key], study.texts.get(key), model) for key in named}}


def unknown_here(spec: dict[str, Any]) -> dict[str, Names]:
    """The model, when pages do not offer it by themselves, with the texts that go with it, as shown -> TEXT name."""
    model = spec["model"]
    if model == "demo" or model in settings.local_models():
        return {}
    named = ("calibration", "text")
    texts = {_last(spec[key]): spec[key] for key in named if isinstance(spec.get(key), str)}
    return {model: texts}


def _model(name: str, digest: str) -> str:
    """The name of the model with that digest here, or one that nothing here has."""
    if digest.startswith(HUB) and find_folder(name) is None:
        return name
    offered, short = settings.local_models(), _last(name)
    for candidate in (short if short in offered else None, name):
        if candidate is not None and _has_digest(candidate, digest):
            return candidate
    return f"{short}@{'hub' if digest.startswith(HUB) else digest[:DIGITS]}"


def _has_digest(name: str, digest: str) -> bool:
    found = find_folder(name)
    with suppress(WorkbenchError):  # a folder that is no model is not this model
        return found is not None and folder_digest(found.path) == digest
    return False


def _text(name: str, digest: str | None, model: str) -> str:
    """The path of the text with that sha256: where it was, or beside the model; else a name that no file has.

    Without a digest the text was no file where the study ran; it keeps its name unless a file here has it by chance.
    """
    folder, short = settings.local_models().get(model), _last(name)
    if digest is None:
        return name if not _is_text_file(Path(name)) else f"{short}@named"
    beside = [] if folder is None else [folder / short]
    for path in (*beside, Path(name)):
        if _is_text_file(path) and _sha256(path) == digest:
            return str(path)
    return f"{short}@{digest[:DIGITS]}"


def _is_text_file(path: Path) -> bool:
    """Whether it is a file of a text's size: the name comes from elsewhere and may be that of a device."""
    with suppress(OSError, ValueError):
        return path.is_file() and 0 < path.stat().st_size <= LARGEST_TEXT
    return False


def _sha256(path: Path) -> str | None:
    with suppress(OSError), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
    return None


def _last(name: str) -> str:
    """The last part of a path of any system."""
    return re.split(r"[\\/]", name.rstrip("\\/"))[-1] or name
