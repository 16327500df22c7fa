"""Where texts come from: files, and WikiText-2 by the package `datasets`. No torch here."""

from __future__ import annotations

import importlib
from pathlib import Path

from workbench.errors import WorkbenchError, shown

MAX_BYTES = 64 * 2**20


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
