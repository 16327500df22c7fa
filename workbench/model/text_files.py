"""Where texts come from: files, and WikiText-2 by the package `datasets`. No torch here."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from workbench.errors import WorkbenchError, shown, unknown
from workbench.settings import demo_folder

MAX_BYTES = 64 * 2**20
DEMO_TEXTS = ("calibration", "evaluation")
COLLECTION = ".json"
"""Ending of a file that holds several documents: a JSON list of texts, or an object with such a list `documents`."""


def read_documents(name: str) -> tuple[str, ...]:
    """The documents of a TEXT name that is not one of the hub: `demo:calibration`, `demo:evaluation`, or a path.

    The demo's texts are split at empty lines; a file is one document, unless it is a JSON collection.

    Raises:
        WorkbenchError: no such text, unreadable, not UTF-8, too large, empty, or JSON that is no collection.
    """
    if name.startswith("demo:"):
        part = name.removeprefix("demo:")
        if part not in DEMO_TEXTS:
            raise unknown("text", name, [f"demo:{one}" for one in DEMO_TEXTS])
        return split(read_file(demo_folder() / f"{part}.txt", name))
    text = read_file(Path(name), name)
    return _collection(text, name) if name.endswith(COLLECTION) else (text,)


def split(text: str) -> tuple[str, ...]:
    """The parts of a text between its empty lines."""
    return tuple(one.strip() for one in text.split("\n\n") if one.strip())


def _collection(text: str, name: str) -> tuple[str, ...]:
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        held = None
    documents = held.get("documents") if isinstance(held, dict) else held
    whole = isinstance(documents, list) and all(isinstance(one, str) and one.strip() for one in documents)
    if not whole or not documents:
        raise WorkbenchError(
            f"text {shown(name)} is not a collection of documents; a .json file holds a list of texts, or an object "
            "with such a list named documents"
        )
    return tuple(documents)


def read_file(path: Path, name: str) -> str:
    """The text of a UTF-8 file; `name` is what messages call it.

    Raises:
        WorkbenchError: no such file, unreadable, not UTF-8, larger than 64 MiB or empty.
    """
    try:
        path = path.expanduser()
        if not path.is_file():
            raise WorkbenchError(
                f"text {shown(name)} is not there; choose demo:calibration, demo:evaluation, wikitext-2 or a UTF-8 file"
            )
        with path.open("rb") as stream:
            held = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:  # no permission, a name too long, a null byte, no home folder
        raise WorkbenchError(f"text {shown(name)} cannot be read: {type(error).__name__}") from error
    if len(held) > MAX_BYTES:
        raise WorkbenchError(f"text {shown(name)} is larger than {MAX_BYTES // 2**20} MiB")
    try:
        text = held.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkbenchError(f"text {shown(name)} is not UTF-8: byte {error.start} cannot be read") from error
    if not text.strip():
        raise WorkbenchError(f"text {shown(name)} is empty")
    return text


def read_wikitext(allow_download: bool) -> str:
    """The raw test split of WikiText-2, its lines joined by empty lines as the papers do.

    Raises:
        WorkbenchError: the package `datasets` is not installed, or the text is not to be had.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise WorkbenchError(
            "text 'wikitext-2' needs the package datasets; install the extra [hub], or give a file"
        ) from error
    offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = offline or not allow_download
    try:
        lines = datasets.load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1", split="test")["text"]
    except Exception as error:  # errors of several libraries; the usual one is: offline, and not in the cache
        raise WorkbenchError(
            f"text 'wikitext-2' could not be read: {type(error).__name__}; it is neither in the cache nor downloaded"
        ) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
    return "\n\n".join(lines)
