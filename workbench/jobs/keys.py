"""The key of a question: equal questions about equal files have equal keys, on every computer.

It names the folder of the result and joins jobs that ask for the same thing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError, shown
from workbench.jobs.store import canonical
from workbench.model.fingerprint import folder_digest
from workbench.model.folders import find_folder
from workbench.model.numbers import key_facts_of_numbers
from workbench.vocabulary import STUDY_VERSION

TEXT_KEYS = ("text", "text2", "calibration")
"""Keys of a spec that name texts, which may be files of the user."""


NOT_IN_KEYS = ("memory_limit",)
"""Keys of a spec that change how a question is answered, and not the answer."""


def study_key(kind: str, spec: Mapping[str, Any]) -> str:
    """sha256 over the kind, the spec, the contents of the model and of text files, and the version of the studies.

    A model of the hub stands for itself by its id, downloaded or not: the key that a job was queued under has to find
    its result after the worker has fetched the files.

    Raises:
        WorkbenchError: a folder is no model, a text file cannot be read, or the spec holds a number that JSON cannot.
    """
    return key_of(key_facts(kind, spec))


def key_facts(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a key is made of: `kind`, `spec`, `model` and `texts` as this machine has them, `version`.

    Raises:
        WorkbenchError: as `study_key`.
    """
    name = spec.get("model")
    return {
        "kind": kind,
        "spec": {key: value for key, value in spec.items() if key not in NOT_IN_KEYS},
        "model": _model(name) if isinstance(name, str) else None,
        **(_numbers(name) if isinstance(name, str) else {}),
        "texts": {key: _file_digest(spec[key]) for key in TEXT_KEYS if _is_file(spec.get(key))},
        "version": STUDY_VERSION,
    }


def key_of(facts: Mapping[str, Any]) -> str:
    """The key of those facts.

    Raises:
        WorkbenchError: they hold a number that JSON cannot.
    """
    return hashlib.sha256(canonical(facts).encode()).hexdigest()


def _model(name: str) -> str:
    found = find_folder(name)
    return folder_digest(found.path) if found is not None else f"hub:{name}"


def _numbers(name: str) -> dict[str, str]:
    found = find_folder(name)
    return key_facts_of_numbers(None if found is None else found.path)


def _is_file(name: object) -> bool:
    """Whether a TEXT names a file; `demo:evaluation` and `wikitext-2` are names of the program."""
    try:
        return isinstance(name, str) and Path(name).is_file()
    except (OSError, ValueError):  # a name too long for a path, or with a null byte
        return False


def _file_digest(name: str) -> str:
    try:
        with Path(name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WorkbenchError(f"the text file {shown(name)} cannot be read ({error.strerror})") from error
